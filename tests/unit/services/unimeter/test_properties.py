"""Events with more properties than an event has attributes: they count, and can be asked for."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from unimeter import (
    AggType,
    AsyncClient,
    DimensionFilter,
    Event,
    MetricSchema,
    OperationType,
    Period,
)

from meterstream_schemas.checks import check_attributes
from tests.unit.services.unimeter.world import NOW, World

HERE = datetime.fromtimestamp(NOW / 1e6, UTC).replace(microsecond=0)
PERIOD = Period(HERE - timedelta(days=1), HERE + timedelta(days=1))
MANY = {f"k{number}": "v" * 63 for number in range(200)}


@pytest.mark.parametrize("tenant", [None, "acme"])
def test_more_properties_than_are_kept_refuse_no_event(tenant: str | None) -> None:
    """Filters work wherever the property stands; all properties make an event what it is."""
    world = World()
    at = HERE - timedelta(seconds=5)
    told = [
        Event(1, "m", 3, at, properties=MANY | {"region": "eu", "account": "x"}),
        Event(1, "m", 3, at, properties=MANY | {"region": "eu", "account": "x", "k199": "other"}),
        Event(1, "m", 40, at, properties=MANY | {"region": "us"}),
    ]

    async def program() -> None:
        async with world.serving(tenant) as [port], AsyncClient([port.address]) as client:
            filters = [DimensionFilter("region", ["eu", "us"])]
            await client.metrics.create(MetricSchema("m", AggType.SUM, filters=filters))
            first, again = await client.ingest(told), await client.ingest(told)
            assert (first.n_stored, first.n_duplicates) == (3, 0)
            assert (again.n_stored, again.n_duplicates) == (0, 3)
            for region, total in (("eu", 6), ("us", 40)):
                figure = await client.query(1, "m", PERIOD, filters={"region": region})
                assert figure.value.sum == total
            assert (await client.query(1, "m", PERIOD)).value.sum == 46

    asyncio.run(program())
    for offer in world.door.taken:
        attributes = dict(offer.attributes or {})
        check_attributes(attributes)
        assert attributes["region"] in {"eu", "us"}
        assert attributes["metric"] == "m"
        assert attributes["k0"] == "v" * 63
        assert (attributes.get("account") == "1") is (tenant is not None)


def test_unique_values_with_many_properties_are_counted() -> None:
    """The value and its operation are kept before any property."""
    world = World()

    async def program() -> None:
        async with world.serving() as [port], AsyncClient([port.address]) as client:
            await client.metrics.create(MetricSchema("seats", AggType.COUNT_UNIQUE))
            for value in (1, 2, 2):
                event = Event(1, "seats", value, None, OperationType.ADD, properties=MANY)
                assert (await client.ingest([event])).n_stored == 1
            assert (await client.query(1, "seats", PERIOD)).value.count == 2

    asyncio.run(program())


@pytest.mark.parametrize("count", [30, 31, 32, 33, 255])
@pytest.mark.parametrize("tenant", [None, "acme"])
def test_any_number_of_properties_is_taken(tenant: str | None, count: int) -> None:
    """Of a metric that nobody registered too; those that fit are kept."""
    world = World()

    async def program() -> None:
        async with world.serving(tenant) as [port], AsyncClient([port.address]) as client:
            properties = {f"k{number}": "v" for number in range(count)}
            assert (await client.ingest([Event(1, "m", 3, properties=properties)])).n_stored == 1

    asyncio.run(program())
    [offer] = world.door.taken
    assert min(count, 29) <= len(offer.attributes or {}) <= 32

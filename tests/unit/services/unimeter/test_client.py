"""The published client, unmodified, on ports over memory."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from unimeter import (
    AggType,
    AggValue,
    AlertThreshold,
    AlreadyExistsError,
    AsyncClient,
    BackpressureError,
    DeliveryMode,
    DimensionFilter,
    Event,
    MetricSchema,
    OperationType,
    Period,
    PeriodType,
    ServerError,
    current_month,
    last_month,
    today_utc,
)

from meterstream.compat.unimeter_catalogue import KIND
from meterstream_services.clients.unimeter import alerts, wire, wire_questions
from meterstream_services.clients.unimeter import connection as connections
from meterstream_services.gateway.port import Patience
from tests.unit.services.unimeter.world import NOW, World, raw, response

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from pathlib import Path

HERE = datetime.fromtimestamp(NOW / 1e6, UTC).replace(microsecond=0)
AROUND = Period(HERE - timedelta(days=2), HERE + timedelta(days=1))
"""Not the present day: that may have ended since these tests began."""


def run(coroutine: Coroutine[Any, Any, Any]) -> Any:  # noqa: ANN401 - whatever it returns
    """What a coroutine returns."""
    return asyncio.run(coroutine)


def test_the_documented_flow() -> None:
    """Metrics, events in both deliveries, queries, filters, realtime, list and delete."""
    world = World()

    async def program() -> None:
        async with world.serving() as [port], AsyncClient([port.address]) as client:
            await client.metrics.create(MetricSchema("api_calls", AggType.COUNT))
            filters = [DimensionFilter("provider", ["aws"]), DimensionFilter("region", ["eu"])]
            schema = MetricSchema("seconds", AggType.SUM, filters=filters)
            await client.metrics.create(schema)
            await client.metrics.update(schema)
            listed = await client.metrics.list()
            assert [(each.code, each.agg_type) for each in listed] == [
                ("api_calls", AggType.COUNT), ("seconds", AggType.SUM),
            ]  # fmt: skip
            stored = await client.ingest([Event(42, "api_calls") for _ in range(3)])
            assert (stored.n_stored, stored.n_duplicates, stored.last_offset) == (3, 0, 2)
            priced = [
                Event(42, "seconds", 45_000_000, properties={"provider": "aws", "region": "eu"}),
                Event(42, "seconds", 5, properties={"provider": "gcp"}),
                Event(43, "seconds", 7),
            ]
            stored = await client.ingest(priced, delivery=DeliveryMode.SYNC)
            assert stored.n_stored == 3
            calls = await client.query(42, "api_calls", current_month())
            assert calls.value == AggValue(count=3)
            month = current_month()
            whole = await client.query(42, "seconds", month)
            assert whole.value == AggValue(sum=45_000_005)
            assert (await client.query_realtime(42, "api_calls")).count == 3
            some = await client.query(42, "seconds", month, filters={"provider": "aws"})
            assert some.value.sum == 45_000_000
            both = {"provider": "aws", "region": "eu"}
            assert (await client.query(42, "seconds", month, filters=both)).value.sum == 45_000_000
            none = {"provider": "gcp", "region": "eu"}
            assert (await client.query(42, "seconds", month, filters=none)).value.sum == 0
            assert (await client.query(42, "seconds", last_month())).value.sum == 0
            await client.metrics.delete("api_calls")
            assert [each.code for each in await client.metrics.list()] == ["seconds"]

    run(program())


@pytest.mark.parametrize("tenant", [None, "acme"])
def test_every_aggregation_has_its_field(tenant: str | None) -> None:
    """As the vendor's server answers: only the field of the metric's aggregation is set."""
    world = World()
    operations = {"eu": OperationType.ADD, "us": OperationType.REMOVE}
    found: dict[AggType, AggValue] = {}

    async def program() -> None:
        async with world.serving(tenant) as [port], AsyncClient([port.address]) as client:
            for kind in AggType:
                filters = [DimensionFilter("region", [])]
                await client.metrics.create(MetricSchema(kind.name, kind, filters=filters))
                told = [(5, "eu"), (9, "eu"), (7, "eu"), (9, "us")]
                for place, (value, region) in enumerate(told):
                    operation = OperationType.NONE
                    if kind is AggType.COUNT_UNIQUE:
                        operation = operations[region]
                    at = HERE - timedelta(seconds=10 - place)
                    where = {"region": region}
                    await client.ingest(
                        [Event(1, kind.name, value, at, operation, properties=where)]
                    )
                await client.ingest([Event(2, kind.name, 1000)])
                found[kind] = (await client.query(1, kind.name, AROUND)).value
                by = await client.query_breakdown(1, kind.name, AROUND, group_by=["region"])
                eu = by[frozenset({("region", "eu")})]
                assert (eu.count, eu.sum, eu.max, eu.last_value) == {
                    AggType.COUNT: (3, 0, 0, 0), AggType.SUM: (0, 21, 0, 0),
                    AggType.MAX: (0, 0, 9, 0), AggType.LATEST: (0, 0, 0, 7),
                    AggType.COUNT_UNIQUE: (3, 0, 0, 0),
                }[kind]  # fmt: skip

    run(program())
    last = int((HERE - timedelta(seconds=7)).timestamp()) * 10**9
    assert found == {
        AggType.COUNT: AggValue(count=4),
        AggType.SUM: AggValue(sum=30),
        AggType.MAX: AggValue(max=9),
        AggType.LATEST: AggValue(last_value=9, last_timestamp=last),
        AggType.COUNT_UNIQUE: AggValue(count=2),
    }


def test_what_comes_again_counts_once_where_it_has_a_time() -> None:
    """A frame of timed events that comes again is all duplicates; equals within it count each."""
    world = World()
    at = HERE - timedelta(minutes=1)
    events = [Event(7, "calls", 1, at), Event(7, "calls", 1, at), Event(7, "calls", 2, at)]

    async def program() -> list[tuple[int, int]]:
        async with world.serving() as [port], AsyncClient([port.address]) as client:
            told = [await client.ingest(events) for _ in range(2)]
            told.append(await client.ingest([Event(7, "calls", 1), Event(7, "calls", 1)]))
            answer = await client.query(7, "calls", AROUND)
            assert answer.value.count == 5
            return [(each.n_stored, each.n_duplicates) for each in told]

    assert run(program()) == [(3, 0), (0, 3), (2, 0)]
    assert world.door.patience == [Patience.LOG, Patience.LOG, Patience.LOG_OR_SPOOL]


def test_an_operation_and_properties_tell_events_apart() -> None:
    """ADD and REMOVE of one seat at one moment are two events, unlike at the vendor's."""
    world = World()
    at = HERE - timedelta(minutes=1)
    events = [
        Event(7, "seats", 5, at, OperationType.ADD),
        Event(7, "seats", 5, at, OperationType.REMOVE),
        Event(7, "seats", 5, at, OperationType.ADD, properties={"team": "a"}),
    ]

    async def program() -> int:
        async with world.serving() as [port], AsyncClient([port.address]) as client:
            return int((await client.ingest(events)).n_stored)

    assert run(program()) == 3


def test_a_bad_event_never_spoils_its_neighbours() -> None:
    """What can never be counted is left out; of nothing but such events it is an error."""
    world = World()
    bad = [Event(1, "", 1), Event(1, "calls", 2**64 - 1)]

    async def program() -> None:
        async with world.serving() as [port], AsyncClient([port.address]) as client:
            told = await client.ingest([Event(1, "calls", 3), *bad])
            assert told.n_stored == 1
            with pytest.raises(ServerError):
                await client.ingest(bad)

    run(program())


def test_more_than_the_vendors_1024_events_are_taken() -> None:
    """A request of 3,000 events with properties is stored whole."""
    world = World()

    async def program() -> int:
        async with world.serving() as [port], AsyncClient([port.address]) as client:
            events = [Event(n % 3, "calls", properties={"n": str(n % 5)}) for n in range(3000)]
            return int((await client.ingest(events)).n_stored)

    world.door.counts = False  # Counting 3,000 events one by one is not what this is about.
    assert run(program()) == 3000


def test_a_log_that_is_away_is_backpressure() -> None:
    """The client's own error, so that its caller comes again; and success by the spool's word."""
    world = World()

    async def program() -> int:
        async with world.serving() as [port], AsyncClient([port.address]) as client:
            world.door.away = True
            with pytest.raises(BackpressureError):
                await client.ingest([Event(1, "calls")])
            world.door.away, world.door.spooled = False, True
            return int((await client.ingest([Event(1, "calls")])).n_stored)

    assert run(program()) == 1


def test_metrics_that_cannot_be_are_refused() -> None:
    """A day that not every month has, and no code; and questions that have no answer."""
    world = World()

    async def program() -> None:
        async with world.serving() as [port], AsyncClient([port.address]) as client:
            for schema in (
                MetricSchema("m", AggType.COUNT, billing_cycle_day=29),
                MetricSchema("", AggType.COUNT),
            ):
                with pytest.raises(AlreadyExistsError):
                    await client.metrics.create(schema)
            with pytest.raises(ServerError):
                await client.query_breakdown(1, "nobody", today_utc(), group_by=["region"])
            with pytest.raises(ServerError):
                await client.query(1, "nobody", Period(HERE, HERE - timedelta(days=1)))

    run(program())


def test_definitions_are_written_for_the_workers(tmp_path: Path) -> None:
    """The file has the metrics of ports without a tenant, and follows each change."""
    world, file = World(), tmp_path / "unimeter.json"

    async def program() -> None:
        async with (
            world.serving(None, "acme", definitions=file) as [mine, other],
            AsyncClient([mine.address]) as client,
            AsyncClient([other.address]) as stranger,
        ):
            await client.metrics.create(MetricSchema("mine", AggType.COUNT))
            await stranger.metrics.create(MetricSchema("other", AggType.COUNT))
            assert list(json.loads(file.read_text())[KIND]) == ["mine"]
            await client.metrics.delete("mine")
            assert json.loads(file.read_text()) == {KIND: {}}

    run(program())


def test_two_tenants_see_nothing_of_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """Equal accounts and metrics on two ports: figures, metrics, events and alerts are apart."""
    monkeypatch.setattr(alerts, "LOOK_SECONDS", 0.0)
    world = World()
    watched = MetricSchema(
        "calls", AggType.COUNT, thresholds=[AlertThreshold("soft", 2)], period_type=PeriodType.DAY
    )

    async def program() -> None:
        async with (
            world.serving("acme", "globex") as [one, other],
            AsyncClient([one.address]) as acme,
            AsyncClient([other.address]) as globex,
        ):
            await acme.metrics.create(watched)
            assert await globex.metrics.list() == []
            await acme.ingest([Event(42, "calls") for _ in range(2)])
            await globex.ingest([Event(42, "calls")])
            assert (await acme.query(42, "calls", AROUND)).value == AggValue(count=2, alert_flags=1)
            assert (await acme.query(43, "calls", AROUND)).value.count == 0
            assert (await globex.query(42, "calls", AROUND)).value.count == 1
            [alert] = await acme.list_alerts(42)
            assert (alert.account_id, alert.threshold_code, alert.log_offset) == (42, "soft", 1)
            assert await globex.list_alerts(0) == await acme.list_alerts(43) == []
            span = wire_questions.encode_span(42, 0, NOW * 2000)
            for port, expected in ((one, 2), (other, 1)):
                reader, writer = await raw(port.address)
                writer.write(wire.encode_request(wire.Op.EVENTS_LIST, span, 1))
                _, rows = await response(reader)
                assert len(wire_questions.decode_logged(rows)) == expected
                writer.close()

    run(program())
    assert {(offer.tenant, offer.subject) for offer in world.door.taken} == {
        ("acme", "42"), ("globex", "42"),
    }  # fmt: skip


def test_alerts_are_pushed_once_and_keep_their_offsets(monkeypatch: pytest.MonkeyPatch) -> None:
    """A threshold of the document's 30-day metric reaches its subscriber; so does the catch-up."""
    monkeypatch.setattr(alerts, "LOOK_SECONDS", 0.02)
    world = World()
    thresholds = [AlertThreshold("soft", 2), AlertThreshold("hard", 4)]
    watched = MetricSchema("calls", AggType.COUNT, thresholds=thresholds)

    async def program() -> None:
        async with world.serving() as [port], AsyncClient([port.address]) as client:
            await client.metrics.create(watched)
            subscription = await client.alerts.subscribe(account_ids=[42])
            await client.ingest([Event(42, "calls") for _ in range(3)])
            async with asyncio.timeout(10):
                soft = await anext(subscription)
            assert (soft.metric_code, soft.threshold_code, soft.value_at_cross) == (
                "calls", "soft", 3,
            )  # fmt: skip
            await client.ingest([Event(42, "calls"), Event(43, "calls")])
            async with asyncio.timeout(10):
                hard = await anext(subscription)
            assert (hard.threshold_code, hard.log_offset) == ("hard", soft.log_offset + 1)
            offsets = subscription.offsets()
            await subscription.close()
        # As a process that starts again over the same book.
        async with world.serving() as [port], AsyncClient([port.address]) as client:
            again = await client.list_alerts(42)
            assert [(each.log_offset, each.threshold_code) for each in again] == [
                (1, "soft"), (2, "hard"),
            ]  # fmt: skip
            assert await client.list_alerts(42, since_offset=max(offsets.values())) == []

    run(program())


def test_a_port_that_closes_answers_what_is_under_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests that were read are answered before the connection ends."""
    monkeypatch.setattr(connections, "WRITE_SECONDS", 5.0)
    world = World()
    slow = asyncio.Event()
    take = world.door.take

    async def late(offers: Any, patience: Patience = Patience.LOG) -> Any:  # noqa: ANN401 - the door's own
        slow.set()
        await asyncio.sleep(0.2)
        return await take(offers, patience)

    monkeypatch.setattr(world.door, "take", late)

    async def program() -> int:
        async with world.serving() as [port]:
            client = AsyncClient([port.address])
            await client.connect()
            call = asyncio.create_task(client.ingest([Event(1, "calls")]))
            await slow.wait()
        told = await call
        await client.close()
        return int(told.n_stored)

    assert run(program()) == 1

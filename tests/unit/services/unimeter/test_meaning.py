"""What frames mean: the same as `meterstream.compat.unimeter` records; keys; limits of memory."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meterstream.compat import unimeter
from meterstream.compat.unimeter_values import (
    AggType,
    DimensionFilter,
    Event,
    MetricSchema,
    OperationType,
)
from meterstream_services.clients.unimeter import meaning, wire
from meterstream_services.clients.unimeter.meaning import Known, Meaning, Told
from meterstream_services.clients.unimeter.wire import EventRow

AT = 1_776_384_000_000_000_000
KNOWN: Known = {
    "sum": MetricSchema("sum", AggType.SUM, filters=[DimensionFilter("region", [])]),
    "seats": MetricSchema("seats", AggType.COUNT_UNIQUE, filters=[DimensionFilter("value", [])]),
}
names = st.sampled_from(["region", "value", "metric", "account", "dimensions", "other"])


def told_of(*events: Event, tenant: str | None = None, at: int = AT, known: Known = KNOWN) -> Told:
    """What a frame of these events becomes."""
    frame = [
        (
            EventRow(
                wire.padded(each.metric_code, 64), int(each.account_id), at, int(each.value),
                each.operation_type, 0,
            ),
            each.properties,
        )
        for each in events
    ]  # fmt: skip
    return Meaning(tenant).offers(*wire.event_rows(wire.encode_events(frame)), known)


@given(
    code=st.sampled_from(["sum", "seats", "nobody"]),
    value=st.integers(0, 2**63 - 1),
    operation=st.sampled_from(list(OperationType)),
    properties=st.dictionaries(names, st.text("ab=&é", min_size=1, max_size=9), max_size=4),
)
def test_a_frame_means_what_the_import_records(
    code: str, value: int, operation: OperationType, properties: dict[str, str]
) -> None:
    """Tenant, quantity, time and attributes are those of `meterstream.compat.unimeter`."""
    at = datetime.fromtimestamp(AT // 10**9, UTC)
    event = Event(42, code, value, at, operation, properties=properties)

    recorded = unimeter.AsyncClient()._record(event, KNOWN)

    [offer] = told_of(event).offers
    assert (offer.type, offer.tenant, offer.subject) == ("unimeter.event", "42", None)
    assert (offer.quantity, offer.time) == (recorded["quantity"], recorded["time"])
    assert offer.attributes == recorded["attributes"]


def test_a_port_of_a_tenant_moves_a_property_called_account() -> None:
    """The account has that name; the property stays askable by its own, among the dimensions."""
    event = Event(42, "nobody", properties={"account": "theirs"})

    [offer] = told_of(event, tenant="acme").offers

    assert (offer.type, offer.tenant, offer.subject) == ("unimeter.account_event", "acme", "42")
    assert offer.attributes == {
        "account": "42", "property.account": "theirs", "metric": "nobody",
        "dimensions": "account=theirs",
    }  # fmt: skip


def test_keys_are_of_every_fact_and_of_the_place_among_equals() -> None:
    """Another account, time, value, operation, metric or property is another key."""
    base = Event(1, "sum", 5, properties={"region": "eu"})
    others = [
        Event(2, "sum", 5, properties={"region": "eu"}),
        Event(1, "sum", 6, properties={"region": "eu"}),
        Event(1, "sum", 5, properties={"region": "us"}),
        Event(1, "sum", 5, properties={"other": "eu"}),
        Event(1, "sum2", 5, properties={"region": "eu"}),
        Event(1, "sum", 5, operation_type=OperationType.ADD, properties={"region": "eu"}),
    ]

    keys = [offer.key for offer in told_of(base, base, *others, base).offers]
    later = [offer.key for offer in told_of(base, at=AT + 1).offers]

    assert len({*keys, *later}) == len(keys) + 1
    assert [offer.key for offer in told_of(base, base, *others, base).offers] == keys
    turned = Event(1, "sum", 5, properties={"other": "x", "region": "eu"})
    same = Event(1, "sum", 5, properties={"region": "eu", "other": "x"})
    assert told_of(turned).offers[0].key == told_of(same).offers[0].key


def test_times_are_the_nearest_microsecond() -> None:
    """The published client makes nanoseconds of a float: they lie up to 128 beside the time."""
    [early], [late] = (told_of(Event(1, "sum"), at=AT + n).offers for n in (-128, 128))

    assert early.time == late.time == AT // 1000
    assert told_of(Event(1, "sum"), at=0).offers[0].time is None
    assert told_of(Event(1, "sum"), at=-1).refused == 1


def test_what_is_known_decides_at_once() -> None:
    """A metric that is registered meanwhile changes what the next frame means."""
    speaking, event = Meaning(None), EventRow(wire.padded("m", 64), 1, 0, 1, 0, 0)
    rows, properties = wire.event_rows(wire.encode_events([(event, {"region": "eu"})]))

    before = speaking.offers(rows, properties, {})
    after = speaking.offers(rows, properties, {"m": MetricSchema("m", AggType.SUM)})

    assert (before.is_known, after.is_known) == (False, True)
    assert before.offers[0].attributes != after.offers[0].attributes
    assert not after.is_keyed


def test_endless_properties_do_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kinds of events are forgotten beyond a bound, and mean the same again."""
    monkeypatch.setattr(meaning, "SHAPES_MAX", 10)
    speaking = Meaning(None)
    for number in range(100):
        row = EventRow(wire.padded("m", 64), 1, 0, 1, 0, 0)
        frame = wire.encode_events([(row, {"request": str(number)})])
        [offer] = speaking.offers(*wire.event_rows(frame), KNOWN).offers
        assert (offer.attributes or {})["request"] == str(number)
    assert len(speaking._shapes) <= 12


def test_dimensions_that_nobody_could_ask_for_are_refused() -> None:
    """An event whose declared filters are longer than a question, and not its neighbours."""
    keys = [f"key{number:02}" for number in range(30)]
    schema = MetricSchema("m", AggType.SUM, filters=[DimensionFilter(key, []) for key in keys])
    long = Event(1, "m", properties=dict.fromkeys(keys, "é" * 30))

    told = told_of(long, Event(1, "m", 7), known={"m": schema})

    assert (told.refused, [offer.quantity for offer in told.offers]) == (1, [7])

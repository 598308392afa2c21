"""Usage counted by columns is usage counted plainly: limits, voids, wide sums, kept items."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meterstream_aggregator import packing
from meterstream_aggregator.batch import LogRecord, batch_of_records
from meterstream_aggregator.catalogue import HOUR, MINUTE
from meterstream_aggregator.catalogue_file import parse_catalogue
from meterstream_aggregator.changes import OVERFLOW
from meterstream_aggregator.columnar import fold_columns
from meterstream_aggregator.fold import fold
from meterstream_aggregator.state import Readings
from meterstream_schemas.events import EventKind
from tests.unit.aggregator.making import (
    NOW,
    PRODUCER,
    SINCE,
    by_columns,
    comparable,
    event,
    known,
    logged,
    plainly,
    reaching,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from meterstream_aggregator.changes import Changes
    from meterstream_schemas.events import MeterEvent

ROUTES = ("a", "b", "c", "d", OVERFLOW)


@st.composite
def crowds(draw: st.DrawFn) -> list[LogRecord]:
    """Many events of one type and few tenants, more groups than limits; some are taken back."""
    of_type = draw(st.sampled_from(("pay", "pay", "seat", "gauge", "plan")))
    said: list[MeterEvent] = []
    for n in range(draw(st.integers(1, 30))):
        back = [one for one in said if one.key is not None]
        if back and draw(st.integers(0, 3)) == 0:
            said.append(draw(st.sampled_from(back))._replace(kind=EventKind.VOID))
            continue
        attributes = {
            "route": draw(st.sampled_from(ROUTES)),
            "status": draw(st.sampled_from(("200", "500", "remove"))),
        }
        if draw(st.booleans()):
            attributes["bytes"] = draw(st.sampled_from(("1", "-0.5", str(2**63 - 1))))
        made = event(
            type=of_type,
            tenant=draw(st.sampled_from(("acme", "acme", "b"))),
            time=NOW - draw(st.sampled_from((0, 0, 1, 2, MINUTE, 25 * HOUR, 26 * HOUR, 90 * HOUR))),
            quantity=draw(st.sampled_from((1, -1, 5, 2**63 - 1, -(2**63)))),
            subject=draw(st.sampled_from((None, "u", "v"))),
            attributes=attributes,
            producer=draw(st.sampled_from(("", "p", PRODUCER))),
            sequence=draw(st.integers(1, 3)) * 100 + n,
            key=draw(st.sampled_from((None, f"k{n}"))),
        )
        said.append(made)
    step = draw(st.sampled_from((1, MINUTE, HOUR)))
    records = logged(said)
    return [one._replace(append_time=NOW + n * step) for n, one in enumerate(records)]


@settings(max_examples=150)
@given(crowds())
def test_a_crowd_is_counted_alike(records: list[LogRecord]) -> None:
    """Series over the limit, kept items, late and voided events: both folds give the same."""
    plain, plain_state = plainly(records, known())

    fast, fast_state = by_columns(records, known())

    assert comparable(fast) == comparable(plain)
    owners = {series for delta in plain.usage for series in delta.series}
    assert owners == {series for delta in fast.usage for series in delta.series}
    assert plain_state.keys == fast_state.keys


def _readings(fields: str) -> Readings:
    return Readings(parse_catalogue(f"meters: [{{name: api, {fields}}}]"))


def _both(said: Sequence[MeterEvent], readings: Readings) -> Changes:
    """What both folds make of events that none of them may refuse."""
    records = logged(said)
    fast = fold_columns(batch_of_records(records), reaching(known(), records), readings)
    plain = fold(records, reaching(known(), records), readings)
    assert comparable(fast) == comparable(plain)
    assert not fast.dead_letters
    return fast


def test_the_first_groups_in_the_log_have_series() -> None:
    """Later groups share one; those that have a series keep it."""
    readings = _readings("aggregate: sum, group_by: [route], limits: {series_per_tenant: 2}")
    said = [event(attributes={"route": route}) for route in "xyzxwz"]
    said += [event(tenant="b", attributes={"route": "z"})]

    [delta] = _both(said, readings).usage

    assert {(key.series.tenant, key.series.group): row for key, row in delta.rows().items()} == {
        ("acme", ("x",)): (2, 2),
        ("acme", ("y",)): (1, 1),
        ("acme", (OVERFLOW,)): (3, 3),
        ("b", ("z",)): (1, 1),
    }


def test_a_series_stays_admitted() -> None:
    """What has a series keeps it in later batches, whatever else comes."""
    readings = _readings("aggregate: count, group_by: [route], limits: {series_per_tenant: 2}")
    state, groups = known(), []
    for routes in ("xy", "xzy", "z"):
        records = logged([event(attributes={"route": route}) for route in routes])
        changes = fold_columns(batch_of_records(records), state, readings)
        groups.append([series.group[0] for delta in changes.usage for series in delta.series])

    assert groups == [["x", "y"], ["x", OVERFLOW, "y"], [OVERFLOW]]


def test_a_void_takes_its_event_out() -> None:
    """In the void's own arrival: what was closed stays, and the total is what it was before."""
    readings = _readings("aggregate: sum, grace: 0s")
    said = event(quantity=5, key="k")
    records = logged([said, said._replace(kind=EventKind.VOID)])
    records[1] = records[1]._replace(append_time=NOW + HOUR)

    changes = fold_columns(batch_of_records(records), reaching(known(), records), readings)

    in_time, late = changes.usage
    assert (in_time.arrival, list(in_time.rows().values())) == (0, [(1, 5)])
    assert (late.arrival, list(late.rows().values())) == (NOW + HOUR, [(-1, -5)])


@pytest.mark.parametrize("quantity", [3, -(2**62), 2**63 - 1])
def test_moments_are_exact(quantity: int) -> None:
    """A gauge's changes have their first moment beside them, beyond 64 bits too."""
    readings = _readings("aggregate: time_weighted, samples: changes, window: 1h")
    inside = (0, 1, HOUR - 1)
    said = [event(time=NOW + at, quantity=quantity) for at in inside]

    changes, moments = _both(said, readings).usage

    [(key, row)] = changes.rows().items()
    [(moment, told)] = moments.rows().items()
    assert (key.scale, row) == (0, (3, 3 * quantity))
    assert (moment.scale, told) == (32, (0, quantity * sum(inside)))


def test_the_greatest_event_stands() -> None:
    """Of one instant the higher number stands, then the later producer by name."""
    readings = _readings("aggregate: latest")
    marks = [("a", 2), ("b", 1), ("b", 2), ("a", 1)]
    for order in itertools.permutations(marks):
        said = [event(producer=name, sequence=at, quantity=at) for name, at in order]

        [item] = _both(said, readings).items.values()

        assert (item.producer, item.sequence) == ("b", 2)


def test_anonymous_events_stand_by_position() -> None:
    """Without numbers the later in the log stands."""
    said = [event(quantity=n) for n in range(3)]

    [item] = _both(said, _readings("aggregate: latest")).items.values()

    assert (item.offset, item.quantity) == (2, 2)


def test_unique_texts_are_added_and_removed() -> None:
    """One item per text, absent texts are not counted, and an operation may take one out."""
    readings = _readings("aggregate: unique, value: attributes.user, operation: attributes.do")
    said: list[dict[str, str]] = [
        {"user": "u"}, {"user": "v"}, {}, {"user": "u", "do": "remove"}, {"user": "v", "do": "add"},
    ]  # fmt: skip

    changes = _both([event(attributes=one) for one in said], readings)

    assert {key.item: item.quantity for key, item in changes.items.items()} == {"u": 0, "v": 1}
    assert [row for delta in changes.usage for row in delta.rows().values()] == [(4, 0)]


def test_samples_are_items_by_their_place_in_the_window() -> None:
    """Ten digits wide, so that their order as texts is their order in time."""
    readings = _readings("aggregate: time_weighted, window: 1h")
    said = [event(time=NOW + at, quantity=7) for at in (0, 5, HOUR - 1, HOUR)]

    changes = _both(said, readings)

    start = NOW - NOW % HOUR
    assert sorted((key.start - start, key.item) for key in changes.items) == [
        (0, "0000000000"), (0, "0000000005"), (0, "3599999999"), (HOUR, "0000000000"),
    ]  # fmt: skip


CONDITIONS: dict[str, set[Any]] = {
    "where: {do: [a]}": {"a"},
    "where: {do: {not_in: [a]}}": {"b", "", None},
    "where: {do: {exists: true}}": {"a", "b", ""},
    "where: {do: {exists: false}}": {None},
}


@pytest.mark.parametrize("where", CONDITIONS)
def test_conditions_are_kept(where: str) -> None:
    """Each kind of condition keeps the same events in both folds."""
    values = ("a", "b", "", None)
    for wanted in values:
        said = [event(attributes={} if wanted is None else {"do": wanted})]

        changes = _both(said, _readings(f"aggregate: count, {where}"))

        assert bool(changes.usage) == (wanted in CONDITIONS[where])


def test_definitions_divide_time() -> None:
    """An event is counted by the definition of its time alone; before the first it is refused."""
    readings = Readings(
        parse_catalogue(
            """meters:
  - {name: api, aggregate: sum, from: 2026-01-02T00:00:00Z}
  - {name: api, aggregate: count, from: 2026-01-03T00:00:00Z}"""
        )
    )
    edges = (SINCE + 48 * HOUR - 1, SINCE + 48 * HOUR)

    found = _both([event(time=at) for at in edges], readings)

    first, second = (meter.version for meter in readings.usage_meters)
    assert [(key.series.version, key.start % HOUR) for d in found.usage for key in d.rows()] == [
        (first, 45 * MINUTE), (second, 0),
    ]  # fmt: skip
    early = logged([event(time=SINCE + 24 * HOUR - 1)])
    changes = fold_columns(batch_of_records(early), reaching(known(), early), readings)
    assert comparable(changes) == comparable(fold(early, reaching(known(), early), readings))
    assert changes.tallies[0].refused == 1


def test_series_stand_once_where_their_codes_have_no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """Codes of series together with windows do not leave the rows of a series side by side."""
    monkeypatch.setattr(packing, "_PACKED_MAX", 2)
    said = [
        event(tenant=tenant, time=NOW - ago, scale=scale)
        for tenant, ago, scale in [("a", 0, 1), ("b", 0, 0), ("a", HOUR, 1), ("b", HOUR, 2)]
    ]

    changes = _both(said, _readings("type: api, aggregate: sum, unit: unit"))

    [delta] = changes.usage
    assert sorted(series.tenant for series in delta.series) == ["a", "b"]
    assert len(delta.events) == len(said)

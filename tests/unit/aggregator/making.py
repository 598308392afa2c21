"""What the aggregator's tests make: catalogues, events, states, and events that nobody wants."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

from hypothesis import strategies as st

from meterstream_aggregator.batch import LogRecord, appended_after, batch_of_records
from meterstream_aggregator.catalogue import DAY, HOUR, MINUTE
from meterstream_aggregator.catalogue_file import parse_catalogue
from meterstream_aggregator.changes import Changes
from meterstream_aggregator.columnar import fold_columns
from meterstream_aggregator.dedup import PRODUCER_HORIZON, Numbers, pack
from meterstream_aggregator.fold import fold
from meterstream_aggregator.refusals import SESSION_KINDS
from meterstream_aggregator.state import Readings, State
from meterstream_aggregator.store.rows import sessions_of
from meterstream_schemas.events import EventKind, MeterEvent

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SINCE = 1_767_225_600_000_000
"""2026-01-01T00:00:00Z, when metering begins."""
NOW = SINCE + 100 * HOUR
CATALOGUE = parse_catalogue("""
metering_since: 2026-01-01T00:00:00Z
meters:
  - {name: calls, type: api, aggregate: count, group_by: [route, status], window: 1m}
  - {name: errors, type: api, aggregate: count, where: {status: ["500", ""]}}
  - {name: bytes, type: api, aggregate: sum, value: attributes.bytes, group_by: [route]}
  - {name: least, type: api, aggregate: min, value: attributes.bytes, window: 1h}
  - {name: most, type: api, aggregate: max, value: attributes.bytes}
  - {name: credit, aggregate: sum, window: 30m}
  - {name: credit.least, type: credit, aggregate: min}
  - {name: credit.most, type: credit, aggregate: max, group_by: [route]}
  - {name: run, aggregate: session, group_by: [route], timeout: 30m}
  - {name: run.prod, type: run, aggregate: session, where: {route: [/pay]}, window: 1h,
     timeout: 45m, timeout_bills: timeout}
  - {name: run.steps, type: run, aggregate: sum}
  - {name: call, aggregate: session, window: 1m}
  - {name: seats, type: seat, aggregate: unique, value: subject, operation: attributes.status,
     group_by: [route], limits: {series_per_tenant: 2}}
  - {name: seat.routes, type: seat, aggregate: unique, value: attributes.route, window: 1h,
     where: {status: {exists: true}}}
  - {name: seat.last, type: seat, aggregate: latest}
  - {name: level, type: gauge, aggregate: time_weighted, value: attributes.bytes, window: 1m}
  - {name: level.last, type: gauge, aggregate: latest, value: attributes.bytes, group_by: [route]}
  - {name: pay, aggregate: sum, group_by: [route], limits: {series_per_tenant: 2}, grace: 0s}
  - {name: pay.count, type: pay, aggregate: count, group_by: [route, status],
     where: {status: {not_in: ["500", "remove"]}}, limits: {series_per_tenant: 3}}
  - {name: pay.mean, type: pay, aggregate: average, value: attributes.bytes}
  - {name: pay.flow, type: pay, aggregate: time_weighted, samples: changes, window: 1h,
     where: {bytes: {exists: false}}}
  - {name: plan, aggregate: sum, from: 2026-01-02T00:00:00Z}
  - {name: plan, aggregate: sum, from: 2026-01-05T03:00:00Z, group_by: [route], grace: 1h}
  - {name: plan.early, type: plan, aggregate: count, from: 2026-01-01T02:00:00Z}
""")
READINGS = Readings(CATALOGUE)
PRODUCER = "a" * 32


def event(**changes: object) -> MeterEvent:
    """A good USAGE event of type ``api`` that carries no number."""
    plain = MeterEvent(
        kind=EventKind.USAGE,
        tenant="acme",
        type="api",
        time=NOW,
        quantity=1,
        scale=0,
        session=None,
        subject=None,
        attributes={},
        producer="",
        lane=0,
        sequence=0,
        key=None,
    )
    return plain._replace(**changes)  # type: ignore[arg-type] # a test may say anything


def numbered(sequence: int, **changes: object) -> MeterEvent:
    """A good event under a number of `PRODUCER`."""
    return event(**{"producer": PRODUCER, "lane": 3, "sequence": sequence} | changes)


def boundary(kind: str, time: int, **changes: object) -> MeterEvent:
    """A session boundary of type ``run``: ``kind`` is START, HEARTBEAT or END."""
    fields = {"type": "run", "session": "s1", "quantity": 0, "time": time}
    return event(**fields | {"kind": EventKind(f"SESSION_{kind}")} | changes)


def logged(events: Sequence[MeterEvent], *, partition: int = 0, at: int = NOW) -> list[LogRecord]:
    """Events at offsets 0, 1, 2 ... and one millisecond apart."""
    return [LogRecord(partition, n, at + n * 1000, each) for n, each in enumerate(events)]


def known(partitions: int = 4) -> State:
    """A state in which nothing was folded yet."""
    appended = dict.fromkeys(range(partitions), 0)
    return State(before=appended, after=dict(appended), numbers={})


def reaching(state: State, records: Sequence[LogRecord]) -> State:
    """A copy of the state, about to see these records."""
    batch = batch_of_records(records)
    after = appended_after(state.before, batch.partition, batch.append_time)
    return State(
        before=state.before,
        after=after,
        numbers=copy.deepcopy(state.numbers),
        refused=set(state.refused),
        keys=dict(state.keys),
        sessions=dict(state.sessions),
        subjects=dict(state.subjects),
        due=state.due,
        series=copy.deepcopy(state.series),
    )


def by_columns(records: Sequence[LogRecord], state: State) -> tuple[Changes, State]:
    """The columnar fold over a copy of the state, and that copy."""
    mine = reaching(state, records)
    return fold_columns(batch_of_records(records), mine, READINGS), mine


def plainly(records: Sequence[LogRecord], state: State) -> tuple[Changes, State]:
    """The plain fold over a copy of the state, and that copy."""
    mine = reaching(state, records)
    return fold(records, mine, READINGS), mine


def comparable(changes: Changes) -> dict[str, Any]:
    """Changes as values that compare: usage as rows, numbers in their stored form."""
    usage: dict[Any, Any] = {}
    for delta in changes.usage:
        assert len(set(delta.series)) == len(delta.series), "a series was told twice"
        assert len(delta.rows()) == len(delta.index), "a row was told twice"
        assert not usage.keys() & delta.rows().keys(), "a row was told twice"
        usage.update(delta.rows())
    return {
        "usage": usage,
        "items": changes.items,
        "places": changes.places,
        "presences": changes.presences,
        "numbers": {key: comparable_numbers(numbers) for key, numbers in changes.numbers.items()},
        "refused": changes.refused,
        "sessions": dict(sessions_of(changes)),
        "subjects": changes.subjects,
        "keys": changes.keys,
        "dead_letters": changes.dead_letters,
        "tallies": {p: tally for p, tally in changes.tallies.items() if tally != type(tally)()},
    }


def comparable_numbers(numbers: Numbers) -> tuple[Any, ...]:
    """Numbers in their stored form, with their counters."""
    counters = (numbers.counted, numbers.duplicates, numbers.refusals)
    return pack(numbers), numbers.closed, counters, numbers.last_append


def _texts(*usual: str) -> st.SearchStrategy[str]:
    odd = (
        "",
        " ",
        "\x00",
        "a\x1fb",
        "é",
        "株式会社",
        "\u2028",
        "x" * 64,
        "x" * 129,
        "\x7f",
        "🦀" * 40,
    )
    return st.sampled_from((*usual, *usual, *usual, *odd)) | st.text(
        st.characters(exclude_categories=["Cs"]), max_size=6
    )


INTEGERS = st.sampled_from(
    (-(2**63), 2**63 - 1, -1, 0, 1, 2**62, -(2**31), 2**53 + 1)
) | st.integers(-(2**63), 2**63 - 1)
AMOUNTS = st.sampled_from(
    (
        "", "0", "1", "-3", "+7", "1.50", ".5", "7.", "1e3", "1e19", "NaN", "inf", "1_000", "٣",
        " 1", "007", "-0", "9223372036854775807", "9223372036854775808", "-9223372036854775808",
        "999999999999999999", "1000000000000000000", "0.000000000000000001", "--1", "1\n", "0x10",
        "0.0000000000000000001",
    )
)  # fmt: skip
_EDGES = (NOW - 1, NOW + MINUTE, NOW + HOUR, NOW + HOUR + 1, SINCE, SINCE - 1, 0, -1)
_FAR = (253_402_300_800_000_000, 2**63 - 1, -(2**63))
TIMES = st.sampled_from((NOW, NOW, NOW, *_EDGES, *_FAR)) | st.integers(SINCE, NOW + HOUR + 2)
_STEPS = (0, 0, 1000, 90_000_000, MINUTE, HOUR, 40 * DAY, PRODUCER_HORIZON + 1)
"""How far the log's time goes on from one record to the next."""
_LIKELY_KINDS = (
    *(EventKind.USAGE,) * 6,
    EventKind.SESSION_START,
    EventKind.SESSION_HEARTBEAT,
    EventKind.SESSION_END,
    EventKind.MARK,
)
_LIKELY_TIMES = (0, 0, 1, -1, 61_000_000, -HOUR, -30 * HOUR, -98 * HOUR - 1, -99 * HOUR, HOUR)
_LIKELY_ATTRIBUTES = {
    "route": ("/", "/pay", "", "/a", "/b"),
    "status": ("200", "500", "remove"),
    "bytes": ("1", "2.50", "-7", "9223372036854775807"),
    "closing": ("true", "false"),
}
ATTRIBUTES: st.SearchStrategy[Mapping[str, str]] = st.fixed_dictionaries(
    {},
    optional={
        "bytes": AMOUNTS,
        "route": _texts("/", "/pay"),
        "status": _texts("200", "500", "remove"),
        "closing": st.sampled_from(("true", "false")),
        "": _texts("x"),
    },
)


@st.composite
def nasty_events(draw: st.DrawFn) -> MeterEvent:
    """Any event that a decoder may hand over; good ones are not rare."""
    foreign = draw(st.booleans())
    return MeterEvent(
        kind=draw(st.sampled_from((EventKind.USAGE,) * 5 + tuple(EventKind))),
        tenant=draw(_texts("acme", "b", "Ünï")),
        type=draw(_texts("api", "credit", "run", "call", "seat", "gauge", "pay", "pay", "plan")),
        time=draw(TIMES),
        quantity=draw(INTEGERS),
        scale=draw(st.sampled_from((0, 0, 0, 1, 6, 18, 19, -1, 2**31 - 1, -(2**31), 99))),
        session=draw(st.none() | _texts("s1", "s2")),
        subject=draw(st.none() | _texts("u1")),
        attributes=draw(ATTRIBUTES),
        producer="" if foreign else draw(_texts(PRODUCER, "b" * 32, "c" * 64, "c" * 65)),
        lane=draw(st.sampled_from((0, 3, 3, 3, 255, 256, -1, 2**31 - 1, -(2**31)))),
        sequence=draw(st.sampled_from((1, 1, 2, 3, 4, 5, 7, 0, -1, 2**63 - 1, -(2**63)))),
        key=draw(st.none() | st.none() | _texts("k1", "k2")),
    )


@st.composite
def likely_events(draw: st.DrawFn) -> MeterEvent:
    """An event as services send it: most are counted, many in one series, window or item."""
    kind = draw(st.sampled_from(_LIKELY_KINDS))
    is_session = kind in SESSION_KINDS
    names = ("run", "call") if is_session else ("api", "credit", "seat", "gauge", "pay", "plan")
    return event(
        kind=kind,
        tenant=draw(st.sampled_from(("acme", "acme", "b"))),
        type=draw(st.sampled_from(names)),
        time=NOW + draw(st.sampled_from(_LIKELY_TIMES)),
        quantity=draw(st.sampled_from((0, 1, 1, 7, -3, 2**40, 2**63 - 1, -(2**63)))),
        scale=draw(st.sampled_from((0, 0, 0, 2))),
        session=draw(st.sampled_from(("s1", "s2", None))) if is_session else None,
        subject=draw(st.sampled_from((None, "u1", "u2", "u3"))),
        attributes={
            name: draw(st.sampled_from(values))
            for name, values in _LIKELY_ATTRIBUTES.items()
            if draw(st.booleans())
        },
        producer=draw(st.sampled_from(("", PRODUCER, "b" * 32))),
        lane=draw(st.sampled_from((3, 4))),
        sequence=draw(st.integers(1, 12)),
        key=draw(st.sampled_from((None, None, "k1", "k2", "k3"))),
    )


@st.composite
def nasty_records(
    draw: st.DrawFn,
    size_max: int = 25,
    events: st.SearchStrategy[MeterEvent] | None = None,
) -> list[LogRecord]:
    """A few records of some partitions, at log times; events may be repeated or taken back.

    A tenant may tell of itself in any partition.
    """
    records: list[LogRecord] = []
    offsets, times = [0, 0, 65_530], [NOW, NOW, NOW]
    for _ in range(draw(st.integers(0, size_max))):
        partition = draw(st.sampled_from((0, 0, 0, 1, 2)))
        times[partition] += draw(st.sampled_from(_STEPS))
        said = draw(nasty_events() if events is None else events)
        again = draw(st.sampled_from((None, None, None, EventKind.USAGE, EventKind.VOID)))
        if again is not None and records:
            before = draw(st.sampled_from(records)).event
            key = draw(st.sampled_from((before.key, "k1")))
            said = before._replace(
                kind=again, key=key, sequence=said.sequence, lane=said.lane, producer=said.producer
            )
        records.append(LogRecord(partition, offsets[partition], times[partition], said))
        offsets[partition] += draw(st.sampled_from((1, 1, 3)))
    return records


RECORDS = nasty_records() | nasty_records(40, likely_events())
"""Batches of nonsense, and batches of much that is counted."""

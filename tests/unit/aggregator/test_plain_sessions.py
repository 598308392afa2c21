"""Sessions folded by columns: what the record-by-record fold makes, in whatever company."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meterstream_aggregator import plain_sessions, session_parts
from meterstream_aggregator.batch import LogRecord, batch_of_records, distinct_maps
from meterstream_aggregator.catalogue import HOUR, MINUTE, Catalogue, Threshold
from meterstream_aggregator.catalogue_file import parse_catalogue
from meterstream_aggregator.changes import OVERFLOW, Changes
from meterstream_aggregator.session_parts import split_many
from meterstream_aggregator.sessions import Session, SessionKey, Start
from meterstream_aggregator.state import Readings, State
from meterstream_aggregator.store.memory import MemoryStore
from meterstream_aggregator.windows import split
from meterstream_schemas.events import MeterEvent
from tests.simulation.driver import Folder, by_columns, plainly
from tests.unit.aggregator.making import PRODUCER, boundary, comparable, event

SINCE = 1_767_225_600_000_000
CHANGED = SINCE + 3 * HOUR
CATALOGUE = parse_catalogue("""
metering_since: 2026-01-01T00:00:00Z
meters:
  - {name: run, aggregate: session, group_by: [route], timeout: 40m, grace: 1h,
     from: 2025-12-01T00:00:00Z}
  - {name: run, aggregate: session, group_by: [route, zone], timeout: 50m, grace: 2h,
     timeout_bills: timeout, window: 1h, from: 2026-01-01T03:00:00Z}
  - {name: run.pay, type: run, aggregate: session, where: {route: [/pay]}, grace: 0s, timeout: 55m}
  - {name: call, aggregate: session, window: 1m, grace: 10m, timeout: 30m}
  - {name: idle, aggregate: session, window: 1h, longest: 6h}
  - {name: full, aggregate: session, group_by: [route], limits: {series_per_tenant: 2}}
  - {name: steps, type: idle, aggregate: count}
""")
WATCHING = replace(
    CATALOGUE, thresholds=(Threshold("t", "call", "tenant", (), "1mo", "UTC", 1, ("60",)),)
)
TYPES = ("run", "run", "call", "idle", "full")
STORIES = (
    "SE", "SE", "SE", "ES", "S", "E", "H", "SHE", "HSEH", "EHS", "SS", "SEE", "SSE", "SHHE",
)  # fmt: skip
LENGTHS = (0, 0, 1, MINUTE, 7 * MINUTE, 61 * MINUTE, 5 * HOUR, 9 * HOUR, -1, -2 * HOUR)
STEPS = (0, 0, 0, 1, MINUTE, 11 * MINUTE, 29 * MINUTE, 41 * MINUTE, 3 * HOUR)


@st.composite
def stories(draw: st.DrawFn) -> list[MeterEvent]:
    """What is told of one session, of which much may be plain and anything may not."""
    start = SINCE + draw(st.integers(-30, 400)) * MINUTE + draw(st.sampled_from((0, 1)))
    told: list[MeterEvent] = []
    who = {
        "tenant": draw(st.sampled_from(("acme", "b"))),
        "type": draw(st.sampled_from(TYPES)),
        "session": draw(st.sampled_from(("s1", "s2", "s3", "s4", "s5", None))),
        "subject": draw(st.sampled_from((None, "", "u1"))),
    }
    for letter in draw(st.sampled_from(STORIES)):
        time = start
        kind = {"S": "START", "E": "END", "H": "HEARTBEAT"}[letter]
        if letter == "S" and told:
            time += draw(st.sampled_from((0, 1, -MINUTE, MINUTE)))
        elif letter != "S":
            time += draw(st.sampled_from(LENGTHS))
        attributes = draw(
            st.fixed_dictionaries(
                {},
                optional={
                    "zone": st.sampled_from(("", "z")),
                    "route": st.sampled_from(("/", "/pay", "/x")),
                },
            )
        )
        told.append(boundary(kind, time, attributes=attributes, **who))
    return told


@st.composite
def logs(draw: st.DrawFn) -> list[list[LogRecord]]:
    """Stories shuffled into each other, cut into batches."""
    events = [each for told in draw(st.lists(stories(), max_size=8)) for each in told]
    if draw(st.booleans()):
        events = draw(st.permutations(events))
    at, offsets, records = [SINCE, SINCE], [0, 0], list[LogRecord]()
    for number, said in enumerate(events):
        partition = 0 if said.tenant == "acme" else 1
        if draw(st.booleans()):
            at[partition] += draw(st.sampled_from(STEPS))
        said = said._replace(producer=PRODUCER, lane=partition, sequence=number + 1)  # noqa: PLW2901 - as sent
        records.append(LogRecord(partition, offsets[partition], at[partition], said))
        offsets[partition] += 1
    cuts = draw(st.lists(st.integers(0, len(records)), max_size=3))
    ends = sorted({0, *cuts, len(records)})
    return [records[low:high] for low, high in pairwise(ends)]


def both(
    batches: list[list[LogRecord]], catalogue: Catalogue = CATALOGUE
) -> list[tuple[Changes, Changes]]:
    """The changes of each batch by columns and plainly, each fold over a store of its own."""
    folders = [Folder(MemoryStore(), catalogue, by) for by in (by_columns, plainly)]
    for folder in folders:
        folder.claim([0, 1])
    return [(folders[0].fold(records), folders[1].fold(records)) for records in batches if records]


@settings(max_examples=200)
@given(logs(), st.sampled_from((CATALOGUE, CATALOGUE, WATCHING)))
def test_columns_equal_records(batches: list[list[LogRecord]], catalogue: Catalogue) -> None:
    """Usage, arrivals, sessions, deadlines and moves of charges, batch by batch."""
    for fast, plain in both(batches, catalogue):
        assert comparable(fast) == comparable(plain)
        assert sorted(map(repr, fast.charge_moves)) == sorted(map(repr, plain.charge_moves))


def said(*told: tuple[str, int], **who: object) -> list[LogRecord]:
    """One session's records a millisecond apart; minutes after metering began."""
    return [
        LogRecord(0, n, SINCE + n * 1000, boundary(kind, SINCE + minutes * MINUTE, **who))
        for n, (kind, minutes) in enumerate(told)
    ]


PLAIN = [
    [("START", 0), ("END", 5)],
    [("END", 5), ("START", 0)],
    [("START", 0), ("END", 0)],
    [("START", 0)],
    [("HEARTBEAT", 9), ("START", 0), ("HEARTBEAT", 2), ("END", 5), ("HEARTBEAT", 7)],
]


@pytest.mark.parametrize("told", PLAIN)
@pytest.mark.parametrize("of_type", ["run", "call", "idle"])
def test_a_plain_story_makes_no_objects(told: list[tuple[str, int]], of_type: str) -> None:
    """It is folded by columns, all of it, whichever order it comes in."""
    [(fast, plain)] = both([said(*told, type=of_type, attributes={"route": "/pay"})])

    assert not fast.sessions
    assert [len(columns.session) for columns in fast.session_columns] == [1]
    assert comparable(fast) == comparable(plain)
    assert plain.sessions


@pytest.mark.parametrize("told", [[("END", 5)], [("HEARTBEAT", 3)], [("HEARTBEAT", 3), ("END", 9)]])
@pytest.mark.parametrize("of_type", ["run", "call", "idle"])
def test_an_open_session_goes_on_by_columns(told: list[tuple[str, int]], of_type: str) -> None:
    """One start known before, and no decision to make."""
    records = said(("START", 0), *told, type=of_type, attributes={"route": "/pay"}, subject="u")

    for fast, plain in both([records[:1], records[1:]]):
        assert not fast.sessions
        assert comparable(fast) == comparable(plain)


def test_a_few_boundaries_are_folded_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Below a number of them columns cost more than they save; the changes are the same."""
    records = said(("START", 0), ("END", 5), type="idle")

    for fewest, objects in ((2, 0), (3, 1)):
        monkeypatch.setattr(plain_sessions, "ROWS_MIN", fewest)
        [(fast, plain)] = both([records])
        assert len(fast.sessions) == objects
        assert comparable(fast) == comparable(plain)


NOT_PLAIN = {
    "two starts": [("START", 0), ("START", 1), ("END", 5)],
    "two ends": [("START", 0), ("END", 5), ("END", 6)],
    "an end before the start": [("START", 3), ("END", 2)],
    "an end too far": [("START", 0), ("END", 7 * 60)],
    "no start": [("END", 2)],
    "nothing but life": [("HEARTBEAT", 2)],
}


@pytest.mark.parametrize("name", NOT_PLAIN)
def test_what_is_to_be_decided_is_folded_record_by_record(name: str) -> None:
    """Every near miss of a plain story, beside one that is plain."""
    missed = said(*NOT_PLAIN[name], type="idle")
    beside = [
        record._replace(event=record.event._replace(session="other"), offset=record.offset + 10)
        for record in said(("START", 0), ("END", 1), type="idle")
    ]
    records = [r._replace(append_time=SINCE + 8 * HOUR) for r in [*missed, *beside]]

    [(fast, plain)] = both([records])

    assert [key.session for key in fast.sessions] == ["s1"]
    assert [columns.session for columns in fast.session_columns] == [["other"]]
    assert comparable(fast) == comparable(plain)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ([("START", 0), ("END", 5)], [("HEARTBEAT", 9)]),
        ([("START", 0), ("END", 5)], [("START", 0), ("END", 5)]),
        ([("START", 0)], [("START", 0)]),
        ([("START", 0)], [("START", 0), ("START", 1)]),
        ([("START", 0), ("START", 1)], [("END", 5)]),
        ([("END", 5)], [("START", 0)]),
        ([("START", 3)], [("END", 2)]),
    ],
)
def test_what_is_known_otherwise_is_folded_record_by_record(
    first: list[tuple[str, int]], second: list[tuple[str, int]]
) -> None:
    """Sessions that are more than plainly open before the batch."""
    records = said(*first, *second, type="idle")

    [before, (fast, plain)] = both([records[: len(first)], records[len(first) :]])

    assert fast.sessions
    assert not fast.session_columns
    assert comparable(before[0]) == comparable(before[1])
    assert comparable(fast) == comparable(plain)


@pytest.mark.parametrize("minutes", [29, 30, 31, 200])
def test_a_meter_that_gives_up_is_asked_record_by_record(minutes: int) -> None:
    """Where the log's time reaches a deadline, within a batch or before its records."""
    start, end = said(("START", 0), ("END", 5), type="call")
    end = end._replace(append_time=SINCE + minutes * MINUTE)

    for batches in ([[start, end]], [[start], [end]]):
        *_, (fast, plain) = both(batches)
        assert bool(fast.sessions) == (minutes >= 30)
        assert comparable(fast) == comparable(plain)


def test_a_watched_meter_hears_of_every_charge() -> None:
    """Its moves are told one by one, so its sessions are folded one by one."""
    [(fast, plain)] = both([said(("START", 0), ("END", 5), type="call")], WATCHING)

    assert len(fast.charge_moves) == 2
    assert fast.charge_moves == plain.charge_moves
    assert comparable(fast) == comparable(plain)


def test_what_was_given_up_before_is_not_plainly_open() -> None:
    """Though no deadline is kept for it: a catalogue with a longer timeout may have kept it."""
    key = SessionKey(0, "acme", "call", "s1")
    told = Session((Start(SINCE, "", ()),), (), SINCE + 5 * MINUTE, SINCE)
    at = SINCE + 61 * MINUTE
    records = [LogRecord(0, 9, at, boundary("END", SINCE + 10 * MINUTE, type="call"))]

    fast, plain = (
        fold(
            records,
            State({0: SINCE + HOUR}, {0: at}, {}, sessions={key: told}),
            Readings(CATALOGUE),
        )
        for fold in (by_columns, plainly)
    )

    assert comparable(fast) == comparable(plain)
    assert sum(sum(delta.quantity.tolist()) for delta in fast.usage) == 5 * MINUTE


def test_a_sign_of_life_from_before_is_not_forgotten() -> None:
    """The latest of all batches is what the session was last heard of at."""
    records = said(("START", 0), ("HEARTBEAT", 20), ("END", 9), type="idle")

    _, (fast, plain) = both([records[:2], records[2:]])

    assert fast.session_columns[0].last_sign == [SINCE + 20 * MINUTE]
    assert comparable(fast) == comparable(plain)


def test_groups_beyond_the_limit_come_in_the_order_of_the_log() -> None:
    """Of a meter that is near its limit every session is folded by itself."""
    records = [
        LogRecord(0, n, SINCE, boundary("START", SINCE, type="full", session=route,
                                        attributes={"route": route}))
        for n, route in enumerate(("/c", "/a", "/b"))
    ]  # fmt: skip

    [(fast, plain)] = both([records])

    assert comparable(fast) == comparable(plain)
    assert (OVERFLOW,) in {key.series.group for delta in fast.usage for key in delta.rows()}


@pytest.mark.parametrize("minutes", [10, 11, 12])
def test_late_is_from_the_close_on(minutes: int) -> None:
    """A window of a minute with ten of grace: at its close a record is late."""
    start = said(("START", 0), type="call")[0]._replace(append_time=SINCE + minutes * MINUTE)

    [(fast, plain)] = both([[start]])

    assert not fast.sessions
    assert comparable(fast) == comparable(plain)
    assert [bool(delta.arrival) for delta in fast.usage] == [minutes >= 11]


def test_one_id_in_many_places_is_many_sessions() -> None:
    """Partition, tenant and type are part of what a session is."""
    records = [
        LogRecord(partition, n, SINCE + 9, boundary(kind, SINCE, tenant=tenant, type=of_type))
        for partition in (0, 1)
        for n, (kind, tenant, of_type) in enumerate(
            (kind, tenant, of_type)
            for kind in ("START", "END")
            for tenant in ("a", "b")
            for of_type in ("run", "idle")
        )
    ]

    [(fast, plain)] = both([records])

    assert [len(columns.session) for columns in fast.session_columns] == [8]
    assert comparable(fast) == comparable(plain)


@given(
    st.lists(st.tuples(st.integers(0, 3 * HOUR), st.integers(0, 3 * HOUR)), max_size=8),
    st.sampled_from((MINUTE, 7 * MINUTE, HOUR)),
    st.sampled_from((1, 5, 10**6)),
)
def test_many_spans_are_split_as_one(spans: list[tuple[int, int]], size: int, portion: int) -> None:
    """However many are held at a time, each in the parts that `windows.split` cuts it into."""
    start = np.array([low for low, _ in spans], dtype=np.int64)
    until = np.array([low + length for low, length in spans], dtype=np.int64)
    found: list[tuple[int, int, int]] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(session_parts, "_PIECES_MAX", portion)
        for span, window, inside in split_many(start, until, size):
            found += zip(span.tolist(), (window * size).tolist(), inside.tolist(), strict=True)

    assert found == [
        (n, window, inside)
        for n, (low, length) in enumerate(spans)
        for window, inside in split(low, low + length, size)
    ]


@given(
    st.lists(st.dictionaries(st.sampled_from("abc"), st.sampled_from(("", "1", "2"))), max_size=12),
    st.integers(0, 3),
)
def test_distinct_maps_tell_every_row(maps: list[dict[str, str]], first: int) -> None:
    """Each row has the attributes that its code stands for."""
    batch = batch_of_records(
        [LogRecord(0, n, SINCE, event(attributes=each)) for n, each in enumerate(maps)]
    )
    rows = np.arange(min(first, len(maps)), len(maps))

    code, found = distinct_maps(batch, rows)

    assert [found[at] for at in code.tolist()] == maps[first:]

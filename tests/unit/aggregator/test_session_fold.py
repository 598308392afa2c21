"""Folding sessions: record by record, however the log is cut, and every microsecond once."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meterstream_aggregator.batch import LogRecord
from meterstream_aggregator.catalogue import DAY, HOUR, MINUTE, Threshold
from meterstream_aggregator.changes import OVERFLOW
from meterstream_aggregator.state import Readings
from meterstream_aggregator.thresholds import NO_OFFSET
from meterstream_aggregator.windows import arrival_of, closes_at
from tests.unit.aggregator.folding_sessions import (
    CATALOGUE,
    CHANGED,
    READINGS,
    SINCE,
    Kept,
    folded,
)
from tests.unit.aggregator.making import boundary

if TYPE_CHECKING:
    from collections.abc import Sequence
    from random import Random

    from meterstream_schemas.events import MeterEvent

OLD, NEW = CATALOGUE.definitions("run")
CALL = CATALOGUE.meter("call")
MINUTES = st.integers(0, 6 * 60)
EVENTS = st.builds(
    lambda kind, minutes, of_type, session, subject, route: boundary(
        kind,
        SINCE + minutes * MINUTE + minutes,
        type=of_type,
        session=session,
        subject=subject,
        attributes={"route": route} if route else {},
    ),
    st.sampled_from(("START", "START", "HEARTBEAT", "END")),
    MINUTES,
    st.sampled_from(("run", "run", "call", "idle")),
    st.sampled_from(("s1", "s2", None, None)),
    st.sampled_from((None, "u1")),
    st.sampled_from(("", "/", "/pay", "/x")),
)
LATER = SINCE + 4 * DAY


@st.composite
def logs(draw: st.DrawFn) -> list[LogRecord]:
    """A log whose time goes on by nothing, minutes or hours from record to record."""
    at, records = SINCE, list[LogRecord]()
    for offset, event in enumerate(draw(st.lists(EVENTS, max_size=14))):
        at += draw(st.sampled_from((0, 1, 7, 20, 30, 45, 180))) * MINUTE
        records.append(LogRecord(0, offset, at, event))
    return records


def said(*events: MeterEvent, at: Sequence[int]) -> list[LogRecord]:
    """Events with their log times, in minutes after metering began."""
    assert len(events) == len(at)
    return [
        LogRecord(0, offset, SINCE + minutes * MINUTE, event)
        for offset, (event, minutes) in enumerate(zip(events, at, strict=True))
    ]


@given(logs(), st.lists(st.integers(0, 14), max_size=6))
def test_batches_change_nothing(log: list[LogRecord], cuts: list[int]) -> None:
    """One batch, one per record, or anything between: the same rows, arrivals and deadlines."""
    ends = sorted({0, *(min(cut, len(log)) for cut in cuts), len(log)})

    one = folded([log], upto=LATER)
    some = folded([log[low:high] for low, high in pairwise(ends)], upto=LATER)
    each = folded([[record] for record in log], upto=LATER)

    assert one.rows() == some.rows() == each.rows()
    assert one.sessions == some.sessions == each.sessions
    assert one.subjects == some.subjects == each.subjects
    assert one.series == some.series == each.series


@given(logs(), st.randoms(use_true_random=False))
def test_order_changes_no_total(log: list[LogRecord], rng: Random) -> None:
    """Any order of arrival, with repetitions: the same facts and the same totals."""
    events = [record.event for record in log]
    again = [*events, *events[::3]]
    rng.shuffle(again)
    # Which group values have a series is decided by who comes first: not of meters with limits.
    unlimited = replace(
        CATALOGUE, meters=tuple(replace(m, series_per_tenant=100) for m in CATALOGUE.meters)
    )

    one, other = (
        Kept()
        .fold([LogRecord(0, n, SINCE + DAY, event) for n, event in enumerate(told)], by=by)
        .fold([], upto=LATER, by=by)
        for by in [Readings(unlimited)]
        for told in (events, again)
    )

    assert other.facts() == one.facts()
    assert other.totals() == one.totals()


@given(MINUTES, st.integers(0, 3 * DAY), st.sampled_from(("s1", None)), st.booleans())
def test_windows_add_up_to_the_duration(
    minutes: int, length: int, session: str | None, start_first: bool
) -> None:
    """To the microsecond, over windows of any size, in time and late together."""
    start = SINCE + minutes * MINUTE + 1
    events = [
        boundary("START", start, session=session),
        boundary("END", start + length, session=session),
    ]

    kept = folded([said(*(events if start_first else events[::-1]), at=[0, 5 * 24 * 60])])

    totals = [total for place, total in kept.totals().items() if place[0] == "run"]
    assert sum(time for _, time in totals) == length
    assert sum(started for started, _ in totals) == 1


def test_the_record_that_does_it_decides_what_is_late() -> None:
    """An end after some windows closed adds to those late, to the others in time."""
    start = boundary("START", SINCE + MINUTE, type="call")
    end = boundary("END", SINCE + 4 * MINUTE, type="call")

    kept = folded([said(start, end, at=[1, 13])])

    late = SINCE + 13 * MINUTE
    assert arrival_of(late, MINUTE, CALL.grace) == late
    assert {
        (key.start - SINCE) // MINUTE: (key.arrival, row[1])
        for key, row in kept.rows().items()
        if row[1]
    } == {1: (late, MINUTE), 2: (late, MINUTE), 3: (0, MINUTE)}
    started = [key for key, row in kept.rows().items() if row[0]]
    assert [(key.start, key.arrival) for key in started] == [(SINCE + MINUTE, 0)]


@given(st.integers(0, 3 * DAY), st.integers(0, 4 * DAY))
def test_late_is_what_the_windows_close_says(start: int, cause: int) -> None:
    """A start is late if and only if its log time is at or after the close of its window."""
    record = LogRecord(0, 0, SINCE + cause, boundary("START", SINCE + start, type="call"))

    (key,) = folded([[record]]).rows()

    closes = closes_at(key.start, CALL.window, SINCE, CALL.grace)
    assert (key.arrival > 0) == (record.append_time >= closes)
    if key.arrival:
        assert key.arrival == arrival_of(record.append_time, CALL.window, CALL.grace)


def test_a_timeout_is_late_by_its_deadline() -> None:
    """Not by the record or the batch that comes upon it, however much later."""
    start = boundary("START", SINCE, type="call")
    sign = boundary("HEARTBEAT", SINCE + 2 * MINUTE, type="call")
    other = boundary("START", SINCE + 500 * MINUTE, type="idle")
    log = said(start, sign, other, at=[0, 2, 500])

    for kept in (folded([log]), folded([log[:2], log[2:]]), folded([log[:2]], upto=LATER)):
        of_call = {k: r for k, r in kept.rows().items() if k.series.meter == "call" and r[1]}
        assert {(key.arrival, row[1]) for key, row in of_call.items()} == {
            (arrival_of(SINCE + 42 * MINUTE, MINUTE, CALL.grace), MINUTE)
        }


def test_an_end_after_the_timeout_wins() -> None:
    """What was billed at the deadline stays; the end adds the difference."""
    start, end = boundary("START", SINCE), boundary("END", SINCE + 50 * MINUTE)

    timed_out = folded([said(start, at=[0])], upto=SINCE + 30 * MINUTE)
    closed = folded([said(start, end, at=[0, 100])])

    assert sum(time for _, time in timed_out.totals().values()) == 0
    assert timed_out.sessions.popitem()[1][1] is None
    assert sum(time for _, time in closed.totals().values()) == 50 * MINUTE
    assert closed.sessions.popitem()[1][1] is None


def test_a_closed_session_hears_more() -> None:
    """A heartbeat changes nothing, an earlier end takes time back, whichever batch they come in."""
    start, end = boundary("START", SINCE), boundary("END", SINCE + 40 * MINUTE)
    sign = boundary("HEARTBEAT", SINCE + 50 * MINUTE)
    earlier = boundary("END", SINCE + 10 * MINUTE)
    log = said(start, end, sign, earlier, at=[0, 40, 50, 60])

    kept = folded([[record] for record in log[:3]], upto=LATER)
    assert sum(time for _, time in kept.totals().values()) == 40 * MINUTE
    kept = folded([[record] for record in log], upto=LATER)
    assert sum(time for _, time in kept.totals().values()) == 10 * MINUTE


def test_a_sign_of_life_takes_a_timeout_back() -> None:
    """A record revives what had timed out, and the deadline counts from there."""
    start = boundary("START", CHANGED)
    sign = boundary("HEARTBEAT", CHANGED + 60 * MINUTE)
    log = said(start, sign, at=[180, 260])

    over = folded([log[:1]], upto=SINCE + 240 * MINUTE)
    alive = folded([log])
    again = folded([log], upto=LATER)

    assert sum(time for _, time in over.totals().values()) == 50 * MINUTE
    assert sum(time for _, time in alive.totals().values()) == 0
    assert alive.sessions.popitem()[1][1] == SINCE + (260 + 20) * MINUTE
    assert sum(time for _, time in again.totals().values()) == 110 * MINUTE


def test_an_earlier_start_may_be_of_another_definition() -> None:
    """The charge is taken back under the definition that read the later start."""
    log = said(
        boundary("START", CHANGED + HOUR, attributes={"route": "/pay"}),
        boundary("END", CHANGED + 2 * HOUR),
        boundary("START", CHANGED - HOUR, attributes={"route": "/"}),
        at=[300, 300, 300],
    )

    before, after = folded([log[:2]]), folded([log])

    assert {key.series.version for key in before.rows() if key.series.meter == "run"} == {
        NEW.version
    }
    assert {key.series.version for key in after.rows()} == {OLD.version}
    assert {key.series.group for key in after.rows()} == {("/",)}
    assert sum(time for _, time in after.totals().values()) == 3 * HOUR


def test_group_values_beyond_the_limit_share_a_series() -> None:
    """In log order the first two have their own; a session stays where it was counted."""
    events = [
        boundary("START", SINCE + n, session=f"s{n}", attributes={"route": f"/{n}"})
        for n in range(4)
    ]
    ends = [boundary("END", SINCE + MINUTE, session=f"s{n}") for n in range(4)]
    log = said(*events, *ends, at=[0, 0, 0, 0, 1, 1, 1, 1])

    for kept in (folded([log]), folded([[record] for record in log])):
        groups = {key.series.group: row for key, row in kept.rows().items()}
        assert groups == {
            ("/0",): (1, MINUTE),
            ("/1",): (1, MINUTE - 1),
            (OVERFLOW,): (2, 2 * MINUTE - 5),
        }


def test_a_series_is_told_of_that_came_to_nothing() -> None:
    """It was admitted: the next batch, and a store filled anew, must know."""
    log = said(
        boundary("START", SINCE + 2, attributes={"route": "/a"}),
        boundary("START", SINCE + 1, attributes={"route": "/b"}),
        at=[0, 0],
    )

    assert {key.group for key in folded([log]).series} == {("/a",), ("/b",)}


def test_a_session_of_a_type_that_is_read_no_more_is_kept() -> None:
    """Its deadline passes, and nothing is counted."""
    kept = folded([said(boundary("START", SINCE, type="call"), at=[0])])
    without = Readings(
        replace(CATALOGUE, meters=tuple(m for m in CATALOGUE.meters if m.type != "call"))
    )

    rows = kept.rows()
    kept.fold([], upto=LATER, by=without)

    assert kept.rows() == rows
    assert kept.sessions.popitem()[1][1] is None


@pytest.mark.parametrize("session", ["s1", None])
def test_a_watched_meter_tells_every_move(session: str | None) -> None:
    """Each charge before and after, what caused it, and the offset of the record or none."""
    watching = Readings(
        replace(
            CATALOGUE,
            thresholds=(Threshold("t", "call", "tenant", (), "1mo", "UTC", 1, ("60",)),),
        )
    )
    start, sign, end = (
        boundary(kind, SINCE + minutes * MINUTE, type="call", session=session)
        for kind, minutes in (("START", 0), ("HEARTBEAT", 1), ("END", 3))
    )
    kept = Kept().fold(said(start, sign, end, at=[0, 1, 60]), by=watching)

    told = [
        (
            None if move.before is None else move.before.until,
            None if move.after is None else move.after.until,
            (move.cause - SINCE) // MINUTE,
            move.offset,
        )
        for move in kept.moves
    ]
    deadline = (None, SINCE + MINUTE, 41, NO_OFFSET)
    ended = SINCE + 3 * MINUTE
    assert told[:2] == [(None, None, 0, 0), deadline]
    assert told[2:] in (
        [(SINCE + MINUTE, ended, 60, 2)],
        [(SINCE + MINUTE, None, 60, 2), (None, ended, 60, 2)],
    )
    assert not Kept().fold(said(start, at=[0]), by=READINGS).moves


def test_a_later_claim_retracts_a_watched_charge() -> None:
    """An earlier start takes the whole charge back and makes another."""
    watching = Readings(
        replace(
            CATALOGUE,
            thresholds=(Threshold("t", "idle", "tenant", (), "1mo", "UTC", 1, ("60",)),),
        )
    )
    log = said(
        boundary("START", SINCE + 2, type="idle"), boundary("START", SINCE, type="idle"), at=[0, 0]
    )

    moves = Kept().fold(log, by=watching).moves

    assert [(move.before is None, move.after is None) for move in moves] == [
        (True, False), (False, True), (True, False),
    ]  # fmt: skip

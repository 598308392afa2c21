"""The oracle's sessions against examples worked by hand."""

from __future__ import annotations

import itertools
from fractions import Fraction

import pytest

from meterstream_schemas.events import EventKind, MeterEvent
from tests.oracle.counting import Answer, LogRecord, UsageKey, count
from tests.oracle.sessions import SessionKey, split

SINCE = 1_767_225_600_000_000  # 2026-01-01T00:00:00Z
SECOND = 1_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
CATALOGUE = """
metering_since: 2026-01-01T00:00:00Z
meters:
  - {name: run, aggregate: session, group_by: [plan], window: 1h, timeout: 30m}
  - {name: pro, type: run, aggregate: session, where: {plan: [pro]}, window: 1h, timeout: 30m,
     timeout_bills: timeout}
"""
KEY = SessionKey(0, "a", "run", "s")


def said(kind: str, time: int, plan: str = "", session: str = "s") -> MeterEvent:
    """A boundary or heartbeat, ``time`` in microseconds since metering began."""
    return MeterEvent(
        kind=EventKind[f"SESSION_{kind}"],
        tenant="a",
        type="run",
        time=SINCE + time,
        quantity=0,
        scale=0,
        session=session,
        subject=None,
        attributes={"plan": plan} if plan else {},
        producer="",
        lane=0,
        sequence=0,
        key=None,
    )


def log(*events: MeterEvent, appended: int = 0, until: int | None = None) -> Answer:
    """Count events appended one microsecond apart; ``until`` adds a mark appended later."""
    at = SINCE + 100 * HOUR + appended
    records = [LogRecord(0, n, at + n, each) for n, each in enumerate(events)]
    if until is not None:
        mark = events[0]._replace(kind=EventKind.MARK, tenant="", type="", session=None)
        records.append(LogRecord(0, len(events), at + until, mark))
    return count(CATALOGUE, records)


def state(answer: Answer) -> str:
    """The state of session s."""
    return answer.states()[KEY]


def test_a_duration_is_split_exactly() -> None:
    """From 0:59:59.5 to 2:00:00.25 it is half a second, an hour, and a quarter of a second."""
    answer = log(said("START", HOUR - SECOND // 2, plan="x"), said("END", 2 * HOUR + SECOND // 4))

    assert answer.usage == {
        UsageKey("a", "run", ("x",), SINCE): (1, Fraction(1, 2)),
        UsageKey("a", "run", ("x",), SINCE + HOUR): (0, Fraction(3600)),
        UsageKey("a", "run", ("x",), SINCE + 2 * HOUR): (0, Fraction(1, 4)),
    }
    assert state(answer) == "closed"


def test_order_and_repetition_change_nothing() -> None:
    """Every order of two starts, two ends, a heartbeat and a repeat gives one answer."""
    events = [
        said("START", HOUR, plan="pro"),
        said("START", HOUR + MINUTE, plan="x"),
        said("END", 30 * MINUTE),
        said("END", 90 * MINUTE),
        said("END", 95 * MINUTE),
    ]

    answers = [log(*order, *order[:2]) for order in itertools.permutations(events)]

    assert all(answer.usage == answers[0].usage for answer in answers)
    assert {answer.sessions[KEY].conflicts for answer in answers} == {3}
    assert answers[0].usage == {
        UsageKey("a", "run", ("pro",), SINCE + HOUR): (1, Fraction(1800)),
        UsageKey("a", "pro", (), SINCE + HOUR): (1, Fraction(1800)),
    }


def test_an_open_session_has_started_and_used_nothing_yet() -> None:
    """Before its deadline a session without an end shows in events, not in seconds."""
    answer = log(said("START", 0), said("HEARTBEAT", MINUTE), until=30 * MINUTE)

    assert state(answer) == "open"
    assert answer.usage == {UsageKey("a", "run", ("",), SINCE): (1, Fraction(0))}


@pytest.mark.parametrize(("until", "expected"), [(-1, "open"), (0, "timed_out"), (1, "timed_out")])
def test_the_deadline_is_last_append_plus_timeout(until: int, expected: str) -> None:
    """At the deadline it is timed out, one microsecond before it is not."""
    answer = log(said("START", 0), said("HEARTBEAT", MINUTE), until=30 * MINUTE + 1 + until)

    assert state(answer) == expected


def test_a_timed_out_session_is_billed_by_each_meters_policy() -> None:
    """Up to the heartbeat at 0:50 under one meter, up to 1:20 under the other."""
    answer = log(said("START", 0, plan="pro"), said("HEARTBEAT", 50 * MINUTE), until=HOUR)

    assert answer.usage == {
        UsageKey("a", "run", ("pro",), SINCE): (1, Fraction(3000)),
        UsageKey("a", "pro", (), SINCE): (1, Fraction(3600)),
        UsageKey("a", "pro", (), SINCE + HOUR): (0, Fraction(1200)),
    }


def test_a_late_heartbeat_reopens_and_a_late_end_wins() -> None:
    """After the deadline passed, a heartbeat makes the session open again and an end closes it."""
    at = SINCE + 100 * HOUR
    start, heart, end = said("START", 0), said("HEARTBEAT", 2 * HOUR), said("END", MINUTE)

    reopened = count(CATALOGUE, [LogRecord(0, 0, at, start), LogRecord(0, 1, at + 2 * HOUR, heart)])
    ended = count(CATALOGUE, [LogRecord(0, 0, at, start), LogRecord(0, 1, at + 2 * HOUR, end)])

    assert state(reopened) == "open"
    assert state(ended) == "closed"
    assert ended.usage == {UsageKey("a", "run", ("",), SINCE): (1, Fraction(60))}


def test_an_end_without_a_start_waits() -> None:
    """Nothing is billed for an unstarted session, whatever time passes; one end is no conflict."""
    answer = log(said("END", HOUR), said("HEARTBEAT", 0), until=50 * HOUR)

    assert state(answer) == "unstarted"
    assert answer.usage == {}
    assert answer.sessions[KEY].conflicts == 0


def test_the_smallest_of_two_simultaneous_starts_speaks() -> None:
    """Starts at one instant with other attributes are a conflict that order does not decide."""
    one, other = said("START", 0, plan="b"), said("START", 0, plan="a")

    for order in ((one, other), (other, one)):
        answer = log(*order, said("END", SECOND))
        assert answer.usage == {UsageKey("a", "run", ("a",), SINCE): (1, Fraction(1))}
        assert answer.sessions[KEY].conflicts == 1


def test_an_empty_session_still_started() -> None:
    """Start and end in one instant: one session, no seconds."""
    answer = log(said("START", 0), said("END", 0))

    assert answer.usage == {UsageKey("a", "run", ("",), SINCE): (1, Fraction(0))}


def test_parts_of_a_split_add_up() -> None:
    """Σ windows = duration for spans that begin and end anywhere."""
    for start, end in ((0, 1), (59, 61), (60, 120), (7, 7), (1, 599)):
        assert sum(split(start, end, 60).values()) == end - start
    assert split(7, 7, 60) == {}

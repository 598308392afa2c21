"""The oracle's sessions without ids, and the ledger of sessions, worked by hand."""

from __future__ import annotations

import itertools

import pytest

from meterstream_schemas.events import MeterEvent
from tests.oracle.counting import Answer
from tests.oracle.telling import DAY, HOUR, MINUTE, event, rows, told

VISIT = "{name: visit, aggregate: session, window: 1h, grace: 10m, timeout: 30m, longest: 3h}"


def said(kind: str, minute: int, **changes: object) -> MeterEvent:
    """A boundary or heartbeat of subject u, at a minute."""
    return event(f"SESSION_{kind}", "visit", minute * MINUTE, subject="u", **changes)


def visits(*log: tuple[int, MeterEvent], text: str = VISIT) -> Answer:
    """The answer to visits, appended at minutes."""
    return told(text, *((minute * MINUTE, each) for minute, each in log))


def pairs(answer: Answer) -> list[tuple[int, int | None]]:
    """Start and end of the subject's sessions, in minutes since metering began."""
    [subject] = answer.subjects.values()
    base = 1_767_225_600_000_000
    return [
        ((pair.start.time - base) // MINUTE, pair.end and (pair.end - base) // MINUTE)
        for pair in subject.pairs()[0]
    ]


def test_ends_close_the_oldest_start() -> None:
    """Two starts and two ends pair up first to first, whatever their order of arrival."""
    events = [said("START", 1), said("START", 5), said("END", 7), said("END", 9)]

    for order in itertools.permutations(events):
        answer = visits(*((10, each) for each in (*order, order[0])))
        assert pairs(answer) == [(1, 7), (5, 9)]
        assert rows(answer) == {("visit", "", 0, 0): (2, 600)}


def test_an_end_reaches_only_so_far() -> None:
    """A start that lies further back than a session may last stays open, the next one is closed."""
    answer = visits((0, said("START", 0)), (190, said("START", 100)), (190, said("END", 181)))

    assert pairs(answer) == [(0, None), (100, 181)]


def test_what_is_left_over_is_listed() -> None:
    """An end before every start closes nothing."""
    answer = visits((10, said("END", 1)), (10, said("START", 2)))

    [subject] = answer.subjects.values()
    assert pairs(answer) == [(2, None)]
    assert len(subject.pairs()[1]) == 1


def test_a_heartbeat_is_of_all_open_ones() -> None:
    """Both open sessions time out half an hour after the last record, billed to the heartbeat."""
    log = [(1, said("START", 1)), (2, said("START", 2)), (9, said("HEARTBEAT", 8))]

    early, late = (visits(*log, (at, event("MARK", "", 0))) for at in (38, 39))

    assert rows(early) == {("visit", "", 0, 0): (2, 0)}
    assert rows(late) == {("visit", "", 0, 0): (2, (7 + 6) * 60)}


def test_boundaries_that_come_too_late_are_refused() -> None:
    """More than 31 days after their time; a heartbeat never is."""
    minute = 31 * DAY // MINUTE

    in_time = visits((minute, said("START", 0)))
    too_late = visits((minute + 1, said("END", 0)), (minute + 1, said("HEARTBEAT", 0)))

    assert in_time.counted[0] == 1
    assert [refusal.reason for refusal in too_late.refusals] == ["settled_session"]
    assert too_late.counted[0] == 1


def test_what_is_settled_stays_charged() -> None:
    """A month later the old visits are no more listed, their seconds stay."""
    minute = 32 * DAY // MINUTE
    log = [(9, said("START", 1)), (9, said("END", 4)), (9, said("START", 6)), (9, said("END", 0))]

    answer = visits(*log, (minute, said("START", minute)))

    [subject] = answer.subjects.values()
    assert pairs(answer) == [(minute, None)]
    assert subject.settled_conflicts == 1
    assert rows(answer) == {
        ("visit", "", 0, 0): (2, 180),
        ("visit", "", minute // 60 * HOUR, 0): (1, 0),
    }


def test_an_end_after_the_close_is_an_adjustment_by_window() -> None:
    """From 0:30 to 2:30, told at 2:15: the first two windows are closed by then."""
    answer = visits(
        (30, said("START", 30)), (135, said("END", 150)), text=VISIT.replace("30m", "9h")
    )

    assert rows(answer) == {
        ("visit", "", 0, 0): (1, 0),
        ("visit", "", 0, 130 * MINUTE): (0, 1800),
        ("visit", "", HOUR, 130 * MINUTE): (0, 3600),
        ("visit", "", 2 * HOUR, 0): (0, 1800),
    }


@pytest.mark.parametrize("session", [None, "s"])
def test_a_timeout_is_caused_by_its_deadline(session: str | None) -> None:
    """Given up at 1:05, before 1:10: in time. The end that comes at 3:00 wins, as an adjustment."""
    start, end = said("START", 35, session=session), said("END", 50, session=session)

    answer = visits((35, start), (180, event("MARK", "", 0)), (180, end), text=VISIT.replace(
        "timeout: 30m", "timeout: 30m, timeout_bills: timeout"
    ))  # fmt: skip

    assert rows(answer) == {
        ("visit", "", 0, 0): (1, 25 * 60),
        ("visit", "", 0, 130 * MINUTE): (0, -10 * 60),
        ("visit", "", HOUR, 0): (0, 5 * 60),
        ("visit", "", HOUR, 130 * MINUTE): (0, -5 * 60),
    }

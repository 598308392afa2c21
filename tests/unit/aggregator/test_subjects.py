"""Sessions without an id: paired in event-time order, whatever order they came in."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meterstream_aggregator import subjects
from meterstream_aggregator.catalogue import DAY, HOUR, MINUTE
from meterstream_aggregator.sessions import Start
from meterstream_aggregator.subjects import (
    SETTLED_AFTER,
    Pair,
    Pairing,
    Repaired,
    Subject,
    dump,
    settled_before,
    too_early,
    undump,
)
from tests.unit.aggregator.folding_sessions import SINCE, Kept, folded
from tests.unit.aggregator.making import boundary
from tests.unit.aggregator.test_session_fold import said

if TYPE_CHECKING:
    from random import Random

    from meterstream_aggregator.batch import LogRecord

LONGEST = 40
STARTS = st.builds(
    Start, st.integers(0, 99), st.just(""), st.sampled_from(((), (("a", "1"),), (("é", "x\x00"),)))
)
BOUNDARIES = st.lists(STARTS | st.integers(0, 120), max_size=16)
SUBJECTS = st.builds(
    Subject,
    st.lists(STARTS, unique=True, max_size=6).map(lambda starts: tuple(sorted(starts))),
    st.lists(st.integers(0, 120), unique=True, max_size=6).map(lambda ends: tuple(sorted(ends))),
    *[st.integers(0, 2**62)] * 4,
)


def start(time: int) -> Start:
    """A start that says nothing else."""
    return Start(time, "", ())


def paired(boundaries: list[Start | int], longest: int = LONGEST) -> Pairing:
    """The pairing after these boundaries came in this order."""
    pairing = Pairing(Subject(), longest)
    for each in boundaries:
        if isinstance(each, int):
            pairing.add_end(each)
        else:
            pairing.add_start(each)
    return pairing


def plainly_paired(pairing: Pairing) -> tuple[list[Pair], list[int]]:
    """What a pairing of these boundaries must be: each end by itself looks for its start."""
    closed_by: dict[int, int] = {}
    left_over: list[int] = []
    for end in pairing.ends:
        fits = [
            at
            for at, each in enumerate(pairing.starts)
            if at not in closed_by and each.time <= end <= each.time + pairing.longest
        ]
        if fits:
            closed_by[fits[0]] = end
        else:
            left_over.append(end)
    return [Pair(each, closed_by.get(at)) for at, each in enumerate(pairing.starts)], left_over


@given(BOUNDARIES, st.randoms(use_true_random=False))
def test_order_and_repetition_change_nothing(told: list[Start | int], rng: Random) -> None:
    """Any order of arrival, boundaries told again included, is the same pairing."""
    again = [*told, *told[::2]]
    rng.shuffle(again)

    one, other = paired(told), paired(again)

    assert (one.starts, one.ends, one.closes) == (other.starts, other.ends, other.closes)
    assert (list(one.pairs()), one.left_over()) == plainly_paired(one)
    assert one.open == one.closes.count(None)
    assert len(one) == len(one.starts) + len(one.ends)


@given(BOUNDARIES)
def test_what_is_repaired_is_all_that_differs(told: list[Start | int]) -> None:
    """Applied one after the other, the repairs lead from nothing to the pairing."""
    pairing = Pairing(Subject(), LONGEST)
    known: dict[Start, Pair] = {}
    for each in told:
        added = pairing.add_end(each) if isinstance(each, int) else pairing.add_start(each)
        for before, after in added:
            assert known.get(after.start) == before != after
            known[after.start] = after

    assert sorted(known.values()) == list(pairing.pairs())


@pytest.mark.parametrize(
    ("told", "pairs", "left_over"),
    [
        ([start(1), start(2), 3, 4], [(1, 3), (2, 4)], []),
        ([start(1), 5, start(5)], [(1, 5), (5, None)], []),
        ([5, start(5)], [(5, 5)], []),
        ([3, start(5)], [(5, None)], [3]),
        ([start(1), start(30), 42], [(1, None), (30, 42)], []),
        ([start(1), start(30), 42, 41], [(1, 41), (30, 42)], []),
    ],
    ids=["first in, first out", "back to back", "empty", "left over", "too far", "within reach"],
)
def test_pairs(
    told: list[Start | int], pairs: list[tuple[int, int | None]], left_over: list[int]
) -> None:
    """Each end closes the oldest start that is open and within reach."""
    pairing = paired(told)

    assert [(pair.start.time, pair.end) for pair in pairing.pairs()] == pairs
    assert pairing.left_over() == left_over


def test_a_repair_names_what_was_and_what_is() -> None:
    """An end moves to an earlier start; the one that it closed is open again."""
    pairing = paired([start(5), 9])

    assert pairing.add_start(start(3)) == [
        Repaired(None, Pair(start(3), 9)),
        Repaired(Pair(start(5), 9), Pair(start(5), None)),
    ]
    assert pairing.add_end(12) == [Repaired(Pair(start(5), None), Pair(start(5), 12))]
    assert pairing.add_end(12) == pairing.add_start(start(3)) == []


@given(SUBJECTS, SUBJECTS)
def test_facts_have_one_text(one: Subject, other: Subject) -> None:
    """What is written reads back, and equal facts are equal texts."""
    assert undump(dump(one)) == one
    assert (dump(one) == dump(other)) == (one == other)


def test_a_boundary_may_come_a_month_late() -> None:
    """From then on it is refused, counted from its time or from when metering began."""
    end = boundary("END", SINCE + DAY, session=None)
    last = SINCE + DAY + SETTLED_AFTER

    assert not too_early(end, last, SINCE)
    assert too_early(end, last + 1, SINCE)
    assert not too_early(end._replace(session="s1"), last + 1, SINCE)
    assert not too_early(boundary("HEARTBEAT", SINCE, session=None), last + 1, SINCE)
    history = boundary("START", SINCE - 400 * DAY, session=None)
    assert not too_early(history, SINCE + SETTLED_AFTER, SINCE)
    assert too_early(history, SINCE + SETTLED_AFTER + 1, SINCE)
    assert settled_before(SINCE + SETTLED_AFTER, SINCE) == 0


def only(kept: Kept) -> Subject:
    """The facts of the one subject there is."""
    ((subject, _),) = kept.subjects.values()
    return subject


def bounds(*times: int, at: list[int]) -> list[LogRecord]:
    """Boundaries without an id, in hours after metering began: ends are negative."""
    return said(
        *[
            boundary("START" if time >= 0 else "END", SINCE + abs(time) * HOUR, session=None)
            for time in times
        ],
        at=[hours * 60 for hours in at],
    )


def test_what_cannot_change_is_settled() -> None:
    """A month on, closed sessions and ends left over are forgotten; what they cost stays."""
    month = 31 * 24
    log = bounds(-1, 2, -3, -4, 5, month + 10, at=[5, 5, 5, 5, 5, month + 10])

    kept = folded([log])

    subject = only(kept)
    assert [each.time for each in subject.starts] == [
        SINCE + 5 * HOUR,
        SINCE + (month + 10) * HOUR,
    ]
    assert (subject.ends, subject.conflicts, subject.settled) == ((), 2, SINCE + 4 * HOUR + 1)
    assert sum(time for place, (_, time) in kept.totals().items() if place[0] == "run") == HOUR


def test_what_nothing_can_end_any_more_stays_given_up() -> None:
    """Once the greatest length lies before what is settled, an open session is billed for good."""
    year = 470 * 24
    sign = boundary("HEARTBEAT", SINCE + 2 * HOUR, session=None)
    kept = folded([bounds(0, at=[0]), said(sign, at=[120])])
    before = kept.totals()

    kept.fold(bounds(year, at=[year]))

    assert [each.time for each in only(kept).starts] == [SINCE + year * HOUR]
    assert only(kept).settled == SINCE + 1
    assert not any(time for _, time in before.values())
    assert sum(time for _, time in kept.totals().values()) == 2 * HOUR


def test_a_subject_has_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of too many boundaries the earliest are settled; one before those is a conflict."""
    monkeypatch.setattr("meterstream_aggregator.subject_fold.BOUNDARIES_MAX", 4)
    log = bounds(1, -2, 3, -4, 5, at=[9] * 5)

    kept = folded([log])
    assert (only(kept).settled, len(only(kept).starts)) == (SINCE + 2 * HOUR + 1, 2)
    kept.fold(bounds(2, at=[9]))
    assert only(kept).conflicts == 1

    opened = folded([bounds(1, 2, 3, 4, 5, at=[9] * 5)])
    assert only(opened).starts[0].time == SINCE + 2 * HOUR
    assert only(opened).settled == SINCE + HOUR + 1

    many = [boundary("START", SINCE + n, type="idle", session=None) for n in range(5)]
    idle = folded([said(*many, at=[9] * 5)], upto=SINCE + 900 * DAY)
    assert sum(started for started, _ in idle.totals().values()) == 5
    assert not any(time for _, time in idle.totals().values())
    assert subjects.BOUNDARIES_MAX == 4096


def test_a_heartbeat_is_a_sign_of_all_that_is_open() -> None:
    """Both open sessions are billed up to it, and neither up to what other sessions say."""
    log = bounds(0, 1, at=[1, 1])
    sign = boundary("HEARTBEAT", SINCE + 90 * MINUTE, session=None)

    kept = folded([log, said(sign, at=[90])], upto=SINCE + 5 * HOUR)

    assert sum(time for place, (_, time) in kept.totals().items() if place[0] == "run") == (
        90 * MINUTE + 30 * MINUTE
    )
    (_, deadline), *_ = kept.subjects.values()
    assert deadline is None
    assert folded([log, said(sign, at=[90])]).subjects.popitem()[1][1] == SINCE + 110 * MINUTE

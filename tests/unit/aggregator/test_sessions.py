"""Sessions: any order, twice or never, and every microsecond in exactly one window."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meterstream_aggregator.catalogue import HOUR, MINUTE, TimeoutBills
from meterstream_aggregator.sessions import (
    CLAIMS_MAX,
    LENGTH_MAX,
    Charge,
    Session,
    billed_until,
    change,
    charge,
    deadline,
    observed,
    shares,
    state_of,
)
from tests.unit.aggregator.making import CATALOGUE, NOW, boundary

if TYPE_CHECKING:
    from collections.abc import Iterable
    from random import Random

RUN = CATALOGUE.meter("run")
PROD = CATALOGUE.meter("run.prod")
CALL = CATALOGUE.meter("call")
SIZES = st.sampled_from((MINUTE, 15 * MINUTE, HOUR))
CHARGES = st.none() | st.builds(
    Charge,
    group=st.sampled_from((("a",), ("b",))),
    start=st.integers(NOW, NOW + HOUR),
    until=st.none() | st.integers(NOW + HOUR, NOW + 4 * HOUR),
)
BOUNDARIES = st.lists(
    st.tuples(
        st.sampled_from(("START", "HEARTBEAT", "END")),
        st.integers(NOW, NOW + 3 * HOUR) | st.sampled_from((NOW, NOW + HOUR)),
        st.sampled_from((None, "u1", "u2")),
        st.sampled_from(({}, {"route": "/pay"}, {"route": "/"})),
    ),
    min_size=1,
    max_size=8,
)
Said = tuple[str, int, str | None, dict[str, str]]


def told(said: Iterable[Said], *, append_time: int = NOW + 4 * HOUR) -> Session:
    """The session after these boundaries."""
    session: Session | None = None
    for kind, time, subject, attributes in said:
        event = boundary(kind, time, subject=subject, attributes=attributes)
        session = observed(session, event, append_time)
    assert session is not None
    return session


def plain(*said: tuple[str, int]) -> Session:
    """The session after boundaries without subject and attributes, appended at `NOW`."""
    return told([(kind, time, None, {}) for kind, time in said], append_time=NOW)


def windows(parts: Iterable[tuple[tuple[str, ...], int, int, int]]) -> Counter[object]:
    """Microseconds and starts by (group, window), without zeros."""
    total: Counter[object] = Counter()
    for group, window, microseconds, started in parts:
        total[(group, window, "time")] += microseconds
        total[(group, window, "started")] += started
    return Counter({key: value for key, value in total.items() if value})


@given(BOUNDARIES, st.randoms(use_true_random=False))
def test_order_and_repetition_change_nothing(said: list[Said], rng: Random) -> None:
    """Any permutation with any repetitions is the same session and is charged the same."""
    again = [*said, *said[::2]]
    rng.shuffle(again)

    session, other = told(said), told(again)

    assert other == session
    for meter in (RUN, PROD):
        for appended in (NOW, NOW + 4 * HOUR + 40 * MINUTE, NOW + 9 * HOUR):
            assert charge(other, meter, appended) == charge(session, meter, appended)


@given(BOUNDARIES, st.integers(NOW, NOW + 9 * HOUR))
def test_shares_are_the_duration(said: list[Said], appended: int) -> None:
    """The windows of a charge add up to its duration, and one of them has the start."""
    charged = charge(told(said), RUN, appended)
    if charged is None:
        return

    parts = list(shares(charged, RUN.window))

    length = 0 if charged.until is None else charged.until - charged.start
    assert sum(share.microseconds for share in parts) == length
    assert sum(share.started for share in parts) == 1
    assert all(share.window % RUN.window == 0 for share in parts)


@given(CHARGES, CHARGES, CHARGES, SIZES)
def test_changes_compose(a: Charge | None, b: Charge | None, c: Charge | None, size: int) -> None:
    """From a to b to c is from a to c, window by window; there and back is nothing."""
    steps = windows((*change(a, b, size), *change(b, c, size)))
    back = windows((*change(a, b, size), *change(b, a, size)))

    steps.subtract(windows(change(a, c, size)))
    assert not any(steps.values())
    assert not any(back.values())


@given(CHARGES, SIZES)
def test_a_change_from_nothing_is_the_shares(charged: Charge | None, size: int) -> None:
    """Windows begin empty: the first change writes the whole charge."""
    whole = windows(shares(charged, size)) if charged is not None else Counter[object]()

    assert windows(change(None, charged, size)) == whole


def test_start_end_and_conflicts() -> None:
    """The earliest start and the earliest end not before it count; the others are conflicts."""
    session = plain(
        ("START", NOW + 5), ("START", NOW), ("END", NOW - 1), ("END", NOW + 9), ("END", NOW + 7)
    )

    assert (session.start, session.end, session.conflicts) == (NOW, NOW + 7, 3)
    assert state_of(session, [RUN], 0) == "closed"


def test_an_end_alone_waits() -> None:
    """An end without a start is unstarted and charged nothing; the start then closes it."""
    waiting = plain(("END", NOW + 9))

    assert state_of(waiting, [RUN], NOW + 9 * HOUR) == "unstarted"
    assert charge(waiting, RUN, NOW + 9 * HOUR) is None
    assert deadline(waiting, [RUN], 0) is None
    assert waiting.conflicts == 0
    assert (waiting.start, waiting.subject, waiting.attributes) == (None, None, {})
    closed = observed(waiting, boundary("START", NOW), NOW)
    assert charge(closed, RUN, 0) == Charge(("",), NOW, NOW + 9)


def test_a_session_without_duration_has_a_start() -> None:
    """Start and end at one moment: no time, and one session started."""
    charged = charge(plain(("START", NOW), ("END", NOW)), CALL, 0)
    assert charged is not None

    assert [(s.microseconds, s.started) for s in shares(charged, MINUTE)] == [(0, 1)]


@pytest.mark.parametrize(
    ("bills", "until"),
    [
        (TimeoutBills.LAST_SIGN, NOW + 10 * MINUTE),
        (TimeoutBills.TIMEOUT, NOW + 40 * MINUTE),
    ],
)
def test_a_timeout_bills_as_its_policy_says(bills: TimeoutBills, until: int) -> None:
    """Up to the last sign of life, or up to the timeout after it; never before append time."""
    meter = replace(RUN, timeout_bills=bills)
    session = told(
        [("START", NOW, None, {}), ("HEARTBEAT", NOW + 10 * MINUTE, None, {})], append_time=NOW + 1
    )
    due = NOW + 1 + 30 * MINUTE

    assert deadline(session, [meter], NOW) == due
    assert billed_until(session, meter, due - 1) is None
    assert state_of(session, [meter], due - 1) == "open"
    assert billed_until(session, meter, due) == until
    assert state_of(session, [meter], due) == "timed_out"
    assert deadline(session, [meter], due) is None


def test_deadlines_come_meter_by_meter() -> None:
    """The next deadline is the earliest that append time has not passed."""
    session = plain(("START", NOW))

    assert deadline(session, [PROD, CALL, RUN], NOW) == NOW + 30 * MINUTE
    assert deadline(session, [PROD, CALL, RUN], NOW + 30 * MINUTE) == NOW + 45 * MINUTE
    assert deadline(session, [PROD, CALL, RUN], NOW + 45 * MINUTE) is None


def test_a_real_end_outlives_a_timeout() -> None:
    """An end that comes after the timeout replaces what the timeout had billed."""
    before = plain(("START", NOW))
    after = observed(before, boundary("END", NOW + 2 * HOUR), NOW + 3 * HOUR)
    late = NOW + 3 * HOUR

    assert charge(before, RUN, late) == Charge(("",), NOW, NOW)
    assert charge(after, RUN, late) == Charge(("",), NOW, NOW + 2 * HOUR)
    assert state_of(after, [RUN], late + HOUR) == "closed"


def test_a_sign_of_life_takes_a_timeout_back() -> None:
    """A heartbeat after the timeout makes the session an open one again."""
    session = plain(("START", NOW))
    alive = observed(session, boundary("HEARTBEAT", NOW + HOUR), NOW + HOUR)

    assert billed_until(session, RUN, NOW + HOUR) == NOW
    assert billed_until(alive, RUN, NOW + HOUR) is None
    assert deadline(alive, [RUN], NOW + HOUR) == NOW + HOUR + 30 * MINUTE


def test_a_session_has_a_greatest_length() -> None:
    """An end further away is a conflict; a timeout bills no further."""
    limit = NOW + LENGTH_MAX

    assert plain(("START", NOW), ("END", limit)).end == limit
    too_far = plain(("START", NOW), ("END", limit + 1))
    assert (too_far.end, too_far.conflicts) == (None, 1)
    assert billed_until(too_far, RUN, NOW + 2 * LENGTH_MAX) == limit


@given(st.permutations(range(CLAIMS_MAX + 8)))
def test_claims_have_a_limit(order: list[int]) -> None:
    """Of too many starts and ends the smallest are kept, in any order of arrival."""
    session = plain(*[("START", NOW + n) for n in order], *[("END", NOW + HOUR + n) for n in order])

    assert [start.time for start in session.starts] == [NOW + n for n in range(CLAIMS_MAX)]
    assert session.ends == tuple(NOW + HOUR + n for n in range(CLAIMS_MAX))
    assert session.conflicts == 2 * (CLAIMS_MAX - 1)
    assert session.last_sign == NOW + HOUR + CLAIMS_MAX + 7


def test_a_filter_reads_the_start_that_counts() -> None:
    """Group and filter come from the earliest start, also where a later claim moves it."""
    session = told([("START", NOW + 5, "u2", {"route": "/"})])
    moved = observed(
        session, boundary("START", NOW, subject="u1", attributes={"route": "/pay"}), NOW
    )

    assert charge(session, PROD, 0) is None
    assert charge(moved, PROD, 0) == Charge((), NOW, None)
    assert charge(moved, RUN, 0) == Charge(("/pay",), NOW, None)
    assert (moved.subject, moved.attributes) == ("u1", {"route": "/pay"})

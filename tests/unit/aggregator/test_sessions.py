"""Sessions: what their boundaries say, in any order, twice or never."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meterstream_aggregator.catalogue import DAY, HOUR, LENGTH_MAX, MINUTE, TimeoutBills
from meterstream_aggregator.sessions import (
    CLAIMS_MAX,
    Session,
    billed_until,
    deadline,
    group_of,
    longest_of,
    observed,
    state_of,
)
from tests.unit.aggregator.making import CATALOGUE, NOW, boundary

if TYPE_CHECKING:
    from collections.abc import Iterable
    from random import Random

RUN = CATALOGUE.meter("run")
PROD = CATALOGUE.meter("run.prod")
CALL = CATALOGUE.meter("call")
LONGEST = 31 * DAY
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


@given(BOUNDARIES, st.randoms(use_true_random=False))
def test_order_and_repetition_change_nothing(said: list[Said], rng: Random) -> None:
    """Any permutation with any repetitions is the same session and is charged the same."""
    again = [*said, *said[::2]]
    rng.shuffle(again)

    session, other = told(said), told(again)

    assert other == session


def test_start_end_and_conflicts() -> None:
    """The earliest start and the earliest end not before it count; the others are conflicts."""
    session = plain(
        ("START", NOW + 5), ("START", NOW), ("END", NOW - 1), ("END", NOW + 9), ("END", NOW + 7)
    )

    assert (session.start, session.end_within(LONGEST)) == (NOW, NOW + 7)
    assert session.conflicts_within(LONGEST) == 3
    assert state_of(session, [RUN], 0, LONGEST) == "closed"


def test_an_end_alone_waits() -> None:
    """An end without a start is unstarted and bills nothing; the start then closes it."""
    waiting = plain(("END", NOW + 9))

    assert state_of(waiting, [RUN], NOW + 9 * HOUR, LONGEST) == "unstarted"
    assert billed_until(waiting, RUN, NOW + 9 * HOUR, LONGEST) is None
    assert deadline(waiting, [RUN], 0, LONGEST) is None
    assert waiting.conflicts_within(LONGEST) == 0
    assert (waiting.start, waiting.subject, waiting.attributes) == (None, None, {})
    closed = observed(waiting, boundary("START", NOW), NOW)
    assert billed_until(closed, RUN, 0, LONGEST) == NOW + 9
    assert deadline(closed, [RUN], 0, LONGEST) is None


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

    assert deadline(session, [meter], NOW, LONGEST) == due
    assert billed_until(session, meter, due - 1, LONGEST) is None
    assert state_of(session, [meter], due - 1, LONGEST) == "open"
    assert billed_until(session, meter, due, LONGEST) == until
    assert state_of(session, [meter], due, LONGEST) == "timed_out"
    assert deadline(session, [meter], due, LONGEST) is None


def test_deadlines_come_meter_by_meter() -> None:
    """The next deadline is the earliest that append time has not passed."""
    session = plain(("START", NOW))

    assert deadline(session, [PROD, CALL, RUN], NOW, LONGEST) == NOW + 30 * MINUTE
    assert deadline(session, [PROD, CALL, RUN], NOW + 30 * MINUTE, LONGEST) == NOW + 45 * MINUTE
    assert deadline(session, [PROD, CALL, RUN], NOW + 45 * MINUTE, LONGEST) is None


def test_a_real_end_outlives_a_timeout() -> None:
    """An end that comes after the timeout replaces what the timeout had billed."""
    before = plain(("START", NOW))
    after = observed(before, boundary("END", NOW + 2 * HOUR), NOW + 3 * HOUR)
    late = NOW + 3 * HOUR

    assert billed_until(before, RUN, late, LONGEST) == NOW
    assert billed_until(after, RUN, late, LONGEST) == NOW + 2 * HOUR
    assert state_of(after, [RUN], late + HOUR, LONGEST) == "closed"


def test_a_sign_of_life_takes_a_timeout_back() -> None:
    """A heartbeat after the timeout makes the session an open one again."""
    session = plain(("START", NOW))
    alive = observed(session, boundary("HEARTBEAT", NOW + HOUR), NOW + HOUR)

    assert billed_until(session, RUN, NOW + HOUR, LONGEST) == NOW
    assert billed_until(alive, RUN, NOW + HOUR, LONGEST) is None
    assert deadline(alive, [RUN], NOW + HOUR, LONGEST) == NOW + HOUR + 30 * MINUTE


def test_a_session_has_a_greatest_length() -> None:
    """An end further away is a conflict; a timeout bills no further."""
    limit = NOW + LONGEST

    assert plain(("START", NOW), ("END", limit)).end_within(LONGEST) == limit
    too_far = plain(("START", NOW), ("END", limit + 1))
    assert (too_far.end_within(LONGEST), too_far.conflicts_within(LONGEST)) == (None, 1)
    assert billed_until(too_far, RUN, NOW + 2 * LONGEST, LONGEST) == limit


def test_the_strictest_definition_says_how_long_one_may_last() -> None:
    """All meters of a type see the same sessions; without any the absolute limit stands."""
    assert longest_of([replace(RUN, longest=3 * DAY), replace(RUN, longest=2 * DAY)]) == 2 * DAY
    assert longest_of([]) == LENGTH_MAX


def test_only_what_reads_the_start_times_out() -> None:
    """A definition that ended before the session began neither gives it up nor groups it."""
    ended = replace(RUN, until=NOW)
    begun = replace(RUN, since=NOW, timeout=HOUR)
    session = plain(("START", NOW))

    assert deadline(session, [ended, begun], NOW, LONGEST) == NOW + HOUR
    assert state_of(session, [ended, begun], NOW + 45 * MINUTE, LONGEST) == "open"
    assert group_of(NOW, {"route": "/"}, ended) is None
    assert group_of(NOW, {"route": "/"}, begun) == ("/",)


@given(st.permutations(range(CLAIMS_MAX + 8)))
def test_claims_have_a_limit(order: list[int]) -> None:
    """Of too many starts and ends the smallest are kept, in any order of arrival."""
    session = plain(*[("START", NOW + n) for n in order], *[("END", NOW + HOUR + n) for n in order])

    assert [start.time for start in session.starts] == [NOW + n for n in range(CLAIMS_MAX)]
    assert session.ends == tuple(NOW + HOUR + n for n in range(CLAIMS_MAX))
    assert session.conflicts_within(LONGEST) == 2 * (CLAIMS_MAX - 1)
    assert session.last_sign == NOW + HOUR + CLAIMS_MAX + 7


def test_a_filter_reads_the_start_that_counts() -> None:
    """Group and filter come from the earliest start, also where a later claim moves it."""
    session = told([("START", NOW + 5, "u2", {"route": "/"})])
    moved = observed(
        session, boundary("START", NOW, subject="u1", attributes={"route": "/pay"}), NOW
    )

    assert group_of(NOW + 5, session.attributes, PROD) is None
    assert group_of(NOW, moved.attributes, PROD) == ()
    assert group_of(NOW, moved.attributes, RUN) == ("/pay",)
    assert (moved.subject, moved.attributes) == ("u1", {"route": "/pay"})


def test_a_state_is_the_one_of_the_earliest_start() -> None:
    """Of two starts the earlier says which definition gives the session up."""
    patient = replace(RUN, since=NOW + MINUTE, timeout=10 * HOUR)
    hasty = replace(RUN, until=NOW + MINUTE, timeout=HOUR)
    session = plain(("START", NOW), ("START", NOW + 2 * MINUTE))

    assert state_of(session, [hasty, patient], NOW + HOUR, LONGEST) == "timed_out"
    assert state_of(session, [hasty, patient], NOW + HOUR - 1, LONGEST) == "open"

"""Numbers seen, against a plain set: duplicates, holes, claims, and the stored form."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from meterstream_aggregator.dedup import (
    INTERVALS_MAX,
    PRODUCER_HORIZON,
    Numbers,
    TooManyHoles,
    expired,
    pack,
    unpack,
)

if TYPE_CHECKING:
    from random import Random

LANES = st.sampled_from((0, 3, 255))
TAKES = st.lists(st.tuples(LANES, st.integers(1, 40) | st.just(2**63 - 1)), max_size=80)
AT = 1_000
"""A log time."""
CLAIMS = st.lists(st.tuples(LANES, st.integers(1, 60)), max_size=5)


def taken(takes: list[tuple[int, int]]) -> Numbers:
    """Numbers after these, each taken once or more, all at one log time."""
    numbers = Numbers()
    for lane, number in takes:
        numbers.take(lane, number, AT)
    return numbers


def spread(holes: list[tuple[int, int, int, int]]) -> set[tuple[int, int]]:
    """The single numbers of holes."""
    return {(lane, number) for lane, low, high, _ in holes for number in range(low, high + 1)}


@given(TAKES)
def test_a_number_is_new_once(takes: list[tuple[int, int]]) -> None:
    """`take` answers as a set would, whatever the order."""
    numbers, seen = Numbers(), set[tuple[int, int]]()
    for lane, number in takes:
        assert numbers.take(lane, number, AT) is ((lane, number) not in seen)
        seen.add((lane, number))

    assert numbers.seen() == len(seen)


@given(st.lists(st.tuples(LANES, st.integers(1, 40)), max_size=80), CLAIMS)
def test_missing_is_what_lies_below(
    takes: list[tuple[int, int]], claims: list[tuple[int, int]]
) -> None:
    """Missing is every number below the highest seen or claimed of a lane that was not seen."""
    numbers = taken(takes)
    for lane, number in claims:
        numbers.claim(lane, number, AT, closing=False)
    seen = set(takes)
    highest: dict[int, int] = {}
    for lane, number in [*takes, *claims]:
        highest[lane] = max(number, highest.get(lane, 0))

    missing = numbers.missing()

    expected = {(lane, n) for lane, top in highest.items() for n in range(1, top + 1)} - seen
    assert spread(missing) == expected
    assert missing == sorted(missing)
    assert all(low <= high for _, low, high, _ in missing)
    assert dict(numbers.lanes()) == {
        lane: max((n for of, n in seen if of == lane), default=0) for lane in highest
    }


@given(st.lists(st.tuples(st.booleans(), st.sampled_from((0, 3)), st.integers(1, 8)), max_size=60))
def test_since_is_when_a_lane_stopped_being_whole(said: list[tuple[bool, int, int]]) -> None:
    """Numbers and marks in any order: a lane's time begins and ends with its holes."""
    numbers, seen, since = Numbers(), dict[int, set[int]](), dict[int, int]()
    highest: dict[int, int] = {}
    for at, (is_mark, lane, number) in enumerate(said, 1):
        if is_mark:
            numbers.claim(lane, number, at, closing=False)
        else:
            numbers.take(lane, number, at)
            seen.setdefault(lane, set()).add(number)
        highest[lane] = max(number, highest.get(lane, 0))
        if seen.get(lane, set()).issuperset(range(1, highest[lane] + 1)):
            since.pop(lane, None)
        else:
            since.setdefault(lane, at)

        assert numbers.since == since
        assert {(of, at) for of, _, _, at in numbers.missing()} == set(since.items())

    assert unpack(*pack(numbers)).since == since


@given(TAKES, st.randoms(use_true_random=False))
def test_order_leaves_no_trace(takes: list[tuple[int, int]], rng: Random) -> None:
    """The same numbers in any order have the same stored form: equal states are equal bytes."""
    shuffled = list(takes)
    rng.shuffle(shuffled)

    assert pack(taken(takes)) == pack(taken(shuffled))


@given(TAKES, CLAIMS)
def test_the_stored_form_is_the_state(
    takes: list[tuple[int, int]], claims: list[tuple[int, int]]
) -> None:
    """What was packed comes back, and goes on answering the same."""
    numbers = taken(takes)
    for lane, number in claims:
        numbers.claim(lane, number, AT, closing=False)

    back = unpack(*pack(numbers))

    assert pack(back) == pack(numbers)
    assert np.array_equal(back.upto, numbers.upto)
    assert (back.beyond, back.claimed) == (numbers.beyond, numbers.claimed)
    assert (back.since, back.lanes()) == (numbers.since, numbers.lanes())
    assert back.missing() == numbers.missing()
    for lane in (0, 3, 255):
        for number in range(1, 42):
            assert back.take(lane, number, AT) is numbers.take(lane, number, AT)


def test_a_gapless_producer_is_one_integer_a_lane() -> None:
    """Nothing irregular is stored for a producer that lost nothing."""
    packed, irregular = pack(taken([(lane, n) for lane in (1, 2) for n in (1, 2, 3)]))

    assert irregular is None
    assert len(packed) == 2 * 9


def test_a_filled_hole_leaves_nothing() -> None:
    """Once the hole is filled the lane is regular again."""
    numbers = taken([(0, 1), (0, 3), (0, 4), (0, 6), (0, 2), (0, 5)])

    assert not numbers.beyond
    assert numbers.upto[0] == 6
    assert not numbers.missing()
    assert pack(numbers)[1] is None


def test_claims_only_grow() -> None:
    """A lower claim that comes late changes nothing, and what was closed stays closed."""
    numbers = Numbers()
    numbers.claim(7, 9, AT, closing=True)
    numbers.claim(7, 4, AT + 1, closing=False)

    assert numbers.closed
    assert numbers.missing() == [(7, 1, 9, AT)]
    assert numbers.lanes() == ((7, 0),)


def test_a_mark_of_what_was_seen_leaves_no_hole() -> None:
    """The usual mark tells nothing new; a lost tail that comes after all is forgotten."""
    numbers = taken([(0, 1), (0, 2)])
    numbers.claim(0, 2, AT, closing=False)
    usual = numbers.missing()
    numbers.claim(0, 3, AT + 1, closing=False)
    lost = numbers.missing()
    numbers.take(0, 3, AT + 2)

    assert (usual, lost, numbers.missing()) == ([], [(0, 3, 3, AT + 1)], [])
    assert numbers.lanes() == ((0, 3),)
    assert not numbers.since


def test_a_producer_expires_after_its_horizon() -> None:
    """More than the horizon after its last sign of life; who was never heard is new."""
    heard, unheard = Numbers(last_append=AT), Numbers()

    assert not expired(heard, AT)
    assert not expired(heard, AT + PRODUCER_HORIZON)
    assert expired(heard, AT + PRODUCER_HORIZON + 1)
    assert not expired(unheard, AT + PRODUCER_HORIZON + 1)


def test_holes_have_a_limit() -> None:
    """A number that needs one interval too many is not taken; joining and filling go on."""
    numbers = Numbers()
    for at in range(INTERVALS_MAX):
        numbers.take(0, 3 + 2 * at, AT)
    last = 3 + 2 * (INTERVALS_MAX - 1)

    stored = pack(numbers)
    with pytest.raises(TooManyHoles, match=f"number {last + 5} is not taken"):
        numbers.take(0, last + 5, AT)

    assert pack(numbers) == stored
    assert numbers.seen() == INTERVALS_MAX
    assert not numbers.take(0, last, AT)
    assert numbers.take(0, last + 1, AT)
    assert numbers.take(0, 4, AT)
    assert numbers.take(0, last + 5, AT)
    with pytest.raises(TooManyHoles):
        numbers.take(0, last + 50, AT)
    assert numbers.take(1, last + 50, AT)


@given(st.lists(st.tuples(LANES, st.integers(2, 5)), max_size=6), LANES)
def test_one_lane_is_told_as_among_all(takes: list[tuple[int, int]], only: int) -> None:
    """Asking for one lane gives what stands for it among all, a lane of holes only included."""
    numbers = taken(takes)

    assert numbers.lanes(only) == tuple(told for told in numbers.lanes() if told[0] == only)


def test_a_silent_producer_may_come_back_for_ninety_days() -> None:
    """The horizon is part of what was promised."""
    assert PRODUCER_HORIZON == 90 * 86_400 * 1_000_000


def test_a_number_before_a_run_keeps_all_of_the_run() -> None:
    """Joining what comes after loses none of it."""
    numbers = taken([(0, 5), (0, 6), (0, 7), (0, 4)])

    assert [numbers.take(0, number, AT) for number in (4, 5, 6, 7)] == [False] * 4
    assert numbers.missing() == [(0, 1, 3, AT)]


def test_all_lanes_are_stored_and_read_again() -> None:
    """The stored form of a producer that used every lane."""
    numbers = taken([(lane, 1) for lane in range(256)])

    again = unpack(*pack(numbers))

    assert again.upto.tolist() == [1] * 256
    assert (again.counted, again.duplicates, again.refusals) == (0, 0, 0)

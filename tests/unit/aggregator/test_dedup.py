"""Numbers seen, against a plain set: duplicates, holes, claims, and the stored form."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from meterstream_aggregator.dedup import INTERVALS_MAX, Numbers, TooManyHoles, pack, unpack

if TYPE_CHECKING:
    from random import Random

LANES = st.sampled_from((0, 3, 255))
TAKES = st.lists(st.tuples(LANES, st.integers(1, 40) | st.just(2**63 - 1)), max_size=80)
CLAIMS = st.lists(st.tuples(LANES, st.integers(1, 60)), max_size=5)


def taken(takes: list[tuple[int, int]]) -> Numbers:
    """Numbers after these, each taken once or more."""
    numbers = Numbers()
    for lane, number in takes:
        numbers.take(lane, number)
    return numbers


def spread(holes: list[tuple[int, int, int]]) -> set[tuple[int, int]]:
    """The single numbers of holes."""
    return {(lane, number) for lane, low, high in holes for number in range(low, high + 1)}


@given(TAKES)
def test_a_number_is_new_once(takes: list[tuple[int, int]]) -> None:
    """`take` answers as a set would, whatever the order."""
    numbers, seen = Numbers(), set[tuple[int, int]]()
    for lane, number in takes:
        assert numbers.take(lane, number) is ((lane, number) not in seen)
        seen.add((lane, number))

    assert numbers.seen() == len(seen)


@given(st.lists(st.tuples(LANES, st.integers(1, 40)), max_size=80), CLAIMS)
def test_missing_is_what_lies_below(
    takes: list[tuple[int, int]], claims: list[tuple[int, int]]
) -> None:
    """Missing is every number below the highest seen or claimed of a lane that was not seen."""
    numbers = taken(takes)
    for lane, number in claims:
        numbers.claim(lane, number, closing=False)
    seen = set(takes)
    highest: dict[int, int] = {}
    for lane, number in [*takes, *claims]:
        highest[lane] = max(number, highest.get(lane, 0))

    missing = numbers.missing()

    expected = {(lane, n) for lane, top in highest.items() for n in range(1, top + 1)} - seen
    assert spread(missing) == expected
    assert missing == sorted(missing)
    assert all(low <= high for _, low, high in missing)


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
        numbers.claim(lane, number, closing=False)

    back = unpack(*pack(numbers))

    assert pack(back) == pack(numbers)
    assert np.array_equal(back.upto, numbers.upto)
    assert (back.beyond, back.claimed) == (numbers.beyond, numbers.claimed)
    assert back.missing() == numbers.missing()
    for lane in (0, 3, 255):
        for number in range(1, 42):
            assert back.take(lane, number) is numbers.take(lane, number)


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


def test_claims_only_grow() -> None:
    """A lower claim that comes late changes nothing, and what was closed stays closed."""
    numbers = Numbers()
    numbers.claim(7, 9, closing=True)
    numbers.claim(7, 4, closing=False)

    assert numbers.closed
    assert numbers.missing() == [(7, 1, 9)]


def test_holes_have_a_limit() -> None:
    """A number that needs one interval too many is not taken; joining and filling go on."""
    numbers = Numbers()
    for at in range(INTERVALS_MAX):
        numbers.take(0, 3 + 2 * at)
    last = 3 + 2 * (INTERVALS_MAX - 1)

    with pytest.raises(TooManyHoles, match=f"number {last + 5} is not taken"):
        numbers.take(0, last + 5)

    assert numbers.seen() == INTERVALS_MAX
    assert not numbers.take(0, last)
    assert numbers.take(0, last + 1)
    assert numbers.take(0, 4)
    assert numbers.take(0, last + 5)
    with pytest.raises(TooManyHoles):
        numbers.take(0, last + 50)
    assert numbers.take(1, last + 50)

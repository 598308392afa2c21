"""Which values a figure reaches, by which step, and in which period."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from meterstream_aggregator.catalogue import DAY, HOUR, Threshold
from meterstream_aggregator.thresholds import (
    NO_OFFSET,
    Movement,
    Periods,
    Place,
    advanced,
    identity,
    notice,
)
from meterstream_schemas.quantity import Amount

if TYPE_CHECKING:
    from collections.abc import Sequence

MIDNIGHT = 1_767_225_600_000_000
"""2026-01-01T00:00:00Z."""
THRESHOLD = Threshold("t", "m", "tenant", (), "1mo", "Europe/Berlin", 1, ("5", "7.5", "20"))


def moved(
    *amounts: int, scale: int = 0, greatest: bool = False, at: Sequence[str] = THRESHOLD.at
) -> Movement:
    """Steps at offsets 10, 11, 12 … of partition 3."""
    wide = any(not -(2**63) <= amount < 2**63 for amount in amounts)
    return Movement(
        THRESHOLD._replace(at=tuple(at)),
        "acme",
        MIDNIGHT - HOUR,
        MIDNIGHT + 31 * DAY - HOUR,
        greatest=greatest,
        scale=scale,
        amounts=np.array(amounts, dtype=object if wide else np.int64),
        places=np.array([(3, 10 + n, MIDNIGHT + n) for n in range(len(amounts))], dtype=np.int64),
    )


def test_a_value_is_reached_by_the_first_step_that_comes_to_it() -> None:
    """At it counts, above it counts, and what is taken away afterwards changes nothing."""
    after, crossings = advanced(None, moved(2, 3, 4, -9, 30), ())

    assert after == Amount(30, 0)
    assert [(c.at, c.value, c.place) for c in crossings] == [
        ("5", Amount(5, 0), Place(3, 11, MIDNIGHT + 1)),
        ("7.5", Amount(9, 0), Place(3, 12, MIDNIGHT + 2)),
        ("20", Amount(30, 0), Place(3, 14, MIDNIGHT + 4)),
    ]


def test_what_was_told_of_is_not_told_again() -> None:
    """A value below which the figure fell is reached once."""
    _, crossings = advanced(Amount(4, 0), moved(2, 3), {"5"})

    assert [c.at for c in crossings] == ["7.5"]


def test_a_value_that_was_passed_unwatched_is_told_without_a_place() -> None:
    """Nobody knows which event it was."""
    _, crossings = advanced(Amount(60, 1), moved(-3), ())

    assert [(c.at, c.value, c.place) for c in crossings] == [("5", Amount(60, 1), None)]


def test_the_greatest_of_all() -> None:
    """A maximum never falls, and a smaller step reaches nothing."""
    after, crossings = advanced(Amount(6, 0), moved(3, 8, 2, greatest=True), {"5"})

    assert after == Amount(8, 0)
    assert [(c.at, c.place) for c in crossings] == [("7.5", Place(3, 11, MIDNIGHT + 1))]
    after, crossings = advanced(None, moved(-3, -1, greatest=True), ())
    assert (after, crossings) == (Amount(-1, 0), [])


@pytest.mark.parametrize("greatest", [False, True])
@given(
    amounts=st.lists(
        st.integers(-20, 20) | st.integers(-(2**63), 2**63 - 1) | st.integers(-(2**70), 2**70),
        min_size=1,
        max_size=8,
    ),
    scale=st.integers(0, 18),
    before=st.none()
    | st.tuples(st.integers(-(2**80), 2**80) | st.integers(-9, 9), st.integers(0, 18)),
    at=st.lists(st.integers(1, 2**62) | st.integers(1, 40), min_size=1, max_size=4, unique=True),
)  # fmt: skip
def test_it_is_what_decimals_say(
    amounts: list[int],
    scale: int,
    before: tuple[int, int] | None,
    at: list[int],
    *,
    greatest: bool,
) -> None:
    """Of any size and scale: compared to adding up decimals one by one."""
    total = None if before is None else Amount(*before)
    values = [str(Decimal(value).scaleb(-1).normalize().to_eng_string()) for value in sorted(at)]
    values = [format(Decimal(value), "f") for value in values]

    after, crossings = advanced(
        total, moved(*amounts, scale=scale, greatest=greatest, at=values), ()
    )

    expected: dict[str, Any] = {}
    height = None if total is None else total.decimal()
    if height is not None:
        expected |= {value: (height, None) for value in values if height >= Decimal(value)}
    for n, amount in enumerate(amounts):
        step = Amount(amount, scale).decimal()
        if height is None:
            height = step
        else:
            height = max(height, step) if greatest else _exact_sum(height, step)
        for value in values:
            if height >= Decimal(value):
                expected.setdefault(value, (height, 10 + n))
    assert after.decimal() == height
    assert {c.at: (c.value.decimal(), c.place and c.place.offset) for c in crossings} == expected


def _exact_sum(one: Decimal, other: Decimal) -> Decimal:
    places = max(-int(one.as_tuple().exponent), -int(other.as_tuple().exponent), 0)
    whole = sum(int(f"{each:f}".replace(".", "").ljust(1)) * 10 ** (
        places - max(-int(each.as_tuple().exponent), 0)
    ) for each in (one, other))  # fmt: skip
    return Amount(whole, places).decimal()


def test_a_notice() -> None:
    """Its id and key are the same each time; times are told in the threshold's zone."""
    movement = moved(25)
    _, crossings = advanced(None, movement, ())

    told = [notice(movement, crossing) for crossing in crossings]

    assert told == [notice(movement, crossing) for crossing in crossings]
    assert told[0][0] == b"t|acme|2025-12-31T23:00:00+00:00|5"
    documents = [json.loads(value) for _, value in told]
    assert len({document["id"] for document in documents}) == 3
    assert documents[1] == {
        "id": documents[1]["id"],
        "type": "threshold.reached",
        "timestamp": "2026-01-01T00:00:00+00:00",
        "data": {
            "threshold": "t",
            "meter": "m",
            "tenant": "acme",
            "from": "2026-01-01T00:00:00+01:00",
            "to": "2026-02-01T00:00:00+01:00",
            "zone": "Europe/Berlin",
            "at": "7.5",
            "value": "25",
            "partition": 3,
            "offset": 10,
        },
    }


def test_a_notice_of_what_time_did() -> None:
    """A timeout has a place in the log's time and no record; what nobody watched has neither."""
    movement = moved(25)
    _, [first, *_] = advanced(None, movement, ())

    timed_out = json.loads(notice(movement, first._replace(place=Place(3, NO_OFFSET, MIDNIGHT)))[1])
    unwatched = json.loads(notice(movement, first._replace(place=None))[1])

    assert (timed_out["data"]["partition"], timed_out["data"]["offset"]) == (3, None)
    assert (unwatched["timestamp"], unwatched["data"]["partition"]) == (None, None)


def test_another_figure_is_another_threshold() -> None:
    """What is added up makes the identity; the values to be reached do not."""
    assert identity(THRESHOLD) == identity(THRESHOLD._replace(at=("1",), of=("x",)))
    for change in ({"meter": "x"}, {"every": "1d"}, {"zone": "UTC"}, {"anchor": 2}):
        assert identity(THRESHOLD) != identity(THRESHOLD._replace(**change))


@pytest.mark.parametrize(
    ("every", "zone", "anchor", "time", "period"),
    [
        ("1d", "UTC", 1, MIDNIGHT, (MIDNIGHT, MIDNIGHT + DAY)),
        ("1d", "UTC", 1, MIDNIGHT - 1, (MIDNIGHT - DAY, MIDNIGHT)),
        ("6h", "UTC", 1, MIDNIGHT + 7 * HOUR, (MIDNIGHT + 6 * HOUR, MIDNIGHT + 12 * HOUR)),
        ("1w", "UTC", 1, MIDNIGHT, (MIDNIGHT - 3 * DAY, MIDNIGHT + 4 * DAY)),
        ("1mo", "UTC", 31, MIDNIGHT, (MIDNIGHT - DAY, MIDNIGHT + 30 * DAY)),
        ("1mo", "UTC", 31, MIDNIGHT + 30 * DAY, (MIDNIGHT + 30 * DAY, MIDNIGHT + 58 * DAY)),
        ("1q", "UTC", 1, MIDNIGHT + 40 * DAY, (MIDNIGHT, MIDNIGHT + 90 * DAY)),
        ("1y", "UTC", 1, MIDNIGHT + 40 * DAY, (MIDNIGHT, MIDNIGHT + 365 * DAY)),
        ("1d", "Europe/Berlin", 1, MIDNIGHT + 87 * DAY,
         (MIDNIGHT + 87 * DAY - HOUR, MIDNIGHT + 88 * DAY - 2 * HOUR)),
    ],
)  # fmt: skip
def test_the_period_that_holds_an_instant(
    every: str, zone: str, anchor: int, time: int, period: tuple[int, int]
) -> None:
    """Days of 23 hours, months from the 31st, weeks over the year's end."""
    start, end = period
    periods = Periods(THRESHOLD._replace(every=every, zone=zone, anchor=anchor))

    assert periods.of(time) == (start, end)
    assert periods.of(start) == (start, end)
    assert periods.of(end - 1) == (start, end)
    assert periods.of(end)[0] == end

"""In every zone there is, whatever the lengths, periods join up and hold every instant once."""

from __future__ import annotations

import random
from itertools import pairwise
from zoneinfo import ZoneInfo, available_timezones

import pytest

from meterstream_aggregator.catalogue import DAY, HOUR, MINUTE
from meterstream_aggregator.civil import local_time, parse_time
from meterstream_aggregator.periods import parse_every, period_bounds

ZONES = sorted(available_timezones())
FIRST, LAST = (parse_time(text, ZoneInfo("UTC")) // MINUTE for text in ("1973-01-01", "2037-06-01"))
CUTS = [
    ("1h", 1, 3),
    ("6h", 1, 9),
    ("36h", 1, 9),
    ("1d", 1, 40),
    ("1w", 1, 60),
    ("1mo", 1, 200),
    ("1mo", 31, 200),
    ("1mo", 29, 200),
    ("1q", 1, 500),
    ("1q", 30, 500),
    ("1y", 1, 1200),
]


@pytest.mark.parametrize(("every", "anchor", "days"), CUTS)
def test_all_zones_are_tiled(every: str, anchor: int, days: int) -> None:
    """Cutting a time at any of its own boundaries, and each part by itself, gives the same cuts."""
    cut = parse_every(every, anchor_day=anchor)
    for name in ZONES:
        zone = ZoneInfo(name)
        start = random.randrange(FIRST, LAST) * MINUTE
        end = start + random.randrange(1, days * 1440) * MINUTE

        whole = period_bounds(start, end, cut, zone)
        middle = random.choice(whole[1:])
        before = period_bounds(start, middle, cut, zone)
        after = period_bounds(middle, end, cut, zone) if middle < end else [end]

        assert (whole[0], whole[-1]) == (start, end), name
        assert all(low < high for low, high in pairwise(whole)), name
        assert before[:-1] + after == whole, (name, every, anchor, start, end, middle)


def test_boundaries_of_longer_periods_are_boundaries_of_shorter_ones() -> None:
    """Hours add up to days, days to weeks, months and billing months, months to quarters, years."""
    for name in ZONES:
        zone = ZoneInfo(name)
        start = random.randrange(FIRST, LAST) * MINUTE
        end = start + random.randrange(1, 400 * 1440) * MINUTE

        days = set(period_bounds(start, end, "1d", zone))
        months = set(period_bounds(start, end, "1mo", zone))
        for every in ("1w", "1mo", "1q", "1y"):
            assert set(period_bounds(start, end, every, zone)) <= days, (name, every, start, end)
        for every in ("1q", "1y"):
            assert set(period_bounds(start, end, every, zone)) <= months, (name, every, start, end)
        anchored = parse_every("1mo", anchor_day=random.randrange(1, 32))
        assert set(period_bounds(start, end, anchored, zone)) <= days, (name, start, end)


def test_the_days_of_the_clocks_changes() -> None:
    """In Berlin one day of 2026 has 23 hours and one has 25; every other has 24."""
    zone = ZoneInfo("Europe/Berlin")
    bounds = period_bounds(
        parse_time("2026-01-01", zone), parse_time("2027-01-01", zone), "1d", zone
    )

    odd = {
        local_time(low, zone).date().isoformat(): (high - low) // HOUR
        for low, high in pairwise(bounds)
        if high - low != DAY
    }

    assert odd == {"2026-03-29": 23, "2026-10-25": 25}


def test_hours_of_the_days_of_the_clocks_changes() -> None:
    """A day of 23 hours has 23 periods of an hour, one of 25 has 25, all of sixty minutes."""
    zone = ZoneInfo("Europe/Berlin")
    for day, after, hours in (
        ("2026-03-29", "2026-03-30", 23),
        ("2026-10-25", "2026-10-26", 25),
    ):
        bounds = period_bounds(parse_time(day, zone), parse_time(after, zone), "1h", zone)

        assert [high - low for low, high in pairwise(bounds)] == [HOUR] * hours


def test_a_billing_month_over_a_change_of_the_clock() -> None:
    """The month that holds the change is an hour shorter; the anchor returns to the 31st."""
    zone = ZoneInfo("America/New_York")
    every = parse_every("1mo", anchor_day=31)

    bounds = period_bounds(
        parse_time("2026-01-31", zone), parse_time("2026-05-31", zone), every, zone
    )

    shown = [local_time(bound, zone).strftime("%m-%d %H:%M") for bound in bounds]
    assert shown == ["01-31 00:00", "02-28 00:00", "03-31 00:00", "04-30 00:00", "05-31 00:00"]
    assert [(high - low) / DAY for low, high in pairwise(bounds)][1] == 31 - 1 / 24

"""Billing cycles that begin at an instant."""

from __future__ import annotations

from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meterstream_aggregator.civil import local_time, parse_time
from meterstream_aggregator.cycles import cycle_at, cycle_bounds, cycle_start

UTC = ZoneInfo("UTC")
ZONES = ["UTC", "America/New_York", "Asia/Kolkata", "Pacific/Apia", "Australia/Lord_Howe"]
INSTANTS = st.integers(0, 4_000_000_000_000_000)


def at(text: str) -> int:
    """An instant written in UTC."""
    return parse_time(text, UTC)


def test_the_thirty_first_clamps_and_returns() -> None:
    """Shorter months begin a cycle on their last day, the next long one on the 31st again."""
    anchor = at("2024-01-31T09:30:00Z")

    starts = [cycle_start(anchor, 1, number, UTC) for number in range(-1, 4)]

    assert starts == [
        at("2023-12-31T09:30:00Z"),
        anchor,
        at("2024-02-29T09:30:00Z"),
        at("2024-03-31T09:30:00Z"),
        at("2024-04-30T09:30:00Z"),
    ]


def test_the_time_of_day_is_the_clocks() -> None:
    """A cycle that begins at nine in New York begins at nine in summer too."""
    new_york = ZoneInfo("America/New_York")
    anchor = parse_time("2024-01-15T09:00", new_york)

    assert cycle_start(anchor, 6, 1, new_york) == parse_time("2024-07-15T09:00", new_york)


def test_bounds_are_cut_by_the_span() -> None:
    """The first and the last cycle end where the question does."""
    anchor = at("2024-01-31T00:00:00Z")

    assert cycle_bounds(at("2024-02-10"), at("2024-04-02"), anchor, 1, UTC) == [
        at("2024-02-10"),
        at("2024-02-29"),
        at("2024-03-31"),
        at("2024-04-02"),
    ]


@given(
    time=INSTANTS,
    anchor=INSTANTS,
    months=st.sampled_from([1, 2, 3, 6, 12, 48]),
    zone=st.sampled_from(ZONES).map(ZoneInfo),
)
def test_every_instant_lies_in_one_cycle(
    time: int, anchor: int, months: int, zone: ZoneInfo
) -> None:
    """Cycles tile: the next begins where one ends, and the day of the month is the anchor's."""
    start, end = cycle_at(time, anchor, months, zone)

    assert start <= time < end
    assert cycle_at(end, anchor, months, zone)[0] == end
    assert cycle_at(end - 1, anchor, months, zone) == (start, end)
    assert local_time(end, zone).day <= local_time(anchor, zone).day + 1


@pytest.mark.parametrize("name", ZONES)
def test_bounds_tile(name: str) -> None:
    """Neighbouring cycles meet, over five years and both clock changes of each."""
    zone = ZoneInfo(name)
    low, high = at("2021-03-03"), at("2026-03-03")

    bounds = cycle_bounds(low, high, at("2020-12-31T13:45:30Z"), 1, zone)

    assert (bounds[0], bounds[-1], len(bounds)) == (low, high, 62)
    assert all(before < after for before, after in pairwise(bounds))

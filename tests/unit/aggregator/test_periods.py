"""Periods tile time, and begin where local clocks say, in every zone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo, available_timezones

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meterstream_aggregator.catalogue import DAY, HOUR, MINUTE
from meterstream_aggregator.civil import InvalidQuestion, local_time, parse_time
from meterstream_aggregator.periods import PERIODS_MAX, parse_every, period_bounds

ZONES = sorted(available_timezones())
NEW_YORK = ZoneInfo("America/New_York")
YEARS = (parse_time("1973-01-01", UTC), parse_time("2037-12-01", UTC))

zones = st.sampled_from(ZONES).map(ZoneInfo)
minutes = st.integers(YEARS[0] // MINUTE, YEARS[1] // MINUTE).map(lambda n: n * MINUTE)
cuts = st.sampled_from(
    [
        "15m",
        "30m",
        "1h",
        "6h",
        "45m",
        "36h",
        "1d",
        "7d",
        "1w",
        "2w",
        "1mo",
        "2mo",
        "1q",
        "1y",
        "total",
    ]
)


def _texts(bounds: list[int], zone: ZoneInfo) -> list[str]:
    return [local_time(bound, zone).strftime("%Y-%m-%d %H:%M %z") for bound in bounds]


def _bounds(start: str, end: str, every: str, zone: ZoneInfo, **options: int) -> list[int]:
    cut = parse_every(every, **options)
    return period_bounds(parse_time(start, zone), parse_time(end, zone), cut, zone)


@given(zones, minutes, st.integers(1, 60 * 24 * 20), cuts)
@settings(max_examples=400, deadline=None)
def test_periods_tile(zone: ZoneInfo, start: int, length: int, every: str) -> None:
    """In any zone, from any minute, periods join without gap or overlap from start to end."""
    end = start + length * MINUTE

    bounds = period_bounds(start, end, every, zone)

    assert bounds[0] == start
    assert bounds[-1] == end
    assert bounds == sorted(set(bounds))


@given(zones, minutes, st.integers(1, 60 * 24 * 40))
@settings(max_examples=400, deadline=None)
def test_days_begin_when_the_local_date_begins(zone: ZoneInfo, start: int, length: int) -> None:
    """Each inner day boundary is the first of its date: midnight, or after a skipped one."""
    bounds = period_bounds(start, start + length * MINUTE, "1d", zone)

    for bound in bounds[1:-1]:
        after, before = local_time(bound, zone), local_time(bound - 1, zone)
        assert after.date() > before.date()
        skipped = after.utcoffset() != before.utcoffset()
        assert skipped or (after.hour, after.minute, after.second) == (0, 0, 0)


@given(zones, minutes, st.integers(1, 60 * 24 * 40))
@settings(max_examples=200, deadline=None)
def test_no_local_date_is_missed(zone: ZoneInfo, start: int, length: int) -> None:
    """Every quarter hour of a day period shows the period's own date, wherever clocks run on."""
    bounds = period_bounds(start, start + length * MINUTE, "1d", zone)

    for low, high in pairwise(bounds):
        offsets = {local_time(t, zone).utcoffset() for t in range(low, high, 15 * MINUTE)}
        dates = {local_time(t, zone).date() for t in range(low, high, 15 * MINUTE)}
        assert len(dates) == 1 or len(offsets) > 1


@given(zones, minutes, st.integers(1, 60 * 24 * 10), st.sampled_from(["15m", "1h", "6h"]))
@settings(max_examples=200, deadline=None)
def test_spans_never_cross_a_day(zone: ZoneInfo, start: int, length: int, every: str) -> None:
    """Boundaries of days are boundaries of hours too, so hours add up to days."""
    end = start + length * MINUTE

    days = period_bounds(start, end, "1d", zone)

    assert set(days) <= set(period_bounds(start, end, every, zone))


@given(zones, minutes, st.integers(1, 60 * 24 * 1200), st.integers(1, 31))
@settings(max_examples=200, deadline=None)
def test_months_begin_on_the_anchor_or_the_last_day(
    zone: ZoneInfo, start: int, length: int, anchor: int
) -> None:
    """A billing month begins on its anchor day; a month without such a day gives its last."""
    every = parse_every("1mo", anchor_day=anchor)

    for bound in period_bounds(start, start + length * MINUTE, every, zone)[1:-1]:
        day = local_time(bound, zone).date()
        clamped = day.day < anchor and (day + timedelta(days=1)).month != day.month
        skipped = local_time(bound - 1, zone).date() < day - timedelta(days=1)
        assert day.day == anchor or clamped or skipped


def test_days_of_twenty_three_and_twenty_five_hours() -> None:
    """The days on which New York changes its clocks last 23 and 25 hours."""
    spring = _bounds("2026-03-08", "2026-03-09", "1d", NEW_YORK)
    autumn = _bounds("2026-11-01", "2026-11-02", "1d", NEW_YORK)

    assert spring[1] - spring[0] == 23 * HOUR
    assert autumn[1] - autumn[0] == 25 * HOUR


def test_hours_of_the_day_the_clock_is_put_back() -> None:
    """The hour that is shown twice gives two periods, told apart by their offset."""
    texts = _texts(_bounds("2026-11-01", "2026-11-01T03:00", "1h", NEW_YORK), NEW_YORK)

    assert texts == [
        "2026-11-01 00:00 -0400",
        "2026-11-01 01:00 -0400",
        "2026-11-01 01:00 -0500",
        "2026-11-01 02:00 -0500",
        "2026-11-01 03:00 -0500",
    ]


def test_six_hours_follow_the_clock() -> None:
    """Quarters of a day stay at 0, 6, 12 and 18 o'clock on a day of 23 hours."""
    texts = _texts(_bounds("2026-03-08", "2026-03-09", "6h", NEW_YORK), NEW_YORK)

    assert [text[11:16] for text in texts] == ["00:00", "06:00", "12:00", "18:00", "00:00"]


def test_half_an_hour_of_change_keeps_hours_on_the_clock() -> None:
    """Lord Howe puts its clock back half an hour: one period of 90 minutes, all on the hour."""
    zone = ZoneInfo("Australia/Lord_Howe")

    bounds = _bounds("2026-04-05", "2026-04-06", "1h", zone)

    assert {local_time(bound, zone).minute for bound in bounds} == {0}
    assert sorted({high - low for low, high in pairwise(bounds)}) == [
        HOUR,
        90 * MINUTE,
    ]
    assert bounds[-1] - bounds[0] == DAY + 30 * MINUTE


def test_a_skipped_midnight() -> None:
    """Where the clock skips midnight the day begins with its first minute, one o'clock."""
    zone = ZoneInfo("America/Sao_Paulo")

    texts = _texts(_bounds("2018-11-03", "2018-11-06", "1d", zone), zone)

    assert texts[1] == "2018-11-04 01:00 -0200"


def test_a_skipped_day() -> None:
    """Samoa had no 30 December 2011: the 29th joins the 31st, and no empty day is made up."""
    zone = ZoneInfo("Pacific/Apia")

    texts = _texts(_bounds("2011-12-28", "2012-01-02", "1d", zone), zone)

    assert [text[:10] for text in texts] == [
        "2011-12-28", "2011-12-29", "2011-12-31", "2012-01-01", "2012-01-02",
    ]  # fmt: skip


def test_a_midnight_shown_twice() -> None:
    """Where the clock is put back over midnight the day begins at the first of both midnights."""
    zone = ZoneInfo("America/St_Johns")

    bounds = _bounds("2010-11-06", "2010-11-08T06:00", "1d", zone)

    assert _texts(bounds, zone)[1] == "2010-11-07 00:00 -0230"
    assert bounds[2] - bounds[1] == 25 * HOUR


def test_weeks_begin_on_monday() -> None:
    """ISO weeks begin on Monday, the first and last are cut by the question."""
    zone = ZoneInfo("Europe/Berlin")

    texts = _texts(_bounds("2026-03-25", "2026-04-08", "1w", zone), zone)

    assert texts == [
        "2026-03-25 00:00 +0100",
        "2026-03-30 00:00 +0200",
        "2026-04-06 00:00 +0200",
        "2026-04-08 00:00 +0200",
    ]


@pytest.mark.parametrize(
    ("every", "days"),
    [
        ("1mo", ["01-01", "02-01", "03-01", "04-01", "05-01", "06-01", "07-01"]),
        ("1q", ["01-01", "04-01", "07-01"]),
        ("1y", ["01-01", "07-01"]),
        ("2mo", ["01-01", "03-01", "05-01", "07-01"]),
    ],
)
def test_months_quarters_years(every: str, days: list[str]) -> None:
    """Months, quarters and years begin on their first day."""
    zone = ZoneInfo("Europe/Berlin")

    texts = _texts(_bounds("2026-01-01", "2026-07-01", every, zone), zone)

    assert [text[5:10] for text in texts] == days


def test_an_anchor_is_clamped_and_returns() -> None:
    """An anchor on the 31st gives the last day of shorter months, and the 31st again after."""
    bounds = _bounds("2024-01-31", "2024-06-30", "1mo", ZoneInfo("UTC"), anchor_day=31)

    assert [text[5:10] for text in _texts(bounds, ZoneInfo("UTC"))] == [
        "01-31", "02-29", "03-31", "04-30", "05-31", "06-30",
    ]  # fmt: skip


def test_a_question_that_begins_inside_a_billing_month() -> None:
    """The first period ends where the running billing month does."""
    bounds = _bounds("2026-03-10", "2026-04-20", "1mo", ZoneInfo("UTC"), anchor_day=15)

    assert [text[5:10] for text in _texts(bounds, ZoneInfo("UTC"))] == [
        "03-10", "03-15", "04-15", "04-20",
    ]  # fmt: skip


def test_odd_spans_count_from_the_start() -> None:
    """A span that does not divide a day is elapsed time from the beginning of the question."""
    bounds = _bounds("2026-03-07T12:00", "2026-03-10", "36h", NEW_YORK)

    assert bounds[1] - bounds[0] == 36 * HOUR


def test_total_is_one_period() -> None:
    """``total`` is all the time asked for."""
    assert len(_bounds("2026-01-01", "2027-01-01", "total", NEW_YORK)) == 2


def test_from_inside_a_window_is_refused_with_the_nearest() -> None:
    """A question that begins inside a window names the two boundaries beside it."""
    zone = ZoneInfo("Europe/Berlin")
    start = parse_time("2026-01-01T00:07", zone)

    with pytest.raises(InvalidQuestion) as caught:
        period_bounds(start, start + 53 * MINUTE, "1h", zone, window=15 * MINUTE)

    assert caught.value.field == "from"
    assert "2026-01-01T00:00:00+01:00 and 2026-01-01T00:15:00+01:00" in str(caught.value)


def test_days_that_begin_inside_windows_are_refused() -> None:
    """Midnight in Kathmandu is no full hour, so hourly windows cannot answer for its days."""
    zone = ZoneInfo("Asia/Kathmandu")
    start = parse_time("2026-01-01T00:45", zone)

    with pytest.raises(InvalidQuestion, match=r"every: .*05:45; the nearest|nearest are"):
        period_bounds(start, start + 3 * DAY, "1d", zone, window=HOUR)


@pytest.mark.parametrize(
    "every", ["", "1", "0d", "1x", "1.5h", "-1d", "1 d", "\u0661d", "1000000d"]
)
def test_unreadable_lengths_are_refused(every: str) -> None:
    """What is no length of time is refused with examples of what is."""
    with pytest.raises(InvalidQuestion, match="is no length of time; write 15m"):
        parse_every(every)


@pytest.mark.parametrize("anchor", [0, 32, -1])
def test_an_anchor_is_a_day_of_a_month(anchor: int) -> None:
    """An anchor outside 1 to 31 is refused."""
    with pytest.raises(InvalidQuestion, match="anchor"):
        parse_every("1mo", anchor_day=anchor)


def test_an_empty_span_is_refused() -> None:
    """``to`` must come after ``from``."""
    with pytest.raises(InvalidQuestion, match="is not after from"):
        period_bounds(DAY, DAY, "1d", ZoneInfo("UTC"))


@pytest.mark.parametrize(("start", "end"), [(-3 * DAY, DAY), (0, 10**18)])
def test_times_out_of_range_are_refused(start: int, end: int) -> None:
    """Years before 1970 and after 9998 are refused, never overflow."""
    with pytest.raises(InvalidQuestion, match="outside the years"):
        period_bounds(start, end - end % MINUTE, "total", ZoneInfo("UTC"))


@pytest.mark.parametrize("every", ["999999mo", "999999y", "999999w", "999999d", "999999h", "1000y"])
@pytest.mark.parametrize("zone", ["UTC", "Pacific/Kiritimati", "Pacific/Pago_Pago"])
def test_huge_lengths_give_one_period(every: str, zone: str) -> None:
    """Lengths beyond the calendar do not overflow, even at its ends."""
    end = parse_time("9998-12-31", UTC)

    assert len(period_bounds(end - 2 * DAY, end, every, ZoneInfo(zone))) in (2, 3)
    assert period_bounds(0, DAY, every, ZoneInfo(zone))[-1] == DAY


def test_too_many_periods_are_refused() -> None:
    """An answer of more rows than anybody reads is refused before it is made."""
    with pytest.raises(InvalidQuestion, match=f"more than {PERIODS_MAX} periods"):
        period_bounds(0, (PERIODS_MAX + 2) * MINUTE, "1m", ZoneInfo("UTC"))


def test_bounds_agree_with_the_calendar() -> None:
    """A year of days in New York is every date of the year."""
    bounds = _bounds("2026-01-01", "2027-01-01", "1d", NEW_YORK)

    dates = [local_time(bound, NEW_YORK).date() for bound in bounds]
    first = datetime(2026, 1, 1, tzinfo=UTC).date()
    assert dates == [first + timedelta(days=n) for n in range(366)]

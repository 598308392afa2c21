"""Unimeter's periods and scaled values."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meterstream.compat.unimeter import (
    Period,
    PeriodType,
    current_billing_period,
    current_month,
    last_billing_period,
    last_month,
    last_week_utc,
    scale,
    this_week_utc,
    today_utc,
    unscale,
    yesterday_utc,
)
from meterstream.compat.unimeter_periods import period_of

moments = st.datetimes(
    datetime(1971, 1, 1),  # noqa: DTZ001 - hypothesis adds the zone
    datetime(2200, 1, 1),  # noqa: DTZ001 - likewise
    timezones=st.sampled_from([UTC, timezone(timedelta(hours=14)), timezone(timedelta(hours=-9))]),
)
cycle_days = st.integers(1, 28)


@given(moments, cycle_days)
def test_a_billing_period_holds_now_and_begins_on_its_day(now: datetime, day: int) -> None:
    """It begins at midnight UTC of the day, holds now, and ends on the same day a month later."""
    period = current_billing_period(day, now)

    assert period.start <= now < period.end
    for bound in (period.start, period.end):
        assert (bound.day, bound.hour, bound.minute, bound.second) == (day, 0, 0, 0)
        assert bound.utcoffset() == timedelta(0)
    assert timedelta(28) <= period.end - period.start <= timedelta(31)


@given(moments, cycle_days)
def test_periods_follow_one_another(now: datetime, day: int) -> None:
    """The last period ends where the current one begins; so do days and weeks."""
    assert last_billing_period(day, now).end == current_billing_period(day, now).start
    assert last_month(now).end == current_month(now).start
    assert yesterday_utc(now).end == today_utc(now).start
    assert last_week_utc(now).end == this_week_utc(now).start


@given(moments, st.sampled_from(PeriodType), cycle_days)
def test_every_moment_is_in_one_period_of_a_metric(
    now: datetime, kind: PeriodType, day: int
) -> None:
    """The period of now holds now, and the moment of its end is in the next one."""
    period = period_of(kind, day, now)

    assert period.start <= now < period.end
    assert period_of(kind, day, period.end).start == period.end
    assert period_of(kind, day, period.start) == period


def test_periods_of_a_known_day() -> None:
    """Months, weeks and 30 days, by the calendar on the wall."""
    now = datetime(2026, 3, 14, 23, 59, tzinfo=UTC)

    def days(first: tuple[int, int, int], end: tuple[int, int, int]) -> Period:
        return Period(datetime(*first, tzinfo=UTC), datetime(*end, tzinfo=UTC))

    assert current_month(now) == days((2026, 3, 1), (2026, 4, 1))
    assert last_month(now) == days((2026, 2, 1), (2026, 3, 1))
    assert current_billing_period(15, now) == days((2026, 2, 15), (2026, 3, 15))
    assert last_billing_period(15, now) == days((2026, 1, 15), (2026, 2, 15))
    assert this_week_utc(now) == days((2026, 3, 9), (2026, 3, 16))
    fixed = period_of(PeriodType.FIXED, 1, now)
    assert (fixed.start - datetime(1970, 1, 1, tzinfo=UTC)) % timedelta(30) == timedelta(0)
    assert fixed.end - fixed.start == timedelta(30)


@pytest.mark.parametrize("day", [0, 29, -1])
def test_a_day_that_not_every_month_has_is_refused(day: int) -> None:
    """The days of the cycle are 1 to 28, as documented."""
    with pytest.raises(ValueError, match="pass 1 to 28"):
        current_billing_period(day)


@given(st.decimals(-(10**12), 10**12, places=6))
def test_scaling_is_exact_to_the_sixth_place(number: Decimal) -> None:
    """Six decimal places become a whole number without rounding, however they are written."""
    assert scale(number) == scale(str(number)) == number * 1_000_000


@given(st.integers(-(10**14), 10**14))
def test_a_float_returns_as_it_was(millionths: int) -> None:
    """A float of at most six places, scaled and unscaled, is the same float."""
    number = millionths / 1_000_000

    assert scale(number) == millionths
    assert unscale(scale(number)) == number


def test_scaling_as_documented() -> None:
    """The values of the document, and what lies beyond the sixth place."""
    assert (scale(45.0), scale(9.99), unscale(45_000_000)) == (45_000_000, 9_990_000, 45.0)
    assert (scale("0.0000005"), scale("0.0000015")) == (0, 2)

"""The periods of Unimeter, in UTC: months from a day on, days, ISO weeks, 30 days since 1970.

Every function takes ``now``, by default the present.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final, assert_never

from meterstream.compat.unimeter_values import Period, PeriodType

CYCLE_DAY_MAX: Final = 28
_FIXED: Final = timedelta(days=30)
_DAY: Final = timedelta(days=1)
_WEEK: Final = timedelta(days=7)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def current_month(now: datetime | None = None) -> Period:
    """The calendar month."""
    return current_billing_period(1, now)


def last_month(now: datetime | None = None) -> Period:
    """The calendar month before."""
    return last_billing_period(1, now)


def current_billing_period(cycle_day: int = 1, now: datetime | None = None) -> Period:
    """The month that begins on a day, 1 to 28. Raises `ValueError` for another day."""
    if not 1 <= cycle_day <= CYCLE_DAY_MAX:
        raise ValueError(f"cycle_day: {cycle_day} is not in every month; pass 1 to 28")
    today = _midnight(now)
    start = today.replace(day=cycle_day)
    if start > today:
        start = _months_on(start, -1)
    return Period(start, _months_on(start, 1))


def last_billing_period(cycle_day: int = 1, now: datetime | None = None) -> Period:
    """The month before `current_billing_period`."""
    current = current_billing_period(cycle_day, now)
    return Period(_months_on(current.start, -1), current.start)


def today_utc(now: datetime | None = None) -> Period:
    """The day."""
    start = _midnight(now)
    return Period(start, start + _DAY)


def yesterday_utc(now: datetime | None = None) -> Period:
    """The day before."""
    end = _midnight(now)
    return Period(end - _DAY, end)


def this_week_utc(now: datetime | None = None) -> Period:
    """The ISO week, from Monday."""
    today = _midnight(now)
    start = today - today.weekday() * _DAY
    return Period(start, start + _WEEK)


def last_week_utc(now: datetime | None = None) -> Period:
    """The ISO week before."""
    end = this_week_utc(now).start
    return Period(end - _WEEK, end)


def period_of(kind: PeriodType, cycle_day: int, now: datetime | None = None) -> Period:
    """The period of a metric that holds ``now``."""
    match kind:
        case PeriodType.FIXED:
            start = _EPOCH + (_utc(now) - _EPOCH) // _FIXED * _FIXED
            return Period(start, start + _FIXED)
        case PeriodType.CALENDAR:
            return current_billing_period(cycle_day, now)
        case PeriodType.DAY:
            return today_utc(now)
        case PeriodType.WEEK:
            return this_week_utc(now)
        case _:
            assert_never(kind)


def _utc(now: datetime | None) -> datetime:
    return datetime.now(UTC) if now is None else now.astimezone(UTC)


def _midnight(now: datetime | None) -> datetime:
    return _utc(now).replace(hour=0, minute=0, second=0, microsecond=0)


def _months_on(day: datetime, months: int) -> datetime:
    year, month = divmod(day.year * 12 + day.month - 1 + months, 12)
    return day.replace(year=year, month=month + 1)

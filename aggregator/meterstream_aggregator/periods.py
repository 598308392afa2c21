"""Periods: time cut into the pieces a question asks for, in any zone. Pure.

A period is half-open, and the periods of one question tile [from, to): no gap, no overlap. The
first and the last are cut by ``from`` and ``to``. How they are cut between (``every``):

========================  ======================================================================
``15m`` ``1h`` ``6h`` …   spans that divide a day: a period begins whenever the local clock shows
                          a multiple of the span, and at the start of each local day. A clock put
                          back one hour shows 25 hours that day, one put forward 23.
``45m`` ``36h`` …         any other span: elapsed time, counted from ``from``
``1d`` ``1w`` ``1mo``     local day, ISO week (from Monday), month; each begins where its first
``1q`` ``1y``             local day does (see `civil`), so days last 23 or 25 hours twice a year
``7d`` ``2w`` ``6mo`` …   several days, weeks or months, counted from the one that holds ``from``
``1mo`` with an anchor    billing months: they begin on that day of the month, on the month's last
                          day where it has no such day, and return to it (31 Jan, 28 Feb, 31 Mar)
``total``                 one period
========================  ======================================================================

Usage is kept in windows, so a boundary must lie on one: anything else is refused, never rounded.
"""

from __future__ import annotations

import calendar
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta, tzinfo
from enum import StrEnum
from typing import Final

from meterstream_aggregator.catalogue import DAY, HOUR, MINUTE
from meterstream_aggregator.civil import (
    TIME_MAX,
    TIME_MIN,
    InvalidQuestion,
    day_start,
    format_time,
    instants,
    local_time,
)

PERIODS_MAX: Final = 50_000
"""Most periods in one answer: more than a year of 15-minute windows."""

_EVERY: Final = re.compile(r"([1-9][0-9]{0,5})(m|h|d|w|mo|q|y)")
_ONE_DAY: Final = timedelta(days=1)


class Unit(StrEnum):
    """What a period is counted in."""

    SPAN = "span"
    DAY = "d"
    WEEK = "w"
    MONTH = "mo"
    TOTAL = "total"


@dataclass(frozen=True, slots=True)
class Every:
    """How time is cut. ``count`` is microseconds for spans, else a number of units.

    ``aligned`` months are counted from January (quarters, years); others from where the question
    begins. ``anchor_day`` is the day of the month on which months begin, 1 to 31.
    """

    unit: Unit
    count: int = 1
    aligned: bool = False
    anchor_day: int = 1


def parse_every(text: str, *, anchor_day: int = 1) -> Every:
    """``15m``, ``1h``, ``1d``, ``1w``, ``1mo``, ``1q``, ``1y``, multiples of them, or ``total``.

    Raises `InvalidQuestion` for other texts and for an anchor that is no day of a month.
    """
    if not 1 <= anchor_day <= 31:
        raise InvalidQuestion("anchor", f"{anchor_day} is no day of a month; pass 1 to 31")
    if text == "total":
        return Every(Unit.TOTAL)
    match = _EVERY.fullmatch(text)
    if match is None:
        raise InvalidQuestion(
            "every",
            f"{text[:40]!r} is no length of time; write 15m, 1h, 1d, 1w, 1mo, 1q, 1y or total",
        )
    count, unit = int(match[1]), match[2]
    match unit:
        case "m" | "h":
            return Every(Unit.SPAN, count * (MINUTE if unit == "m" else HOUR))
        case "q" | "y":
            months = count * (3 if unit == "q" else 12)
            return Every(Unit.MONTH, months, aligned=True, anchor_day=anchor_day)
        case "mo":
            return Every(Unit.MONTH, count, anchor_day=anchor_day)
        case _:
            return Every(Unit(unit), count)


def period_bounds(
    start: int,
    end: int,
    every: Every | str,
    zone: tzinfo,
    *,
    window: int | Callable[[int], int] = MINUTE,
    shown: tzinfo | None = None,
) -> list[int]:
    """The boundaries of the periods of [start, end), both ends included; microseconds UTC.

    ``window`` is the length of the windows in microseconds, or says it for an instant; ``shown`` is
    the zone of messages where it is not ``zone``. Raises `InvalidQuestion` when the span is empty
    or out of range, when a boundary does not lie on a boundary of a window, or when there are more
    than `PERIODS_MAX` periods.
    """
    cut = parse_every(every) if isinstance(every, str) else every
    size_at = window if callable(window) else _always(window)
    shown = shown or zone
    _check_span(start, end, shown, size_at)
    bounds = [start]
    for bound in _starts(start, end, cut, zone):
        if bound <= bounds[-1]:
            continue
        if bound >= end:
            break
        if bound % (size := size_at(bound)):
            raise _off_window(bound, shown, size)
        bounds.append(bound)
        if len(bounds) > PERIODS_MAX:
            raise InvalidQuestion(
                "every",
                f"cuts the time asked for into more than {PERIODS_MAX} periods; ask coarser",
            )
    bounds.append(end)
    return bounds


def _always(window: int) -> Callable[[int], int]:
    return lambda _time: window


def _check_span(start: int, end: int, zone: tzinfo, size_at: Callable[[int], int]) -> None:
    for field, time_ in (("from", start), ("to", end)):
        if not TIME_MIN <= time_ <= TIME_MAX:
            raise InvalidQuestion(field, "lies outside the years 1970 to 9998")
        if time_ % (size := size_at(time_)):
            raise InvalidQuestion(field, _nearest(time_, zone, size))
    if end <= start:
        raise InvalidQuestion(
            "to",
            f"{format_time(end, zone)} is not after from, {format_time(start, zone)}",
        )


def _nearest(bound: int, zone: tzinfo, window: int) -> str:
    before = bound - bound % window
    return (
        f"{format_time(bound, zone)} is not on a boundary of the {window // MINUTE}-minute "
        f"windows; the nearest are {format_time(before, zone)} and "
        f"{format_time(before + window, zone)}"
    )


def _off_window(bound: int, zone: tzinfo, window: int) -> InvalidQuestion:
    return InvalidQuestion(
        "every",
        f"a period would begin inside a window: {_nearest(bound, zone, window)}; ask for other "
        "periods or another zone, or give the meter a smaller window",
    )


def _starts(start: int, end: int, every: Every, zone: tzinfo) -> Iterator[int]:
    """Where periods begin, ascending, from somewhere at or before ``start`` to beyond ``end``."""
    match every.unit:
        case Unit.TOTAL:
            return iter(())
        case Unit.SPAN if every.count < DAY and DAY % every.count == 0:
            return _clock_starts(start, end, every.count, zone)
        case Unit.SPAN:
            return iter(range(start, end, every.count))
        case Unit.DAY:
            return _day_starts(_local_day(start, zone), end, every.count, zone)
        case Unit.WEEK:
            day = _local_day(start, zone)
            return _day_starts(day - day.weekday() * _ONE_DAY, end, 7 * every.count, zone)
        case Unit.MONTH:
            return _month_starts(start, end, every, zone)


def _local_day(time_: int, zone: tzinfo) -> date:
    """The local day that holds an instant, by the days' starts rather than by the clock.

    They differ where a clock is put back over midnight: it shows yesterday again, for a while.
    """
    day = local_time(time_, zone).date()
    return day + _ONE_DAY if day_start(day + _ONE_DAY, zone) <= time_ else day


def _day_starts(first: date, end: int, step: int, zone: tzinfo) -> Iterator[int]:
    last = _local_day(end, zone)
    for ordinal in range(first.toordinal(), last.toordinal() + 1, step):
        yield day_start(date.fromordinal(ordinal), zone)


def _month_starts(start: int, end: int, every: Every, zone: tzinfo) -> Iterator[int]:
    day, last = _local_day(start, zone), _local_day(end, zone)
    month = _month_number(day)
    if _anchored(month, every.anchor_day) > day:
        month -= 1
    if every.aligned:
        month -= month % every.count
    for number in range(month, _month_number(last) + 1, every.count):
        if number >= 12:  # years begin with 1; a cycle of centuries may be counted from before
            yield day_start(_anchored(number, every.anchor_day), zone)


def _month_number(day: date) -> int:
    return day.year * 12 + day.month - 1


def _anchored(month: int, anchor_day: int) -> date:
    """The anchor day in a month counted from year 0, or the month's last day if it is shorter."""
    year, index = divmod(month, 12)
    return date(year, index + 1, min(anchor_day, calendar.monthrange(year, index + 1)[1]))


def _clock_starts(start: int, end: int, span: int, zone: tzinfo) -> Iterator[int]:
    day = _local_day(start, zone)
    midnight = day_start(day, zone)
    while midnight < end:
        next_midnight = day_start(day + _ONE_DAY, zone)
        if next_midnight - midnight == DAY and _steady(midnight, next_midnight, zone):
            yield from range(midnight, next_midnight, span)
        else:
            yield from _unusual_day(day, midnight, next_midnight, span, zone)
        day, midnight = day + _ONE_DAY, next_midnight


def _steady(midnight: int, next_midnight: int, zone: tzinfo) -> bool:
    return (
        local_time(midnight, zone).time() == time(0)
        and local_time(midnight, zone).utcoffset() == local_time(next_midnight, zone).utcoffset()
    )


def _unusual_day(
    day: date, midnight: int, next_midnight: int, span: int, zone: tzinfo
) -> list[int]:
    """A day on which the clock changes: its start, and whenever it shows a multiple of the span.

    The neighbouring dates are looked at too: a clock put back at midnight shows them again.
    """
    moments = {midnight}
    for near in (day - _ONE_DAY, day, day + _ONE_DAY):
        reading = datetime.combine(near, time(0))
        for step in range(DAY // span):
            shown = reading + step * timedelta(microseconds=span)
            moments.update(instants(shown, zone))
    return sorted(moment for moment in moments if midnight <= moment < next_midnight)

"""Billing cycles that begin at an instant, not merely on a day: where they begin. Pure.

The cycles of an anchor begin whenever the local calendar shows the anchor's day of the month and
time of the day, every so many months; where a month has no such day, on its last one, returning to
it afterwards (31 Jan, 29 Feb, 31 Mar). They tile time, before the anchor too.
"""

from __future__ import annotations

import calendar
from datetime import datetime, tzinfo

from meterstream_aggregator.civil import instant, local_time


def cycle_start(anchor: int, months: int, number: int, zone: tzinfo) -> int:
    """Where cycle ``number`` begins, in microseconds UTC; cycle 0 begins at ``anchor``.

    Raises ValueError for years that the calendar does not have.
    """
    shown = local_time(anchor, zone)
    year, month = divmod(shown.year * 12 + shown.month - 1 + number * months, 12)
    day = min(shown.day, calendar.monthrange(year, month + 1)[1])
    if number == 0:
        return anchor
    return instant(
        datetime(  # noqa: DTZ001 - a reading of the local clock, made an instant here
            year, month + 1, day, shown.hour, shown.minute, shown.second, shown.microsecond
        ),
        zone,
    )


def cycle_at(time: int, anchor: int, months: int, zone: tzinfo) -> tuple[int, int]:
    """The cycle [start, end) that holds an instant."""
    at, origin = local_time(time, zone), local_time(anchor, zone)
    number = ((at.year - origin.year) * 12 + at.month - origin.month) // months
    while cycle_start(anchor, months, number, zone) > time:
        number -= 1
    while cycle_start(anchor, months, number + 1, zone) <= time:
        number += 1
    return cycle_start(anchor, months, number, zone), cycle_start(anchor, months, number + 1, zone)


def cycle_bounds(start: int, end: int, anchor: int, months: int, zone: tzinfo) -> list[int]:
    """The boundaries of the cycles of [start, end), both ends included, cut by them."""
    bounds = [start]
    while bounds[-1] < end:
        bounds.append(min(cycle_at(bounds[-1], anchor, months, zone)[1], end))
    return bounds

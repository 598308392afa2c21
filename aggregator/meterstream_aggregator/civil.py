"""Civil time: what clocks on the wall say in a zone, and the instants they stand for. Pure.

Instants are integer microseconds since 1970-01-01 UTC. Two rules settle what a clock leaves open:

* a local time that the clock shows twice (it was put back) means the **first** of the two instants;
* a local time that the clock never shows (it was put forward) means the **first instant after**
  the gap. So a day whose midnight is skipped begins when its first minute does.

An offset (``+02:00``, ``Z``) in a text leaves nothing open.
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta, tzinfo
from typing import Final

from meterstream_aggregator.catalogue import DAY
from meterstream_aggregator.errors import AggregatorError

TIME_MIN: Final = -DAY
"""Earliest instant that can be asked for: 1970-01-01 begins by then in every zone."""
TIME_MAX: Final = 253_370_764_800_000_000
"""Latest instant that can be asked for: 9999-01-01 UTC."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_NAIVE_EPOCH: Final = datetime(1970, 1, 1)  # noqa: DTZ001 - the base of local clock readings
_MICROSECOND: Final = timedelta(microseconds=1)
_SECOND_MICROSECONDS: Final = 1_000_000
_TEXT: Final = re.compile(
    r"(?P<date>[0-9]{4}-[0-9]{2}-[0-9]{2})"
    r"(?:[Tt ](?P<clock>[0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:[.,](?P<fraction>[0-9]{1,18}))?)?)"
    r"(?P<offset>[Zz]|[+-][0-9]{2}(?::?[0-9]{2})?)?)?"
)
_LOST_PLUS: Final = re.compile(r".*[0-9] [0-9]{2}:?[0-9]{2}")


class InvalidQuestion(AggregatorError):
    """A question that has no answer as it was put. ``field`` names the part to mend."""

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field}: {problem}")
        self.field = field
        self.problem = problem


def instant(local: datetime, zone: tzinfo) -> int:
    """The instant at which the clock of ``zone`` shows ``local`` (naive), by the rules above."""
    before, after = _offsets(local, zone)
    reading = (local - _NAIVE_EPOCH) // _MICROSECOND
    earlier, later = reading - after // _MICROSECOND, reading - before // _MICROSECOND
    if after <= before:
        return later
    # Put forward over this time: the change lies between the two ways to read it.
    return _first_instant_with(after, earlier, later, zone)


def instants(local: datetime, zone: tzinfo) -> tuple[int, ...]:
    """Every instant at which the clock shows ``local``: one, two, or none where it is skipped."""
    before, after = _offsets(local, zone)
    reading = (local - _NAIVE_EPOCH) // _MICROSECOND
    if after > before:
        return ()
    first, second = reading - before // _MICROSECOND, reading - after // _MICROSECOND
    return (first,) if first == second else (first, second)


def day_start(day: date, zone: tzinfo) -> int:
    """Local midnight, or the first instant after it where the clock skips midnight."""
    return instant(datetime(day.year, day.month, day.day), zone)  # noqa: DTZ001 - a clock reading


def local_time(time: int, zone: tzinfo) -> datetime:
    """An instant as an aware `datetime` of the zone, exact to the microsecond."""
    return (_EPOCH + timedelta(microseconds=time)).astimezone(zone)


def format_time(time: int, zone: tzinfo) -> str:
    """ISO 8601 with the zone's offset: ``2026-03-29T00:00:00+01:00``."""
    return local_time(time, zone).isoformat()


def parse_time(text: str, zone: tzinfo, *, field: str = "time") -> int:
    """The instant that an ISO 8601 text means; without an offset it is taken in ``zone``.

    ``2026-03-01``, ``2026-03-01T12:00`` and ``2026-03-01T12:00:00.25+02:00`` are understood. A
    date alone is its first instant. Raises `InvalidQuestion` for anything else, for more than
    microseconds, and for instants outside `TIME_MIN` to `TIME_MAX`.
    """
    match = _TEXT.fullmatch(text)
    if match is None:
        hint = "; in a URL, write + as %2B" if _LOST_PLUS.fullmatch(text) else ""
        raise InvalidQuestion(
            field,
            f"{text[:40]!r} is not an ISO 8601 time; write 2026-03-01, 2026-03-01T12:00 or "
            f"2026-03-01T12:00:00+02:00{hint}",
        )
    if (match["fraction"] or "").ljust(6, "0")[6:].strip("0"):
        raise InvalidQuestion(field, f"{text!r} is finer than microseconds; shorten the fraction")
    try:
        moment = datetime.fromisoformat(_canonical(match))
    except ValueError as problem:
        raise InvalidQuestion(field, f"{text!r} is not a time: {problem}") from None
    # The first and last years there are cannot be converted at all, so they are refused before.
    if 1969 <= moment.year <= 9999:
        time = instant(moment, zone) if moment.tzinfo is None else (moment - _EPOCH) // _MICROSECOND
        if TIME_MIN <= time <= TIME_MAX:
            return time
    raise InvalidQuestion(field, f"{text!r} lies outside the years 1970 to 9998")


def _canonical(match: re.Match[str]) -> str:
    clock = (match["clock"] or "00:00").replace(",", ".")
    whole, _, fraction = clock.partition(".")
    seconds = f".{fraction.ljust(6, '0')[:6]}" if fraction else ""
    return f"{match['date']}T{whole}{seconds}{(match['offset'] or '').upper()}"


def _offsets(local: datetime, zone: tzinfo) -> tuple[timedelta, timedelta]:
    """Offsets before and after the change of the clock at this time; equal where it is steady."""
    before = local.replace(tzinfo=zone, fold=0).utcoffset()
    after = local.replace(tzinfo=zone, fold=1).utcoffset()
    assert before is not None
    assert after is not None
    return before, after


def _first_instant_with(offset: timedelta, low: int, high: int, zone: tzinfo) -> int:
    """First whole second in [low, high] at which ``offset`` is in force; it is at ``high``."""
    low, high = low // _SECOND_MICROSECONDS, -(-high // _SECOND_MICROSECONDS)
    while low < high:
        middle = (low + high) // 2
        if local_time(middle * _SECOND_MICROSECONDS, zone).utcoffset() == offset:
            high = middle
        else:
            low = middle + 1
    return low * _SECOND_MICROSECONDS

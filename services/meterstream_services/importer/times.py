"""The text of a time cell to microseconds UTC.

Accepted is ISO 8601 with ``T`` or a blank between date and time: ``2023-11-16 18:17:03.9799600``,
``2015-05-17T10:05:03+00:00``, ``2026-01-31``. Seconds may be missing, a fraction may have one to
nine digits. Three rules decide what the text leaves open:

1. A time without an offset is local time in the zone that the caller names. An hour that occurs
   twice there (clocks go back) means its first occurrence; a time that does not exist there
   (clocks go forward) is refused.
2. Digits beyond the microsecond are cut off, which moves the time towards the past by less than a
   microsecond: the instant stays inside the window that the full text names.
3. A date alone is its first instant in the zone.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from functools import lru_cache
from typing import Final

_TIME: Final = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})"
    r"(?:[T ]([0-9]{2}):([0-9]{2})(?::([0-9]{2})(?:[.,]([0-9]{1,9}))?)?"
    r" ?(Z|z|[+-][0-9]{2}(?::?[0-9]{2})?)?)?"
)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def parse_time(text: str, zone: tzinfo) -> int:
    """Microseconds since 1970-01-01 UTC. Raises `ValueError` with the reason and the remedy."""
    match = _TIME.fullmatch(text.strip())
    if match is None:
        raise ValueError("is not a time; write ISO 8601 such as 2026-01-31T12:00:00Z")
    year, month, day, hour, minute, second, fraction, offset = match.groups()
    microsecond = int(fraction[:6].ljust(6, "0")) if fraction else 0
    try:
        naive = datetime(  # noqa: DTZ001 - the offset or the zone is put on below
            int(year), int(month), int(day), int(hour or 0), int(minute or 0), int(second or 0),
            microsecond,
        )  # fmt: skip
        aware = naive.replace(tzinfo=_fixed(offset)) if offset else _localised(naive, zone)
        return microseconds(aware)
    except (ValueError, OverflowError) as problem:
        raise ValueError(f"is not a time: {problem}") from problem


def microseconds(moment: datetime) -> int:
    """An aware ``datetime`` as microseconds since 1970-01-01 UTC, exactly."""
    since = moment - _EPOCH
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


@lru_cache(maxsize=256)
def _fixed(offset: str) -> tzinfo:
    if offset in {"Z", "z"}:
        return UTC
    digits = offset[1:].replace(":", "").ljust(4, "0")
    if int(digits[2:]) > 59:
        raise ValueError(f"the offset {offset} has more than 59 minutes")
    span = timedelta(hours=int(digits[:2]), minutes=int(digits[2:]))
    return timezone(-span if offset[0] == "-" else span)


def _localised(naive: datetime, zone: tzinfo) -> datetime:
    local = naive.replace(tzinfo=zone)
    if zone is not UTC and local.astimezone(UTC).astimezone(zone).replace(tzinfo=None) != naive:
        raise ValueError(f"the clocks of {zone} skip it; write it with its offset")
    return local

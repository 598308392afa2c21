"""How names and lengths of time are written in a catalogue."""

from __future__ import annotations

import re
from typing import Final

from meterstream_aggregator.catalogue import DAY, HOUR, MINUTE

_UNITS: Final = {"s": 1_000_000, "m": MINUTE, "h": HOUR, "d": DAY}
_DURATION: Final = re.compile(r"([0-9]{1,6})(s|m|h|d)")
_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_.:/-]{0,127}")


def duration(value: object) -> int:
    """Microseconds from ``15m`` and the like. Raises `ValueError`, which says what to write."""
    if isinstance(value, str) and (match := _DURATION.fullmatch(value)):
        return int(match[1]) * _UNITS[match[2]]
    raise ValueError("is not a duration; write a whole number and s, m, h or d, such as 15m")


def name(value: str) -> str:
    """The name, if it is one. Raises `ValueError`, which says what to write."""
    if not _NAME.fullmatch(value):
        raise ValueError(
            "is not a name; begin with a letter, then letters, digits, _ . : / or -, at most 128"
        )
    return value

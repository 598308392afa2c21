"""Time zones by name, for everything that people type."""

from __future__ import annotations

import difflib
from functools import lru_cache
from zoneinfo import ZoneInfo, available_timezones

from meterstream_aggregator.civil import InvalidQuestion


def find_zone(name: str, *, field: str = "zone") -> ZoneInfo:
    """The IANA zone of that name. Raises `InvalidQuestion`, with near names where there are any."""
    if name not in zone_names():
        near = difflib.get_close_matches(name[:64], zone_names(), n=3, cutoff=0.7)
        hint = f"did you mean {', '.join(near)}?" if near else "write Europe/Berlin, or UTC"
        raise InvalidQuestion(field, f"{name[:64]!r} is no IANA time zone; {hint}")
    return ZoneInfo(name)


@lru_cache(maxsize=1)
def zone_names() -> frozenset[str]:
    """All zones there are on this machine; read from disk once."""
    return frozenset(available_timezones())

"""The oracle's own reading of ``meters.yaml``: only what counting needs, no checks of the text."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from collections.abc import Mapping

_UNIT_MICROSECONDS = {"s": 1_000_000, "m": 60_000_000, "h": 3_600_000_000, "d": 86_400_000_000}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
LENGTH_MAX = 400 * _UNIT_MICROSECONDS["d"]
WINDOWS_MAX = 50_000
ADDITIVE = ("count", "sum", "average", "changes")
"""Aggregates of which a VOID can take something back."""


@dataclass(frozen=True)
class OracleMeter:
    """One definition of a meter; times in microseconds.

    ``aggregate`` is the word of the file, and ``changes`` for time_weighted meters of changes.
    ``where`` are (attribute, test, values); ``number`` is its place in the file.
    """

    name: str
    type: str
    aggregate: str
    value: str
    operation: str | None
    group_by: tuple[str, ...]
    where: tuple[tuple[str, str, tuple[str, ...]], ...]
    window: int
    grace: int
    timeout: int | None
    timeout_bills: str
    longest: int
    series_max: int
    unit: str = ""
    since: int = 0
    until: int | None = None
    number: int = 0

    def __hash__(self) -> int:
        """Quick, and enough to tell definitions apart."""
        return hash((self.name, self.window, self.grace))

    @property
    def value_attribute(self) -> str | None:
        """The attribute an amount or a text is read from, None for quantity and subject."""
        if not self.value.startswith("attributes."):
            return None
        return self.value.removeprefix("attributes.")

    def reads(self, time: int) -> bool:
        """Whether it applies at that time."""
        return time >= self.since and (self.until is None or time < self.until)

    def passes(self, attributes: Mapping[str, str]) -> bool:
        """Whether attributes fulfil all its conditions; to lists an absent attribute is ""."""
        for name, test, values in self.where:
            if test == "in" and attributes.get(name, "") not in values:
                return False
            if test == "not_in" and attributes.get(name, "") in values:
                return False
            if test == "exists" and name not in attributes:
                return False
            if test == "absent" and name in attributes:
                return False
        return True

    def close_of(self, window_start: int, metering_since: int) -> int:
        """The log time from which something of this window is late."""
        end = window_start + self.window
        while end < metering_since:
            end += (metering_since - end + self.window - 1) // self.window * self.window
        return end + self.grace

    def arrival(self, window_start: int, metering_since: int, log_time: int) -> int:
        """0 for in time, else the last instant of the grid of closes that is not after."""
        if log_time < self.close_of(window_start, metering_since):
            return 0
        windows = (log_time - self.grace) // self.window
        return windows * self.window + self.grace


@dataclass(frozen=True)
class OracleCatalogue:
    """What is counted, and since when."""

    metering_since: int
    accept_from: int
    meters: tuple[OracleMeter, ...]

    def of_type(self, event_type: str, *, sessions: bool) -> list[OracleMeter]:
        """The definitions that read usage, or sessions, of a type at whatever time."""
        return [
            meter
            for meter in self.meters
            if meter.type == event_type and (meter.aggregate == "session") == sessions
        ]

    def longest(self, event_type: str) -> int:
        """How long a session of a type may last."""
        return min(meter.longest for meter in self.of_type(event_type, sessions=True))


def read_catalogue(text: str) -> OracleCatalogue:
    """The catalogue in a ``meters.yaml`` text that is known to be right."""
    content = yaml.safe_load(text)
    entries = content["meters"]
    since = _instant(content.get("metering_since", _EPOCH))
    return OracleCatalogue(
        metering_since=since,
        accept_from=_instant(content["accept_from"]) if "accept_from" in content else since,
        meters=tuple(_meter(entry, number, entries) for number, entry in enumerate(entries)),
    )


def _meter(entry: dict[str, Any], number: int, entries: list[dict[str, Any]]) -> OracleMeter:
    window = _span(entry.get("window", "15m"))
    later = [each for each in entries[number + 1 :] if each["name"] == entry["name"]]
    longest = LENGTH_MAX
    if entry["aggregate"] == "session":
        longest = min(LENGTH_MAX, WINDOWS_MAX * window)
        longest = _span(entry["longest"]) if "longest" in entry else longest
    operation = entry.get("operation")
    return OracleMeter(
        name=entry["name"],
        type=entry.get("type", entry["name"]),
        aggregate="changes" if entry.get("samples") == "changes" else entry["aggregate"],
        value=entry.get("value", "quantity"),
        operation=operation.removeprefix("attributes.") if operation else None,
        group_by=tuple(entry.get("group_by", ())),
        where=tuple(
            condition
            for name, tests in entry.get("where", {}).items()
            for condition in _conditions(name, tests)
        ),
        window=window,
        grace=_span(entry.get("grace", "24h")),
        timeout=_span(entry["timeout"]) if entry.get("timeout") else None,
        timeout_bills=entry.get("timeout_bills", "last_sign"),
        longest=longest,
        series_max=entry.get("limits", {}).get("series_per_tenant", 10_000),
        unit=entry.get("unit", "second" if entry["aggregate"] == "session" else ""),
        since=_instant(entry["from"]) if "from" in entry else 0,
        until=_instant(later[0]["from"]) if later else None,
        number=number,
    )


def _conditions(
    name: str,
    tests: Any,  # noqa: ANN401 - whatever the file says
) -> list[tuple[str, str, tuple[str, ...]]]:
    if isinstance(tests, list) and any(isinstance(test, dict) for test in tests):
        return [condition for test in tests for condition in _conditions(name, test)]
    if not isinstance(tests, dict):
        return [(name, "in", _texts(tests))]
    found = [(name, test, _texts(tests[test])) for test in ("in", "not_in") if test in tests]
    if "exists" in tests:
        found.append((name, "exists" if tests["exists"] else "absent", ()))
    return found


def _texts(value: str | list[str]) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(value)


def _span(text: str) -> int:
    found = re.fullmatch(r"(\d+)(s|m|h|d)", text)
    assert found is not None, text
    return int(found[1]) * _UNIT_MICROSECONDS[found[2]]


def _instant(value: datetime | str) -> int:
    when = datetime.fromisoformat(value) if isinstance(value, str) else value
    since = when.astimezone(UTC) - _EPOCH
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds

"""The meters' file, as far as the meters of a campaign need it. Times in microseconds."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import yaml

if TYPE_CHECKING:
    from pathlib import Path

_UNITS: Final = {"s": 10**6, "m": 60 * 10**6, "h": 3_600 * 10**6, "d": 86_400 * 10**6}
_LONGEST_DAYS: Final = 400
_LONGEST_WINDOWS: Final = 50_000
INVERTIBLE: Final = frozenset({"count", "sum", "average"})


class Rule(NamedTuple):
    """One meter."""

    name: str
    type: str
    aggregate: str
    value: str
    group_by: tuple[str, ...]
    where: tuple[tuple[str, tuple[str, ...]], ...]
    window: int
    grace: int
    timeout: int | None
    bills_timeout: bool
    longest: int

    def start_of(self, time: int) -> int:
        """The window that a time lies in."""
        return time - time % self.window

    def arrival(self, start: int, log_time: int) -> int:
        """0 for what comes to a window in time, else the last close of any window by then."""
        if log_time < start + self.window + self.grace:
            return 0
        return log_time - (log_time - self.grace) % self.window

    def group(self, attributes: dict[str, str]) -> tuple[str, ...]:
        """The values grouped by."""
        return tuple(attributes.get(name, "") for name in self.group_by)

    def passes(self, attributes: dict[str, str]) -> bool:
        """Whether attributes pass the filter."""
        return all(attributes.get(name, "") in allowed for name, allowed in self.where)


class Rules(NamedTuple):
    """All meters of a file."""

    since: int
    rules: tuple[Rule, ...]

    def usage(self, kind: str) -> list[Rule]:
        """The meters that read usage of a type."""
        return [rule for rule in self.rules if rule.type == kind and rule.aggregate != "session"]

    def sessions(self, kind: str) -> list[Rule]:
        """The meters that read sessions of a type."""
        return [rule for rule in self.rules if rule.type == kind and rule.aggregate == "session"]


def read_rules(path: Path) -> Rules:
    """The meters of a file, which must use nothing that is not read here."""
    content: Any = yaml.safe_load(path.read_text("utf-8"))
    since: Any = content["metering_since"]
    if isinstance(since, str):
        since = datetime.fromisoformat(since)
    if since.tzinfo is None:
        since = since.replace(tzinfo=UTC)
    begin = int(since.timestamp()) * 10**6
    return Rules(begin, tuple(_rule(entry) for entry in content["meters"]))


def _rule(entry: dict[str, Any]) -> Rule:
    known = {
        "name", "type", "aggregate", "value", "group_by", "where", "window", "grace",
        "timeout", "timeout_bills", "unit",
    }  # fmt: skip
    if beyond := set(entry) - known:
        raise ValueError(f"meter {entry['name']!r} uses {sorted(beyond)}, which is not verified")
    window = _span(entry.get("window", "15m"))
    where = entry.get("where", {})
    return Rule(
        name=entry["name"],
        type=entry.get("type", entry["name"]),
        aggregate=entry["aggregate"],
        value=entry.get("value", "quantity"),
        group_by=tuple(entry.get("group_by", ())),
        where=tuple((name, tuple(allowed)) for name, allowed in where.items()),
        window=window,
        grace=_span(entry.get("grace", "24h")),
        timeout=_span(entry["timeout"]) if "timeout" in entry else None,
        bills_timeout=entry.get("timeout_bills", "last_sign") == "timeout",
        longest=min(_LONGEST_DAYS * _UNITS["d"], _LONGEST_WINDOWS * window),
    )


def _span(text: str) -> int:
    return int(text[:-1]) * _UNITS[text[-1]]

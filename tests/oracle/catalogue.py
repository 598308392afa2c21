"""The oracle's own reading of ``meters.yaml``: only what counting needs, no checks of the text."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import yaml

_UNIT_MICROSECONDS = {
    "ms": 1_000,
    "s": 1_000_000,
    "m": 60_000_000,
    "h": 3_600_000_000,
    "d": 86_400_000_000,
}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class OracleMeter:
    """One meter; times in microseconds."""

    name: str
    type: str
    aggregate: str
    value: str
    group_by: tuple[str, ...]
    where: dict[str, tuple[str, ...]]
    window: int
    timeout: int | None
    timeout_bills: str

    @property
    def value_attribute(self) -> str | None:
        """The attribute a sum, min or max reads, or None where it reads the quantity."""
        if self.aggregate not in ("sum", "min", "max") or not self.value.startswith("attributes."):
            return None
        return self.value.removeprefix("attributes.")


@dataclass(frozen=True)
class OracleCatalogue:
    """What is counted, and since when."""

    metering_since: int
    meters: tuple[OracleMeter, ...]


def read_catalogue(text: str) -> OracleCatalogue:
    """The catalogue in a ``meters.yaml`` text that is known to be right."""
    content = yaml.safe_load(text)
    return OracleCatalogue(
        metering_since=_instant(content["metering_since"]),
        meters=tuple(_meter(entry) for entry in content["meters"]),
    )


def _meter(entry: dict[str, Any]) -> OracleMeter:
    return OracleMeter(
        name=entry["name"],
        type=entry.get("type", entry["name"]),
        aggregate=entry["aggregate"],
        value=entry.get("value", "quantity"),
        group_by=tuple(entry.get("group_by", ())),
        where={
            name: tuple(allowed) if isinstance(allowed, list) else (allowed,)
            for name, allowed in entry.get("where", {}).items()
        },
        window=_span(entry.get("window", "15m")),
        timeout=_span(entry["timeout"]) if entry.get("timeout") else None,
        timeout_bills=entry.get("timeout_bills", "last_sign"),
    )


def _span(text: str) -> int:
    found = re.fullmatch(r"(\d+)(ms|s|m|h|d)", text)
    assert found is not None, text
    return int(found[1]) * _UNIT_MICROSECONDS[found[2]]


def _instant(value: datetime | str) -> int:
    when = datetime.fromisoformat(value) if isinstance(value, str) else value
    since = when.astimezone(UTC) - _EPOCH
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds

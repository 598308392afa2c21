"""The catalogue: which meters there are, what they read and how they count (DESIGN section 7).

`load_catalogue` parses ``meters.yaml`` with pydantic at the door and hands out plain frozen values.
Everything that decides a figure is part of a meter's ``version``, a hash of its definition.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from meterstream_aggregator.errors import UnknownMeter

MINUTE: Final = 60_000_000
"""Microseconds in a minute."""
HOUR: Final = 60 * MINUTE
DAY: Final = 24 * HOUR
FUTURE_MAX: Final = HOUR
"""How far an event's time may lie ahead of its append time, in microseconds."""


class Aggregate(StrEnum):
    """How a meter joins amounts."""

    COUNT = "count"
    SUM = "sum"
    MIN = "min"
    MAX = "max"
    SESSION = "session"


class TimeoutBills(StrEnum):
    """What a session that nobody ended is charged for once it timed out."""

    LAST_SIGN = "last_sign"
    TIMEOUT = "timeout"


@dataclass(frozen=True, slots=True)
class Meter:
    """One meter. ``window``, ``grace`` and ``timeout`` are microseconds.

    ``value`` is ``"quantity"`` or ``"attributes.NAME"``; ``where`` keeps an event when, for every
    named attribute, its value is one of those listed (an absent attribute is the empty text).
    """

    name: str
    type: str
    aggregate: Aggregate
    value: str
    unit: str
    group_by: tuple[str, ...]
    where: tuple[tuple[str, tuple[str, ...]], ...]
    window: int
    grace: int
    timeout: int | None
    timeout_bills: TimeoutBills
    series_per_tenant: int

    @property
    def value_attribute(self) -> str | None:
        """The attribute that holds the amount, or None when it is the event's quantity."""
        return self.value.removeprefix("attributes.") if self.value != "quantity" else None

    @property
    def version(self) -> str:
        """Sixteen hexadecimal digits over everything that decides a figure of this meter."""
        return digest(definition(self))


@dataclass(frozen=True, slots=True)
class Catalogue:
    """All meters in force, and since when there is metering (microseconds)."""

    metering_since: int
    meters: tuple[Meter, ...]

    @property
    def version(self) -> str:
        """Sixteen hexadecimal digits over the whole catalogue."""
        return digest(
            {"since": self.metering_since, "meters": [definition(meter) for meter in self.meters]}
        )

    def meter(self, name: str) -> Meter:
        """The meter of that name. Raises `UnknownMeter`, which lists the names there are."""
        for meter in self.meters:
            if meter.name == name:
                return meter
        raise UnknownMeter(name, [meter.name for meter in self.meters])

    def usage_meters(self, event_type: str) -> tuple[Meter, ...]:
        """The meters that read USAGE events of a type."""
        return tuple(
            meter
            for meter in self.meters
            if meter.type == event_type and meter.aggregate is not Aggregate.SESSION
        )

    def session_meters(self, event_type: str) -> tuple[Meter, ...]:
        """The meters that read session boundaries of a type."""
        return tuple(
            meter
            for meter in self.meters
            if meter.type == event_type and meter.aggregate is Aggregate.SESSION
        )


def definition(meter: Meter) -> dict[str, object]:
    """Everything that decides a figure, as JSON values. Unit and limits of display stay out."""
    return {
        "name": meter.name,
        "type": meter.type,
        "aggregate": meter.aggregate.value,
        "value": meter.value,
        "group_by": list(meter.group_by),
        "where": {name: list(values) for name, values in meter.where},
        "window": meter.window,
        "grace": meter.grace,
        "timeout": meter.timeout,
        "timeout_bills": meter.timeout_bills.value,
    }


def dump_catalogue(catalogue: Catalogue) -> str:
    """Canonical JSON of a catalogue, as a store keeps it."""
    return json.dumps(
        {
            "metering_since": catalogue.metering_since,
            "meters": [
                definition(meter)
                | {"unit": meter.unit, "series_per_tenant": meter.series_per_tenant}
                for meter in catalogue.meters
            ],
        },
        sort_keys=True,
        separators=(",", ":"),
    )


def undump_catalogue(text: str) -> Catalogue:
    """The catalogue that `dump_catalogue` wrote."""
    content = json.loads(text)
    return Catalogue(
        content["metering_since"],
        tuple(
            Meter(
                name=entry["name"],
                type=entry["type"],
                aggregate=Aggregate(entry["aggregate"]),
                value=entry["value"],
                unit=entry["unit"],
                group_by=tuple(entry["group_by"]),
                where=tuple((name, tuple(values)) for name, values in entry["where"].items()),
                window=entry["window"],
                grace=entry["grace"],
                timeout=entry["timeout"],
                timeout_bills=TimeoutBills(entry["timeout_bills"]),
                series_per_tenant=entry["series_per_tenant"],
            )
            for entry in content["meters"]
        ),
    )


def digest(content: object) -> str:
    """Sixteen hexadecimal digits of the canonical JSON of ``content``."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()

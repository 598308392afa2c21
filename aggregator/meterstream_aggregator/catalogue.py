"""The catalogue: which meters there are, what they read and how they count (DESIGN section 7).

`load_catalogue` parses ``meters.yaml`` with pydantic at the door and hands out plain frozen values.
Everything that decides a figure is part of a meter's ``version``, a hash of its definition.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, NamedTuple

from meterstream_aggregator.errors import UnknownMeter

MINUTE: Final = 60_000_000
"""Microseconds in a minute."""
HOUR: Final = 60 * MINUTE
DAY: Final = 24 * HOUR
LENGTH_MAX: Final = 400 * DAY
"""No session is longer, whatever its meters allow."""
SESSION_WINDOWS_MAX: Final = 50_000
"""Most windows that one session may span, unless its meter says how long one may last."""
FUTURE_MAX: Final = HOUR
"""How far an event's time may lie ahead of its append time, in microseconds."""


class Aggregate(StrEnum):
    """How a meter joins amounts."""

    COUNT = "count"
    SUM = "sum"
    AVERAGE = "average"
    MIN = "min"
    MAX = "max"
    LATEST = "latest"
    """The amount of the last event: by event time, then number, then position."""
    UNIQUE = "unique"
    """How many different texts were added and not removed afterwards."""
    TIME_WEIGHTED = "time_weighted"
    """Levels of a gauge: amount times seconds, each level held until the next sample."""
    TIME_WEIGHTED_CHANGES = "time_weighted_changes"
    """The same of a gauge that tells its changes; ``samples: changes`` in the file."""
    SESSION = "session"


ADDED: Final = frozenset(
    {
        Aggregate.COUNT,
        Aggregate.SUM,
        Aggregate.AVERAGE,
        Aggregate.TIME_WEIGHTED_CHANGES,
        Aggregate.SESSION,
    }
)
"""Aggregates whose rows join by addition."""
EXTREMES: Final = frozenset({Aggregate.MIN, Aggregate.MAX})
"""Aggregates whose rows join by the smaller or the greater."""
KEPT: Final = frozenset({Aggregate.LATEST, Aggregate.UNIQUE, Aggregate.TIME_WEIGHTED})
"""Aggregates that keep single events beside their rows: see `changes.ItemDelta`."""
INVERTIBLE: Final = ADDED - {Aggregate.SESSION}
"""Aggregates that a VOID can take an event out of."""
MOMENT: Final = 32
"""Added to the scale of a usage row that holds a first moment: amount times microseconds after the
start of its window. Only of `Aggregate.TIME_WEIGHTED_CHANGES`."""


class TimeoutBills(StrEnum):
    """What a session that nobody ended is charged for once it timed out."""

    LAST_SIGN = "last_sign"
    TIMEOUT = "timeout"


class Test(StrEnum):
    """What a condition asks of an attribute."""

    IN = "in"
    NOT_IN = "not_in"
    EXISTS = "exists"
    ABSENT = "absent"


class Condition(NamedTuple):
    """One condition on an attribute. To IN and NOT_IN an absent attribute is the empty text.

    ``values`` are sorted and distinct; empty for EXISTS and ABSENT.
    """

    name: str
    test: Test
    values: tuple[str, ...] = ()

    def holds(self, attributes: Mapping[str, str]) -> bool:
        """Whether attributes fulfil it."""
        match self.test:
            case Test.IN:
                return attributes.get(self.name, "") in self.values
            case Test.NOT_IN:
                return attributes.get(self.name, "") not in self.values
            case Test.EXISTS:
                return self.name in attributes
            case Test.ABSENT:
                return self.name not in attributes


@dataclass(frozen=True, slots=True)
class Meter:
    """One definition of a meter. Lengths and times are microseconds.

    It reads events with ``since <= time < until`` (sessions by their start); a meter that changed
    has several definitions of one name, whose times do not overlap. ``value`` is ``"quantity"``,
    ``"attributes.NAME"`` or, for `Aggregate.UNIQUE`, also ``"subject"``. ``where`` keeps an event
    that fulfils every condition. ``operation`` names the attribute whose text ``remove`` takes a
    value out of a unique meter. ``longest`` bounds a session's length.
    """

    name: str
    type: str
    aggregate: Aggregate
    value: str
    unit: str
    group_by: tuple[str, ...]
    where: tuple[Condition, ...]
    window: int
    grace: int
    timeout: int | None
    timeout_bills: TimeoutBills
    series_per_tenant: int
    longest: int = LENGTH_MAX
    operation: str | None = None
    since: int = 0
    until: int | None = None
    version: str = field(init=False, compare=False)
    """Sixteen hexadecimal digits over everything that decides a figure of this definition.

    ``since`` is in it: a definition that returns is another one, with figures of its own. Sessions
    that outlast a change, and levels that are carried over it, could not be told apart otherwise.
    """

    def __post_init__(self) -> None:
        facts = definition(self) | ({"since": self.since} if self.since else {})
        object.__setattr__(self, "version", digest(facts))

    def reads(self, time: int) -> bool:
        """Whether events of that time are read by this definition."""
        return self.since <= time and (self.until is None or time < self.until)

    @property
    def value_attribute(self) -> str | None:
        """The attribute that holds the amount, or None when it is the event's quantity."""
        return self.value.removeprefix("attributes.") if self.value[:11] == "attributes." else None


class Threshold(NamedTuple):
    """Values of a meter that somebody wants to hear of. Not part of what decides a figure.

    ``scope`` is ``tenant``, each of those in ``of`` or every one where it is empty, or ``account``
    likewise. ``every``, ``zone`` and ``anchor`` cut time as a question does; ``at`` are plain
    decimals, ascending.
    """

    name: str
    meter: str
    scope: str
    of: tuple[str, ...]
    every: str
    zone: str
    anchor: int
    at: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Catalogue:
    """All definitions in force. Times are microseconds UTC.

    No window closes before ``metering_since``; an event before ``accept_from`` is refused.
    """

    metering_since: int
    meters: tuple[Meter, ...]
    accept_from: int = 0
    thresholds: tuple[Threshold, ...] = ()

    @property
    def version(self) -> str:
        """Sixteen hexadecimal digits over everything that decides a figure."""
        return digest(
            {
                "since": self.metering_since,
                "accept_from": self.accept_from,
                "meters": [dated(meter) for meter in self.meters],
            }
        )

    def meter(self, name: str) -> Meter:
        """The latest definition of a meter. Raises `UnknownMeter`, which lists the names."""
        return self.definitions(name)[-1]

    def definitions(self, name: str) -> tuple[Meter, ...]:
        """All definitions of a meter, the earliest first. Raises `UnknownMeter`."""
        found = tuple(meter for meter in self.meters if meter.name == name)
        if not found:
            raise UnknownMeter(name, list(dict.fromkeys(meter.name for meter in self.meters)))
        return found

    def usage_meters(self, event_type: str) -> tuple[Meter, ...]:
        """The definitions that read USAGE events of a type, whatever their time."""
        return tuple(
            meter
            for meter in self.meters
            if meter.type == event_type and meter.aggregate is not Aggregate.SESSION
        )

    def session_meters(self, event_type: str) -> tuple[Meter, ...]:
        """The definitions that read session boundaries of a type, whatever their time."""
        return tuple(
            meter
            for meter in self.meters
            if meter.type == event_type and meter.aggregate is Aggregate.SESSION
        )


def definition(meter: Meter) -> dict[str, object]:
    """Everything that decides a figure of this definition, as JSON values; not when it applies."""
    return {
        "name": meter.name,
        "type": meter.type,
        "aggregate": meter.aggregate.value,
        "value": meter.value,
        "group_by": list(meter.group_by),
        "where": [[name, test.value, list(values)] for name, test, values in meter.where],
        "window": meter.window,
        "grace": meter.grace,
        "timeout": meter.timeout,
        "timeout_bills": meter.timeout_bills.value,
        "series_per_tenant": meter.series_per_tenant,
        "longest": meter.longest,
        "operation": meter.operation,
    }


def dated(meter: Meter) -> dict[str, object]:
    """A definition with the times it applies to."""
    return definition(meter) | {"since": meter.since, "until": meter.until}


def dump_catalogue(catalogue: Catalogue) -> str:
    """Canonical JSON of a catalogue, as a store keeps it."""
    return json.dumps(
        {
            "metering_since": catalogue.metering_since,
            "accept_from": catalogue.accept_from,
            "meters": [dated(meter) | {"unit": meter.unit} for meter in catalogue.meters],
            "thresholds": [threshold._asdict() for threshold in catalogue.thresholds],
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
                **entry
                | {
                    "aggregate": Aggregate(entry["aggregate"]),
                    "group_by": tuple(entry["group_by"]),
                    "where": tuple(
                        Condition(name, Test(test), tuple(values))
                        for name, test, values in entry["where"]
                    ),
                    "timeout_bills": TimeoutBills(entry["timeout_bills"]),
                }
            )
            for entry in content["meters"]
        ),
        content["accept_from"],
        tuple(
            Threshold(**threshold | {"of": tuple(threshold["of"]), "at": tuple(threshold["at"])})
            for threshold in content["thresholds"]
        ),
    )


def digest(content: object) -> str:
    """Sixteen hexadecimal digits of the canonical JSON of ``content``."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()

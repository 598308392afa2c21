"""What all the fleet's sayings share: its calendar, its tenants, its texts, its hostility."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from meterstream_schemas.events import EventKind, MeterEvent

if TYPE_CHECKING:
    import random

SINCE = 1_767_225_600_000_000
"""2026-01-01T00:00:00Z, when metering begins."""
SECOND = 1_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR
SPAN = 36 * HOUR
BEGIN = SINCE + 4 * DAY
"""When the fleet begins to speak; sessions may go on for three days after `SPAN`."""

TENANTS = (
    "acme", "a", "a-b", "a-b-c", "b", "ACME", "Ünïcødé-株式会社", "t|1", "t:1", "../t", "x" * 128,
    "'; --", "0", "null", "tenant with spaces", "%00", "=1+1",
)  # fmt: skip
VALUES = ("", "/", "/pay", "a|b", "|", "a\x1fb", "\x00", "é", "e\u0301", "v" * 1024, "null", "0")
GOOD_NUMBERS = (
    "0", "1", "17", "-3", "+7", "1.5", "1.50", "-0.000001", ".5", "7.", "1e3", "-0", "12E-4",
    "9223372036854775807", "-9223372036854775808", "0.000000000000000001", "9.223372036854775807",
)  # fmt: skip
BAD_NUMBERS = (
    "", "NaN", "inf", "1_000", "٣", " 1", "1 ", "0x10", "1e19", "9223372036854775808", "1,5",
    "0.0000000000000000001", "--1", "1" * 65, "true",
)  # fmt: skip


@dataclass(frozen=True)
class Hostility:
    """How often each thing goes wrong, as shares of the events."""

    disorder: float = 0.3
    resends: float = 0.1
    holes: float = 0.02
    foreign: float = 0.05
    lateness: float = 0.1
    futures: float = 0.01
    ancient: float = 0.005
    keys: float = 0.08
    conflicts: float = 0.3
    """Of the repeated keys, how many contradict."""
    bad_values: float = 0.01
    unknown: float = 0.01
    mends: float = 0.5
    """Of the events of unknown type, how many come again, mended, under their number."""
    clones: float = 0.002
    extremes: float = 0.02
    malformed: float = 0.005
    sessions: float = 0.3
    clock_steps: float = 0.01
    clock_leaps: float = 0.0005
    """A broker's clock runs hours ahead for one record."""
    on_the_close: float = 0.0
    """The log has it at the very instant at which a window of it may close."""
    skew: float = 0.03
    """Events whose producer's clock is wrong by up to hours."""
    further: float = 0.35
    """What `tests.simulation.further` says: orders, VOIDs, seats, gauges, visits."""
    ticks: float = 0.03
    tenants: int = 17
    """How many of the tenants there are."""
    offset_gaps: float = 0.02


ANY = Hostility()


class Said(NamedTuple):
    """Something a service says at a moment of the fleet's clock (microseconds UTC)."""

    at: int
    event: MeterEvent


def blank(kind: EventKind) -> MeterEvent:
    """An event of a kind with nothing in it and no number."""
    return MeterEvent(kind, "", "", SINCE, 0, 0, None, None, {}, "", 0, 0, None)


def tenant_of(rng: random.Random, hostility: Hostility) -> str:
    """Somebody; the first ones far more often than the last."""
    return TENANTS[min(int(rng.paretovariate(0.9)), hostility.tenants, len(TENANTS)) - 1]


def hesitation(rng: random.Random, hostility: Hostility) -> int:
    """How long after its own time something is said."""
    if rng.random() < hostility.lateness:
        return rng.choice((40 * MINUTE, 3 * HOUR, 2 * DAY))
    return rng.randrange(2 * SECOND)

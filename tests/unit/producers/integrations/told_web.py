"""What the tests of server hooks read back."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from tests.unit.producers.reading import arrived

if TYPE_CHECKING:
    from meterstream import Meter
    from meterstream.memory import MemoryTransport


class Told(NamedTuple):
    """An event as a test compares it."""

    type: str
    tenant: str
    quantity: int
    attributes: dict[str, str]


def told(meter: Meter, transport: MemoryTransport) -> list[Told]:
    """Every event recorded so far, in the order of their times."""
    assert meter.flush(10)
    events = sorted(arrived(transport), key=lambda event: (event.time, event.sequence))
    return [Told(e.type, e.tenant, e.quantity, dict(e.attributes)) for e in events]


def attributes_of(meter: Meter, transport: MemoryTransport) -> list[dict[str, str]]:
    """Of every event."""
    return [event.attributes for event in told(meter, transport)]

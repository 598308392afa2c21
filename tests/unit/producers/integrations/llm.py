"""What the tests of the hooks into language model packages share."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

from tests.unit.producers.reading import arrived

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from meterstream import Meter
    from meterstream.memory import MemoryTransport
    from meterstream_schemas.events import MeterEvent

    Tell = Callable[[], "list[Told]"]


class Told(NamedTuple):
    """What the tests look at in an event."""

    tenant: str
    type: str
    quantity: int
    attributes: dict[str, str]


def told(meter: Meter, transport: MemoryTransport) -> list[Told]:
    """Every event that the meter has sent."""
    assert meter.flush(5)
    return [_told(event) for event in arrived(transport)]


def _told(event: MeterEvent) -> Told:
    assert event.scale == 0
    return Told(event.tenant, event.type, event.quantity, dict(event.attributes))


def refused(meter: Meter) -> int:
    """How many calls the meter refused."""
    return dict(meter.status().dropped).get("invalid", 0)


def sse(events: Sequence[Mapping[str, Any]], *, named: bool = False, done: bool = False) -> bytes:
    """Server-sent events, with their type as name where a provider sends it."""
    lines: list[str] = []
    for event in events:
        if named:
            lines.append(f"event: {event['type']}\n")
        lines.append(f"data: {json.dumps(event)}\n\n")
    if done:
        lines.append("data: [DONE]\n\n")
    return "".join(lines).encode()

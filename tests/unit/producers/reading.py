"""What tests read back from a memory transport."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from meterstream_schemas import codec, wire
from meterstream_schemas.events import EventKind, MeterEvent

if TYPE_CHECKING:
    from collections.abc import Iterable

    from meterstream.memory import MemoryTransport

SCHEMA: Final = codec.parse_text(codec.bundled_text(codec.LATEST_ID))


def decoded(value: bytes) -> MeterEvent:
    """The event in a framed record."""
    schema_id, body = wire.split(value)
    assert schema_id == codec.LATEST_ID
    return codec.decode_body(body, SCHEMA)


def arrived(transport: MemoryTransport) -> list[MeterEvent]:
    """Every event in the log but marks, partition by partition."""
    return [event for event in everything(transport) if event.kind is not EventKind.MARK]


def marks(transport: MemoryTransport) -> list[MeterEvent]:
    """Every mark in the log."""
    return [event for event in everything(transport) if event.kind is EventKind.MARK]


def everything(transport: MemoryTransport) -> Iterable[MeterEvent]:
    """Every record of the log as an event."""
    for records in transport.log:
        for record in records:
            event = decoded(record.value)
            assert record.key == event.tenant.encode()
            yield event


def numbers(events: Iterable[MeterEvent]) -> dict[tuple[str, int], list[int]]:
    """The numbers of events by producer and lane, in the order of the log."""
    found: dict[tuple[str, int], list[int]] = {}
    for event in events:
        found.setdefault((event.producer, event.lane), []).append(event.sequence)
    return found

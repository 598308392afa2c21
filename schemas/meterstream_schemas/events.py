"""The meter event, the one value that travels from a service to a figure, and its limits.

Times are integer microseconds since 1970-01-01 UTC. An amount is ``quantity * 10**-scale``.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final, NamedTuple

LANES: Final = 256
"""Numbering lanes per producer incarnation; a power of two so that partitions divide it."""

SCALE_MAX: Final = 18
QUANTITY_MAX: Final = 2**63 - 1
QUANTITY_MIN: Final = -(2**63)
TIME_MAX_MICROSECONDS: Final = 253_402_300_800_000_000
"""First microsecond of the year 10000: nothing at or after it is a time."""

TENANT_BYTES_MAX: Final = 128
TYPE_BYTES_MAX: Final = 128
ID_BYTES_MAX: Final = 256
"""Longest session id, subject, or caller key, in UTF-8 bytes."""
ATTRIBUTES_MAX: Final = 32
ATTRIBUTE_NAME_BYTES_MAX: Final = 64
ATTRIBUTE_VALUE_BYTES_MAX: Final = 1024
EVENT_BYTES_MAX: Final = 16_384

EVENTS_TOPIC: Final = "meterstream.events"
DEADLETTERS_TOPIC: Final = "meterstream.deadletters"
NOTICES_TOPIC: Final = "meterstream.notices"


class EventKind(StrEnum):
    """What an event says. The order is the Avro enum's order and may only grow at the end."""

    UNKNOWN = "UNKNOWN"
    USAGE = "USAGE"
    SESSION_START = "SESSION_START"
    SESSION_HEARTBEAT = "SESSION_HEARTBEAT"
    SESSION_END = "SESSION_END"
    VOID = "VOID"
    MARK = "MARK"


class MeterEvent(NamedTuple):
    """One event as it stands on the wire. Field order is the Avro field order."""

    kind: EventKind
    tenant: str
    type: str
    time: int
    quantity: int
    scale: int
    session: str | None
    subject: str | None
    attributes: Mapping[str, str]
    producer: str
    lane: int
    sequence: int
    key: str | None

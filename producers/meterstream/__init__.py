"""The SDK: record what a tenant uses, from inside a service.

The functions here are those of the process's default meter, see `meterstream.default`. Some of
them hide modules of the same names as attributes of this package: ``from meterstream.session
import ...`` works as ever.
"""

from __future__ import annotations

from meterstream.charging import Call
from meterstream.counting import Counter
from meterstream.default import (
    close,
    coalesced,
    configure,
    context,
    counter,
    default_meter,
    flush,
    metered,
    record,
    session,
    session_end,
    session_heartbeat,
    session_start,
    status,
    stream,
    timer,
    void,
)
from meterstream.durability import Durability
from meterstream.errors import BufferFull, MeterClosed, MeterError, SettingsError
from meterstream.intake import Overflow
from meterstream.meter import Meter
from meterstream.metered import Timer
from meterstream.session import Session
from meterstream.status import Outcome, Status
from meterstream_schemas.errors import InvalidEvent, InvalidQuantity

__all__ = [
    "BufferFull",
    "Call",
    "Counter",
    "Durability",
    "InvalidEvent",
    "InvalidQuantity",
    "Meter",
    "MeterClosed",
    "MeterError",
    "Outcome",
    "Overflow",
    "Session",
    "SettingsError",
    "Status",
    "Timer",
    "close",
    "coalesced",
    "configure",
    "context",
    "counter",
    "default_meter",
    "flush",
    "metered",
    "record",
    "session",
    "session_end",
    "session_heartbeat",
    "session_start",
    "status",
    "stream",
    "timer",
    "void",
]

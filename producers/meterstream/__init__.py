"""The SDK: record what a tenant uses, from inside a service.

The functions here are those of the process's default meter, see `meterstream.default`. Some of
them hide modules of the same names as attributes of this package: ``from meterstream.session
import ...`` works as ever.
"""

from __future__ import annotations

from meterstream.default import (
    close,
    configure,
    context,
    counter,
    default_meter,
    flush,
    metered,
    record,
    session,
    status,
    stream,
    timer,
)
from meterstream.errors import BufferFull, MeterClosed, MeterError, SettingsError
from meterstream.meter import Meter
from meterstream.session import Session
from meterstream.status import Outcome, Status
from meterstream_schemas.errors import InvalidEvent, InvalidQuantity

__all__ = [
    "BufferFull",
    "InvalidEvent",
    "InvalidQuantity",
    "Meter",
    "MeterClosed",
    "MeterError",
    "Outcome",
    "Session",
    "SettingsError",
    "Status",
    "close",
    "configure",
    "context",
    "counter",
    "default_meter",
    "flush",
    "metered",
    "record",
    "session",
    "status",
    "stream",
    "timer",
]

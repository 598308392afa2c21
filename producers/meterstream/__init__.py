"""The SDK: record what a tenant uses, from inside a service."""

from __future__ import annotations

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
]

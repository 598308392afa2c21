"""What a record of meter-lib means: from its JSON to offers.

=======================  ==========================================================================
``meter_id``             type
``customer_id``          tenant; see `meterstream_services.clients.meter_lib.customers`
``total_usage``          quantity: a number or its text, exact; refused where it is anything else
``event_time``           time, from milliseconds UTC; now without one
``start_time``           a session begins; ``end_time``: it ends; both: a session by itself
``metadata``             attributes under their own names, cut where they are too long;
                         ``session_id`` names the session, ``idempotency_key`` makes a repeat known
=======================  ==========================================================================

The published client does not send its device. Boundaries without ``session_id`` pair up by subject,
and the subject is ``metadata["device_id"]`` where an application adds it, else the tenant itself:
which start belongs to which end is then a guess among the tenant's devices, and the sum of seconds
is the same whatever the pairs, as long as every session ends.

A session that is told whole has an id made of what it says, so that telling it again is no second
session.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Final, cast

from meterstream_schemas.checks import check_text, check_time
from meterstream_schemas.errors import InvalidEvent
from meterstream_schemas.events import ID_BYTES_MAX, TYPE_BYTES_MAX, EventKind
from meterstream_schemas.quantity import parse_amount
from meterstream_services.clients.exact_json import exact_text
from meterstream_services.clients.metadata import as_id, fitting
from meterstream_services.gateway.port import Offer

SESSION_ID: Final = "session_id"
DEVICE_ID: Final = "device_id"
IDEMPOTENCY_KEY: Final = "idempotency_key"

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECONDS_MAX: Final = 10**15


def offers_of(value: Mapping[str, Any], tenant: str, *, device: str | None = None) -> list[Offer]:
    """One event, or a session's boundaries. Raises `InvalidEvent` for what cannot be counted.

    Everything is checked here, so that of two boundaries none is refused without the other.
    """
    meter = check_text(value.get("meter_id", ""), field="meter_id", bytes_max=TYPE_BYTES_MAX)
    metadata = _metadata(value.get("metadata"))
    key = _id(metadata.get(IDEMPOTENCY_KEY), ID_BYTES_MAX - len(":start"))
    told_device = _id(device or metadata.get(DEVICE_ID))
    if value.get("ai_event") or not value.keys().isdisjoint({"start_time", "end_time"}):
        return _session(value, tenant, meter, metadata, device=told_device, key=key)
    if value.get("total_usage") is None:
        raise InvalidEvent("total_usage", "is missing; pass what was used")
    quantity = value["total_usage"]
    parse_amount(quantity, field="total_usage")
    return [
        Offer(
            type=meter,
            tenant=tenant,
            quantity=quantity,
            time=_time(value.get("event_time"), "event_time"),
            subject=told_device,
            attributes=fitting(metadata),
            key=key,
        )
    ]


def _session(
    value: Mapping[str, Any],
    tenant: str,
    meter: str,
    metadata: Mapping[str, str],
    *,
    device: str | None,
    key: str | None,
) -> list[Offer]:
    start = _time(value.get("start_time"), "start_time")
    end = _time(value.get("end_time"), "end_time")
    if start is None and end is None:
        raise InvalidEvent("start_time", "is missing, and end_time too; pass one of them")
    session = _id(metadata.get(SESSION_ID))
    if session is None and start is not None and end is not None:
        session = _whole_session(tenant, meter, start, end, metadata)
    if start is not None and end is not None and end < start:
        raise InvalidEvent("end_time", "is before start_time")
    attributes = fitting(metadata)
    told = ((EventKind.SESSION_START, "start", start), (EventKind.SESSION_END, "end", end))
    return [
        Offer(
            type=meter,
            tenant=tenant,
            quantity=0,
            time=time,
            kind=kind,
            session=session,
            subject=device or (tenant if session is None else None),
            attributes=attributes,
            key=None if key is None else f"{key}:{boundary}",
        )
        for kind, boundary, time in told
        if time is not None
    ]


def _whole_session(
    tenant: str, meter: str, start: int, end: int, metadata: Mapping[str, str]
) -> str:
    content = json.dumps([tenant, meter, start, end, sorted(metadata.items())])
    return hashlib.sha256(content.encode()).hexdigest()[:32]


def _metadata(value: object) -> dict[str, str]:
    """Metadata as texts, whole: text as it is, anything else as JSON."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise InvalidEvent("metadata", "is no JSON object; pass one")
    given = cast("dict[str, Any]", value)
    return {
        name: each if isinstance(each, str) else exact_text(each) for name, each in given.items()
    }


def _id(told: str | None, bytes_max: int = ID_BYTES_MAX) -> str | None:
    """An id of metadata; its digest where it is too long. An empty one is none."""
    return as_id(told, bytes_max=bytes_max) if told else None


def _time(value: object, field: str) -> int | None:
    """Microseconds, from milliseconds, or from ISO 8601 as 0.0.7 writes it."""
    if value is None:
        return None
    if isinstance(value, bool):
        raise InvalidEvent(field, "is true or false, and no time; pass milliseconds UTC")
    if isinstance(value, int | Decimal):
        if not -_MILLISECONDS_MAX < value < _MILLISECONDS_MAX:
            raise InvalidEvent(field, "is too large for milliseconds UTC")
        return check_time(int(value * 1000))
    if isinstance(value, str) and len(value) <= 64:
        try:
            told = datetime.fromisoformat(value.strip())
            aware = told if told.tzinfo is not None else told.replace(tzinfo=UTC)
            return check_time((aware - _EPOCH) // timedelta(microseconds=1))
        except (ValueError, OverflowError):
            pass
    raise InvalidEvent(field, f"{str(value)[:64]!r} is no time; pass milliseconds UTC")

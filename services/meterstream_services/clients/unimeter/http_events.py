"""Unimeter's events over HTTP: the array that its server takes at ``POST /v1/events``.

The vendor's server logs these events and never counts them; here they mean what the same events
over TCP mean. A key of one tenant speaks for that tenant, with the account as subject; any other
key for accounts as tenants of their own.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from meterstream.compat.unimeter_values import OperationType
from meterstream_services.clients.book import BookUnavailable
from meterstream_services.clients.unimeter import wire
from meterstream_services.clients.unimeter.meaning import Known, Meaning, Told
from meterstream_services.clients.unimeter.metrics import Metrics
from meterstream_services.clients.unimeter.wire import U64_MAX, BadFrame, EventRow
from meterstream_services.gateway.port import Patience, Ruling
from meterstream_services.http.parts import Parts
from meterstream_services.http.rates import charge
from meterstream_services.http.threads import Work, in_thread
from meterstream_services.keys.principal import ALL, Principal, Scope

ITEMS_MAX: Final = 1_000
_FIELDS: Final = frozenset(
    {"account_id", "metric_code", "value", "timestamp", "operation_type", "properties"}
)
_IGNORED: Final = frozenset({"delivery_mode"})
"""Every event waits for the log, whatever it asks for."""
_OPERATIONS: Final = {each.name.lower(): each for each in OperationType}


async def record_array(
    request: Request, parts: Parts, principal: Principal, body: list[Any]
) -> Response:
    """Record an array: 200 and ``{"ok": true, "count": n}`` when the log has all of it.

    400 where an item is wrong: nothing is kept then, unless the answer says so; 403 and 503 as
    everywhere.
    """
    try:
        return await _recorded(request, parts, principal, body)
    except BadFrame as problem:
        return _error(400, problem.reason)
    except BookUnavailable as problem:
        return _error(503, str(problem), retry_after=1)
    except _Refused as refused:
        return refused.response


class _Refused(Exception):
    """The request is answered with ``response``."""

    def __init__(self, response: Response) -> None:
        super().__init__()
        self.response = response


async def _recorded(
    request: Request, parts: Parts, principal: Principal, body: list[Any]
) -> Response:
    door = parts.door
    if not principal.may(Scope.INGEST):
        raise _Refused(_error(403, "this key may not record; use one with the scope ingest"))
    if len(body) > ITEMS_MAX:
        raise _Refused(_error(413, f"{len(body)} events; send at most {ITEMS_MAX} at once"))
    if door is None:
        raise _Refused(_error(503, "nothing is taken here: no broker is named", retry_after=30))
    tenant = principal.sole_tenant
    owner = ALL if tenant is None else principal.owner
    known = await in_thread(Work.BOOK, Metrics(parts.book, owner).read)
    told = _told(body, tenant, known)
    for offer in told.offers:
        if not principal.may_use(offer.tenant):
            raise _Refused(_error(403, f"this key is not for the account {offer.tenant}"))
    wait_seconds = charge(request, len(told.offers))
    if wait_seconds is not None:
        pause = math.ceil(wait_seconds)
        why = "this key sends more events than its rate allows"
        raise _Refused(_error(429, why, retry_after=pause))
    fates = await door.take(told.offers, Patience.LOG if told.is_keyed else Patience.LOG_OR_SPOOL)
    for fate in fates:
        if fate.ruling is Ruling.UNAVAILABLE:
            pause = door.retry_after_seconds()
            raise _Refused(_error(503, "the log is away; come again", retry_after=pause))
    for number, fate in enumerate(fates):
        if fate.ruling is Ruling.REFUSED:
            raise BadFrame(f"item {number}: {fate.field} {fate.reason}; the others are kept")
    return JSONResponse({"ok": True, "count": len(fates)})


def _told(body: list[Any], tenant: str | None, known: Known) -> Told:
    """The offers of an array, by the rows that the same events make over TCP."""
    events = [_event(number, item) for number, item in enumerate(body)]
    rows, properties = wire.event_rows(wire.encode_events(events))
    told = Meaning(tenant).offers(rows, properties, known)
    if told.refused:
        raise BadFrame("an event has more to filter by than a question can name")
    return told


def _event(number: int, item: object) -> tuple[EventRow, Mapping[str, str]]:
    """One item. Raises `BadFrame`."""
    if not isinstance(item, dict):
        raise BadFrame(f"item {number} is no object")
    unknown = item.keys() - _FIELDS - _IGNORED
    if unknown:
        raise BadFrame(f"item {number}: {min(map(str, unknown))[:64]!r} is not a field of an event")
    code = item.get("metric_code")
    if not isinstance(code, str) or not 1 <= len(code.encode("utf-8", "replace")) < wire.CODE_BYTES:
        raise BadFrame(f"item {number}: metric_code is to be a text of 1 to 63 bytes")
    operation = item.get("operation_type", 0)
    operation = _OPERATIONS.get(operation, operation) if isinstance(operation, str) else operation
    if not isinstance(operation, int) or not 0 <= operation <= OperationType.REMOVE:
        raise BadFrame(f"item {number}: operation_type is to be none, add or remove")
    properties = _properties(number, item.get("properties") or {})
    row = EventRow(
        wire.padded(code, wire.CODE_BYTES),
        _number(number, item, "account_id"),
        _number(number, item, "timestamp", default=0, most=2**63 - 1),
        _number(number, item, "value", default=1),
        int(operation),
        len(properties),
    )
    return row, properties


def _number(
    number: int, item: Mapping[str, Any], field: str, *, default: int | None = None,
    most: int = U64_MAX,
) -> int:  # fmt: skip
    value = item.get(field, default)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= most:
        raise BadFrame(f"item {number}: {field} is to be a whole number from 0 to {most}")
    return value


def _properties(number: int, told: object) -> Mapping[str, str]:
    if not isinstance(told, dict) or len(told) > 255:
        raise BadFrame(f"item {number}: properties are to be an object of at most 255 texts")
    for name, value in told.items():
        if not isinstance(value, str) or "\0" in f"{name}{value}":
            raise BadFrame(f"item {number}: properties are to be texts")
        if (
            len(str(name).encode("utf-8", "replace")) > 31
            or len(value.encode("utf-8", "replace")) > 63
        ):
            raise BadFrame(f"item {number}: a property has a name of 31 and a value of 63 bytes")
    return told


def _error(status: int, reason: str, *, retry_after: int | None = None) -> Response:
    headers = None if retry_after is None else {"Retry-After": str(retry_after)}
    return JSONResponse({"ok": False, "error": reason}, status, headers)

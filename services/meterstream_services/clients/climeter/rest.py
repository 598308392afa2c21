"""CLIMeter's documented ``POST /v1/events``: one event by ``tool_id``. No client sends it."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final

from fastapi import Request
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from meterstream_services.clients.climeter.errors import error
from meterstream_services.clients.climeter.events import Called, InvalidItem, offer_of, time_of
from meterstream_services.clients.climeter.ingest import problem_of
from meterstream_services.clients.climeter.payer import tenant_of
from meterstream_services.clients.shaped_routes import away, need
from meterstream_services.gateway.port import Offer, Patience, Ruling
from meterstream_services.http.parts import Parts
from meterstream_services.http.rates import charge, too_fast
from meterstream_services.keys.principal import Forbidden, Principal, Scope

AGE_MAX: Final = 24 * 3_600 * 1_000_000
METADATA_MAX: Final = 10
VALUE_MAX: Final = 256
_KEY_MAX: Final = 200


async def record_single(
    request: Request, parts: Parts, principal: Principal, body: dict[str, Any]
) -> Response:
    """One event, as CLIMeter documents it; answered when the log has it.

    Without an ``idempotency_key`` it has a random one, which is its ``event_id``: only the spool's
    word keeps a repetition from counting twice then.
    """
    try:
        return await _record(request, parts, principal, body)
    except Forbidden as problem:
        return error(403, problem.reason)
    except HTTPException as problem:
        response = error(problem.status_code, problem.detail)
        response.headers.update(problem.headers or {})
        return response


async def _record(
    request: Request, parts: Parts, principal: Principal, body: dict[str, Any]
) -> Response:
    need(principal, Scope.INGEST)
    tenant = tenant_of(principal)
    key = body.get("idempotency_key")
    if key is not None and not (isinstance(key, str) and 0 < len(key) <= _KEY_MAX):
        return error(422, f"idempotency_key: is no text of 1 to {_KEY_MAX} characters")
    try:
        offer = _offer(body, tenant, parts.now(), key or f"evt_{secrets.token_hex(16)}")
    except InvalidItem as problem:
        return error(422, str(problem))
    wait_seconds = charge(request, 1)
    if wait_seconds is not None:
        return too_fast(request.scope["path"], wait_seconds)
    if parts.door is None:
        raise away(parts)
    patience = Patience.LOG if key else Patience.LOG_OR_SPOOL
    [fate] = await parts.door.take([offer], patience)
    if fate.ruling is Ruling.UNAVAILABLE:
        raise away(parts)
    if not fate.is_kept:
        return error(409 if fate.ruling is Ruling.CONFLICT else 422, problem_of(fate))
    time = parts.now() if offer.time is None else offer.time
    told = datetime.fromtimestamp(time // 1_000_000, UTC).isoformat().replace("+00:00", "Z")
    assert offer.attributes is not None
    return JSONResponse(
        {
            "event_id": offer.key,
            "tool_id": offer.attributes["tool"],
            "status": "recorded",
            "timestamp": told,
        },
        201,
    )


def _offer(body: dict[str, Any], tenant: str, now: int, key: str) -> Offer:
    """The event that is documented. Raises `InvalidItem`."""
    tool = body.get("tool_id") or body.get("tool_slug")
    if not isinstance(tool, str) or not tool:
        raise InvalidItem("tool_id: is missing; name the tool")
    command = body.get("command") or body.get("event_name") or "call"
    if not isinstance(command, str):
        raise InvalidItem("event_name: is no text")
    success = body.get("success", True)
    if not isinstance(success, bool):
        raise InvalidItem("success: is neither true nor false")
    metadata = body.get("metadata")
    if metadata is not None and (not isinstance(metadata, dict) or len(metadata) > METADATA_MAX):
        raise InvalidItem(f"metadata: is no object of at most {METADATA_MAX} members")
    for name, value in (metadata or {}).items():
        if isinstance(value, dict | list) or len(str(value)) > VALUE_MAX:
            raise InvalidItem(f"metadata.{name[:64]}: is longer than {VALUE_MAX} characters")
    time = time_of(body.get("timestamp"), now)
    if time is not None and now - time > AGE_MAX:
        raise InvalidItem("timestamp: is more than 24 hours ago")
    # What lies ahead at all happens now.
    time = None if time is not None and time > now else time
    called = Called(tool, command, "success" if success else "error")
    offer = offer_of(tenant, called, metadata, time)
    attributes = {**(offer.attributes or {}), **_duration(body.get("duration_ms"))}
    return offer._replace(attributes=attributes, key=key)


def _duration(told: object) -> dict[str, str]:
    if told is None:
        return {}
    if isinstance(told, bool) or not isinstance(told, int | Decimal) or told < 0:
        raise InvalidItem("duration_ms: is no number of milliseconds")
    return {"duration_ms": str(told)}

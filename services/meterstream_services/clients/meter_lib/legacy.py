"""What meter-lib 0.0.3 sent to `/api/v1/events`: one bare event, tenant and device in headers."""

from __future__ import annotations

from typing import Any, Final

from fastapi import Request
from starlette.exceptions import HTTPException
from starlette.responses import Response

from meterstream_schemas.errors import InvalidEvent
from meterstream_services.clients.meter_lib.customers import sender_of
from meterstream_services.clients.meter_lib.errors import error
from meterstream_services.clients.meter_lib.reading import offers_of
from meterstream_services.clients.meter_lib.taking import take
from meterstream_services.http.parts import Parts
from meterstream_services.keys.principal import Principal

FIELDS: Final = frozenset({"meter_id", "customer_id"})
"""By these, and no ``specversion``, its events are told from others on the same path."""


async def record_legacy(
    request: Request, parts: Parts, principal: Principal, body: dict[str, Any]
) -> Response:
    """Record one event of that version; errors in the client's shape, none is raised."""
    try:
        told = body.get("customer_id") or request.headers.get("x-tenant-id")
        tenant, sender = sender_of(parts, told, principal)
        device = request.headers.get("x-device-id") or None
        return await take(request, parts, sender, [offers_of(body, tenant, device=device)])
    except InvalidEvent as problem:
        return error(422, str(problem))
    except HTTPException as problem:
        response = error(problem.status_code, problem.detail)
        response.headers.update(problem.headers or {})
        return response

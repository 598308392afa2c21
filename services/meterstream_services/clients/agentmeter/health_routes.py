"""`GET /health`, as the clients of AgentMeter, Unimeter and StripeMeter ask for it."""

from __future__ import annotations

import time
from typing import Final

from fastapi import APIRouter
from starlette.responses import Response

from meterstream_aggregator.errors import StoreError
from meterstream_services.clients.agentmeter.errors import error
from meterstream_services.clients.agentmeter.values import shown
from meterstream_services.clients.exact_json import exact_response
from meterstream_services.clients.shaped_routes import shaped
from meterstream_services.http.parts import PartsOf

router = APIRouter(include_in_schema=False, route_class=shaped(error))

_BEGAN: Final = time.monotonic()


@router.get("/health")
def health(parts: PartsOf) -> Response:
    """The process answers. ``supabase`` is what the vendor calls its database: our store."""
    try:
        with parts.store() as store:
            store.positions()
        kept = "connected"
    except StoreError:
        kept = "disconnected"
    return exact_response(
        {
            "status": "ok",
            "timestamp": shown(parts.now()),
            "supabase": kept,
            "environment": "meterstream",
            "uptime_seconds": int(time.monotonic() - _BEGAN),
        }
    )

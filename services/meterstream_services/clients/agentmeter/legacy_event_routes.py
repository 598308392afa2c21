"""Events of AgentMeter 0.2.0: recorded with prices of the client's, listed, and added up.

An event is what `meterstream.compat.agentmeter` makes of the same call (decision 23): its id is its
key, its costs are exact. Without any price the client's own ``total_cost`` is its cost. Times have
no zone on the wire: they are read in the project's ``timezone``, UTC by default.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Any, Final
from zoneinfo import ZoneInfo

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from meterstream.compat.agentmeter.statistics import (
    API_CALLS,
    COSTS,
    PAYMENTS,
    TOKENS_IN,
    TOKENS_OUT,
)
from meterstream_services.clients.agentmeter import user_meters
from meterstream_services.clients.agentmeter.errors import error
from meterstream_services.clients.agentmeter.fates import answer_for
from meterstream_services.clients.agentmeter.legacy_events import (
    TYPES,
    Charge,
    charge_of,
    shown_event,
    span_of,
)
from meterstream_services.clients.agentmeter.listing import EVENTS_MAX, Wanted, listed_events
from meterstream_services.clients.agentmeter.projects import (
    named_project,
    settings_of,
    tenants_for,
    zone_of,
)
from meterstream_services.clients.agentmeter.values import instant, shown
from meterstream_services.clients.asking import usage
from meterstream_services.clients.book import Book, Content
from meterstream_services.clients.exact_json import exact_response
from meterstream_services.clients.shaped_routes import ObjectOf, away, need, shaped
from meterstream_services.gateway.port import Patience
from meterstream_services.http import rates
from meterstream_services.http.guarding import PrincipalOf
from meterstream_services.http.parts import PartsOf
from meterstream_services.http.threads import Work, in_thread
from meterstream_services.keys.principal import Scope

router = APIRouter(include_in_schema=False, route_class=shaped(error))

_BEYOND: Final = "Threshold exceeded. Payment required."


@router.post("/api/meter/event")
async def record(
    request: Request, body: ObjectOf, parts: PartsOf, principal: PrincipalOf
) -> Response:
    """Record one event. 402 after storing where the project asks for it and the limit is passed."""
    need(principal, Scope.INGEST)
    project = named_project(principal, body.get("project_id"))
    settings, zone = await in_thread(Work.BOOK, _settings, parts.book, project)
    charge = charge_of(body, project, zone=zone, now=parts.now())
    if parts.door is None:
        raise away(parts)
    wait_seconds = rates.charge(request, 1)
    if wait_seconds is not None:
        return rates.too_fast(request.scope["path"], wait_seconds)
    patience = Patience.LOG_OR_SPOOL if charge.offer.key is None else Patience.LOG
    [fate] = await parts.door.take([charge.offer], patience)
    place = answer_for(fate, parts)
    meter = await in_thread(Work.BOOK, _book, parts.book, charge, parts.now())
    return _answer(charge, place, meter, settings)


@router.get("/api/meter/events")
def listed(
    parts: PartsOf,
    principal: PrincipalOf,
    *,
    project_id: str | None = None,
    agent_id: str | None = None,
    user_id: str | None = None,
    event_type: str | None = None,
    start_date: str | None = None,
    end_date: str | None = None,
    limit: Annotated[int, Query(ge=1, le=EVENTS_MAX)] = 100,
) -> Response:
    """The latest events first."""
    need(principal, Scope.READ)
    tenants = tenants_for(parts.book, principal, project_id or None)
    zone = zone_of(settings_of(parts.book, tenants[0]) if len(tenants) == 1 else {})
    types = tuple(TYPES.values()) if not event_type else (TYPES.get(event_type, ""),)
    wanted = Wanted(
        tuple(tenants),
        types,
        instant(start_date, "start_date", zone) or 0,
        instant(end_date, "end_date", zone),
        {"agent": agent_id or None},
        user_id or None,
    )
    return exact_response([shown_event(each) for each in listed_events(parts, wanted, limit=limit)])


@router.get("/api/meter/stats")
def stats(
    parts: PartsOf,
    principal: PrincipalOf,
    *,
    project_id: str | None = None,
    timeframe: str = "30 days",
    agent_id: str | None = None,
) -> Response:
    """Totals of a project over the whole hours of a timeframe, the present one included."""
    need(principal, Scope.READ)
    project = named_project(principal, project_id)
    start, end = span_of(timeframe, parts.now())

    def figure(meter: str) -> Decimal:
        where = [f"agent={agent_id}"] if agent_id else []
        rows = usage(parts, meter, start, end, tenants=[project], where=where)
        return sum((row.value or Decimal(0) for row in rows), Decimal(0))

    costs = {kind.value: figure(meter) for kind, meter in COSTS.items()}
    return exact_response(
        {
            "project_id": project,
            "timeframe": timeframe,
            "start": shown(start),
            "end": shown(end),
            "total_api_calls": figure(API_CALLS),
            "total_tokens_in": figure(TOKENS_IN),
            "total_tokens_out": figure(TOKENS_OUT),
            "total_payments": figure(PAYMENTS),
            "total_cost": sum(costs.values(), Decimal(0)),
            "cost_by_payment_type": costs,
        }
    )


def _settings(book: Book, project: str) -> tuple[Content, ZoneInfo]:
    found = settings_of(book, project)
    return found, zone_of(found)


def _book(book: Book, charge: Charge, now: int) -> dict[str, Any] | None:
    """What an event costs, booked to its user; the user's meter then."""
    user = charge.offer.subject
    if user is None:
        return None
    return user_meters.increment(
        book, charge.offer.tenant, user, charge.cost, now=now, key=f"event:{charge.id}"
    )


def _answer(
    charge: Charge, place: str | None, meter: dict[str, Any] | None, settings: Content
) -> Response:
    """All that the published client and the vendor's server call the same things."""
    event = {
        "id": charge.id,
        "event_id": charge.id,
        "project_id": charge.offer.tenant,
        "user_id": charge.offer.subject,
        "cost": charge.cost,
        "total_cost": charge.cost,
        "timestamp": shown(charge.at),
        "position": place,
    }
    told = {**event, "success": True, "message": "Event recorded successfully", "event": event}
    if meter is not None and settings.get("enforce_threshold") and user_meters.is_beyond(meter):
        problem = {"success": False, "detail": _BEYOND, "message": _BEYOND, "meter": meter}
        return exact_response(told | problem | {"error": {"message": _BEYOND}}, 402)
    return exact_response(told, 201)

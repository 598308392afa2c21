"""Meter events of AgentMeter 0.3.x: record, list, add up.

An event is of the project that its meter type belongs to. The client repeats requests by itself and
sends no id: what makes a repeat known is ``idempotency_key``, ``event_id`` or ``request_id`` in its
metadata, or the header ``Idempotency-Key``.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Any, Final

from fastapi import APIRouter, Header, Query, Request
from starlette.exceptions import HTTPException
from starlette.responses import Response

from meterstream.compat.agentmeter.money import carried
from meterstream.compat.agentmeter.translating import metadata_attributes
from meterstream_services.clients.agentmeter.errors import error
from meterstream_services.clients.agentmeter.fates import answer_for, key_in
from meterstream_services.clients.agentmeter.listing import (
    EVENTS_MAX,
    Wanted,
    listed_events,
    quantity_of,
)
from meterstream_services.clients.agentmeter.meter_type_routes import METER_TYPES
from meterstream_services.clients.agentmeter.methods import SUM, measured
from meterstream_services.clients.agentmeter.projects import tenants_for
from meterstream_services.clients.agentmeter.totals import totals
from meterstream_services.clients.agentmeter.values import (
    instant,
    needed_amount,
    required,
    shown,
    texts,
)
from meterstream_services.clients.eventlog import Listed
from meterstream_services.clients.exact_json import exact_response, plain
from meterstream_services.clients.shaped_routes import ObjectOf, away, need, shaped
from meterstream_services.gateway.port import Offer, Patience
from meterstream_services.http.guarding import PrincipalOf
from meterstream_services.http.parts import Parts, PartsOf
from meterstream_services.http.rates import charge, too_fast
from meterstream_services.http.threads import Work, in_thread
from meterstream_services.keys.principal import Principal, Scope

router = APIRouter(include_in_schema=False, route_class=shaped(error))

TYPE: Final = "agentmeter.meter_event"


@router.post("/api/v1/meter-events/")
async def record(
    request: Request,
    body: ObjectOf,
    parts: PartsOf,
    principal: PrincipalOf,
    key: Annotated[str | None, Header(alias="idempotency-key")] = None,
) -> Response:
    """Record one event. 201 when the log has it, or the spool while the log is away."""
    need(principal, Scope.INGEST)
    kind = await in_thread(
        Work.BOOK, METER_TYPES.find, parts.book, principal, required(body, "meter_type_id")
    )
    if not kind["is_active"]:
        raise HTTPException(422, "meter_type_id: this meter type is not active; activate it")
    if parts.door is None:
        raise away(parts)
    wait_seconds = charge(request, 1)
    if wait_seconds is not None:
        return too_fast(request.scope["path"], wait_seconds)
    offer = _offer(body, kind["project_id"], kind["id"], key)
    if offer.key is None and offer.time is None:
        offer = offer._replace(time=parts.now())
    patience = Patience.LOG_OR_SPOOL if offer.key is None else Patience.LOG
    [fate] = await parts.door.take([offer], patience)
    place = answer_for(fate, parts)
    assert offer.attributes is not None
    return exact_response(
        {
            "id": place,
            "meter_type_id": kind["id"],
            "project_id": kind["project_id"],
            "subject_id": offer.subject,
            "quantity": offer.quantity,
            "timestamp": shown(offer.time if offer.time is not None else parts.now()),
            "received_at": shown(parts.now()),
            "event_metadata": body.get("event_metadata") or {},
        },
        201,
    )


@router.get("/api/v1/meter-events/")
def listed(
    parts: PartsOf,
    principal: PrincipalOf,
    *,
    meter_type_id: str | None = None,
    subject_id: str | None = None,
    start_time: str | None = None,
    end_time: str | None = None,
    project_id: str | None = None,
    limit: Annotated[int, Query(ge=1, le=EVENTS_MAX)] = 100,
) -> Response:
    """The latest events first."""
    need(principal, Scope.READ)
    tenants = _tenants(parts, principal, meter_type_id, project_id)
    wanted = Wanted(
        tuple(tenants),
        (TYPE,),
        instant(start_time, "start_time") or 0,
        instant(end_time, "end_time"),
        {"meter_type": meter_type_id or None},
        subject_id or None,
    )
    found = listed_events(parts, wanted, limit=limit)
    return exact_response([_shown(each) for each in found])


@router.get("/api/v1/meter-events/aggregates")
def aggregates(
    parts: PartsOf,
    principal: PrincipalOf,
    *,
    meter_type_id: str | None = None,
    subject_id: str | None = None,
    start_time: str | None = None,
    end_time: str | None = None,
    project_id: str | None = None,
) -> Response:
    """What the events of a time come to, exactly: by their meter type's method, if one is named."""
    need(principal, Scope.READ)
    start, end = instant(start_time, "start_time"), instant(end_time, "end_time")
    wanted = Wanted(
        tuple(_tenants(parts, principal, meter_type_id, project_id)),
        (TYPE,),
        start or 0,
        end,
        {"meter_type": meter_type_id or None},
        subject_id or None,
    )
    found = totals(parts, wanted)
    method = SUM
    if meter_type_id:
        kind = METER_TYPES.find(parts.book, principal, meter_type_id)
        method = str(kind["aggregation_method"])
    return exact_response(
        {
            "meter_type_id": meter_type_id or None,
            "subject_id": subject_id or None,
            "total_quantity": measured(parts, wanted, method, found),
            "total_events": found.events,
            "unique_subjects": found.subjects,
            "first_event": None if found.first is None else shown(found.first),
            "last_event": None if found.last is None else shown(found.last),
            "period_start": None if start is None else shown(start),
            "period_end": None if end is None else shown(end),
        }
    )


def _tenants(
    parts: Parts, principal: Principal, meter_type: str | None, project: str | None
) -> list[str]:
    """Whose events are asked for. Raises 404 for a meter type that the key is not for."""
    if meter_type:
        return [str(METER_TYPES.find(parts.book, principal, meter_type)["project_id"])]
    return tenants_for(parts.book, principal, project or None)


def _offer(body: dict[str, Any], project: str, meter_type: str, header: str | None) -> Offer:
    told: Decimal = needed_amount(body, "quantity")
    quantity = carried(told, field="quantity")
    subject = required(body, "subject_id")
    metadata = texts(body.get("event_metadata"), "event_metadata")
    attributes = {"meter_type": meter_type, "subject": subject}
    if quantity != told:
        attributes["quantity_exact"] = plain(told)
    return Offer(
        type=TYPE,
        tenant=project,
        quantity=quantity,
        time=instant(body.get("timestamp"), "timestamp"),
        subject=subject,
        attributes=attributes | metadata_attributes(metadata),
        key=key_in(metadata, header, of=meter_type),
    )


def _shown(each: Listed) -> dict[str, Any]:
    event = each.event
    return {
        "id": f"{each.partition}-{each.offset}",
        "meter_type_id": event.attributes.get("meter_type", ""),
        "project_id": event.tenant,
        "subject_id": event.subject or "",
        "quantity": quantity_of(event),
        "timestamp": shown(event.time),
        "received_at": shown(each.appended),
        "event_metadata": {
            name.removeprefix("metadata."): value
            for name, value in event.attributes.items()
            if name.startswith("metadata.")
        },
    }

"""Billing records of AgentMeter 0.2.0: notes that its clients keep. Nobody is charged by one."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Any, Final

from fastapi import APIRouter, Header
from starlette.exceptions import HTTPException
from starlette.responses import Response

from meterstream_services.clients.agentmeter.documents import Documents
from meterstream_services.clients.agentmeter.errors import error
from meterstream_services.clients.agentmeter.projects import (
    named_project,
    settings_of,
    zone_of,
)
from meterstream_services.clients.agentmeter.values import amount, instant, optional, shown
from meterstream_services.clients.book import Content
from meterstream_services.clients.exact_json import exact_response, plain
from meterstream_services.clients.shaped_routes import ObjectOf, need, shaped
from meterstream_services.http.guarding import PrincipalOf
from meterstream_services.http.parts import PartsOf
from meterstream_services.keys.principal import Scope

router = APIRouter(include_in_schema=False, route_class=shaped(error))

_RECORDS: Final = Documents("agentmeter.billing_record", "billing record")


@router.post("/billing-records")
def create(
    body: ObjectOf,
    parts: PartsOf,
    principal: PrincipalOf,
    key: Annotated[str | None, Header(alias="idempotency-key")] = None,
) -> Response:
    """A new record of a project."""
    need(principal, Scope.INGEST)
    project = named_project(principal, body.get("project_id"))
    fields: Content = {"status": "pending"} | _fields(body)
    if "amount" not in fields:
        raise HTTPException(422, "amount: is missing; pass it")
    zone = zone_of(settings_of(parts.book, project))
    for field in ("period_start", "period_end"):
        time = instant(body.get(field), field, zone)
        if time is None:
            raise HTTPException(422, f"{field}: is missing; pass it")
        fields[field] = shown(time)
    made = _RECORDS.create(parts.book, project, fields, now=parts.now(), key=key)
    return exact_response(_answer(made), 201)


@router.get("/billing-records")
def listed(parts: PartsOf, principal: PrincipalOf, project_id: str | None = None) -> Response:
    """The records of a project, or of all that the key is for."""
    need(principal, Scope.READ)
    project = named_project(principal, project_id) if project_id else None
    found = _RECORDS.listed(parts.book, principal, project)
    return exact_response([_answer(each) for each in found])


@router.get("/billing-records/{name}")
def one(name: str, parts: PartsOf, principal: PrincipalOf) -> Response:
    """One record."""
    need(principal, Scope.READ)
    return exact_response(_answer(_RECORDS.find(parts.book, principal, name)))


@router.patch("/billing-records/{name}")
def update(name: str, body: ObjectOf, parts: PartsOf, principal: PrincipalOf) -> Response:
    """Change its status or amount."""
    need(principal, Scope.INGEST)
    found = _RECORDS.update(parts.book, principal, name, _fields(body), now=parts.now())
    return exact_response(_answer(found))


@router.delete("/billing-records/{name}")
def delete(name: str, parts: PartsOf, principal: PrincipalOf) -> Response:
    """Forget one."""
    need(principal, Scope.INGEST)
    _RECORDS.delete(parts.book, principal, name)
    return exact_response({"success": True})


def _fields(body: dict[str, Any]) -> Content:
    found: Content = {}
    if (status := optional(body, "status")) is not None:
        found["status"] = status
    if (told := amount(body, "amount")) is not None:
        found["amount"] = plain(told)
    return found


def _answer(kept: Content) -> dict[str, Any]:
    return kept | {"amount": Decimal(kept["amount"])}

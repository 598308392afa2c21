"""Meter types of AgentMeter 0.3.x: what a quantity is of. Their ids stand in its events."""

from __future__ import annotations

from typing import Annotated, Any, Final

from fastapi import APIRouter, Header
from starlette.responses import Response

from meterstream_schemas.errors import InvalidEvent
from meterstream_services.clients.agentmeter.documents import Documents
from meterstream_services.clients.agentmeter.errors import error
from meterstream_services.clients.agentmeter.projects import named_project
from meterstream_services.clients.agentmeter.values import described, optional, required
from meterstream_services.clients.book import Content
from meterstream_services.clients.exact_json import exact_response
from meterstream_services.clients.shaped_routes import ObjectOf, need, shaped
from meterstream_services.http.guarding import PrincipalOf
from meterstream_services.http.parts import PartsOf
from meterstream_services.keys.principal import Scope

router = APIRouter(include_in_schema=False, route_class=shaped(error))

METER_TYPES: Final = Documents("agentmeter.meter_type", "meter type")


@router.post("/api/v1/meter-types/")
def create(
    body: ObjectOf,
    parts: PartsOf,
    principal: PrincipalOf,
    key: Annotated[str | None, Header(alias="idempotency-key")] = None,
) -> Response:
    """A new meter type in a project."""
    need(principal, Scope.INGEST)
    project = named_project(principal, body.get("project_id"))
    required(body, "name")
    fields: Content = {
        "unit": None,
        "description": None,
        "aggregation_method": "sum",
        "is_active": True,
    } | _fields(body)
    made = METER_TYPES.create(parts.book, project, fields, now=parts.now(), key=key)
    return exact_response(made, 201)


@router.get("/api/v1/meter-types/")
def listed(parts: PartsOf, principal: PrincipalOf, project_id: str | None = None) -> Response:
    """The meter types of a project, or of all that the key is for."""
    need(principal, Scope.READ)
    project = named_project(principal, project_id) if project_id else None
    return exact_response(list(METER_TYPES.listed(parts.book, principal, project)))


@router.get("/api/v1/meter-types/{name}")
def one(name: str, parts: PartsOf, principal: PrincipalOf) -> Response:
    """One meter type."""
    need(principal, Scope.READ)
    return exact_response(METER_TYPES.find(parts.book, principal, name))


@router.patch("/api/v1/meter-types/{name}")
def update(name: str, body: ObjectOf, parts: PartsOf, principal: PrincipalOf) -> Response:
    """Change some fields. An inactive type takes no events."""
    need(principal, Scope.INGEST)
    found = METER_TYPES.update(parts.book, principal, name, _fields(body), now=parts.now())
    return exact_response(found)


@router.delete("/api/v1/meter-types/{name}")
def delete(name: str, parts: PartsOf, principal: PrincipalOf) -> Response:
    """Forget a meter type. What was metered of it stays."""
    need(principal, Scope.INGEST)
    METER_TYPES.delete(parts.book, principal, name)
    return exact_response({"success": True})


def _fields(body: dict[str, Any]) -> Content:
    """What a caller may set. Raises 422 and `InvalidEvent`."""
    found: Content = {}
    for field in ("name", "unit", "aggregation_method"):
        if (value := optional(body, field)) is not None:
            found[field] = value
    if (description := described(body, "description")) is not None:
        found["description"] = description
    is_active = body.get("is_active")
    if is_active is not None:
        if not isinstance(is_active, bool):
            raise InvalidEvent("is_active", "is neither true nor false")
        found["is_active"] = is_active
    return found

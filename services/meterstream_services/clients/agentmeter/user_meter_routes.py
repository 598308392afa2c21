"""User meters over HTTP, for both versions: `/api/v1/users/{id}/meter` and `/api/meter…`.

Neither version sends a key with an increment, and both repeat it by themselves: one whose answer
was lost counts again. Whoever can sends ``Idempotency-Key``.
"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Header
from starlette.responses import Response

from meterstream_schemas.checks import check_text
from meterstream_schemas.events import ID_BYTES_MAX
from meterstream_services.clients.agentmeter import user_meters
from meterstream_services.clients.agentmeter.errors import error
from meterstream_services.clients.agentmeter.projects import named_project
from meterstream_services.clients.agentmeter.values import needed_amount, required
from meterstream_services.clients.exact_json import exact_response
from meterstream_services.clients.shaped_routes import ObjectOf, need, shaped
from meterstream_services.http.guarding import PrincipalOf
from meterstream_services.http.parts import Parts, PartsOf
from meterstream_services.keys.principal import Principal, Scope

router = APIRouter(include_in_schema=False, route_class=shaped(error))

Key = Annotated[str | None, Header(alias="idempotency-key")]


@router.get("/api/v1/users/{user:path}/meter")
def read(
    user: str, parts: PartsOf, principal: PrincipalOf, project_id: str | None = None
) -> Response:
    """A user's limit and usage."""
    return _read(parts, principal, project_id, user)


@router.get("/api/meter/usage")
def read_legacy(
    parts: PartsOf,
    principal: PrincipalOf,
    user_id: str = "",
    project_id: str | None = None,
) -> Response:
    """The same, as 0.2.0 asks for it."""
    return _read(parts, principal, project_id, user_id)


@router.put("/api/v1/users/{user:path}/meter")
def limit(user: str, body: ObjectOf, parts: PartsOf, principal: PrincipalOf) -> Response:
    """Set a user's limit."""
    return _limit(parts, principal, body, user)


@router.put("/api/meter")
def limit_legacy(body: ObjectOf, parts: PartsOf, principal: PrincipalOf) -> Response:
    """The same, as 0.2.0 asks for it."""
    return _limit(parts, principal, body, required(body, "user_id"))


@router.post("/api/v1/users/{user:path}/meter/increment")
def add(
    user: str, body: ObjectOf, parts: PartsOf, principal: PrincipalOf, key: Key = None
) -> Response:
    """Add to what a user has used."""
    return _add(parts, principal, body, user, key)


@router.post("/api/meter/increment")
def add_legacy(body: ObjectOf, parts: PartsOf, principal: PrincipalOf, key: Key = None) -> Response:
    """The same, as 0.2.0 asks for it."""
    return _add(parts, principal, body, required(body, "user_id"), key)


@router.post("/api/v1/users/{user:path}/meter/reset")
def reset(
    user: str, body: ObjectOf, parts: PartsOf, principal: PrincipalOf, key: Key = None
) -> Response:
    """Begin a user's usage anew."""
    return _reset(parts, principal, body, user, key)


@router.post("/api/meter/reset")
def reset_legacy(
    body: ObjectOf, parts: PartsOf, principal: PrincipalOf, key: Key = None
) -> Response:
    """The same, as 0.2.0 asks for it."""
    return _reset(parts, principal, body, required(body, "user_id"), key)


def _read(parts: Parts, principal: Principal, project_id: str | None, user: str) -> Response:
    need(principal, Scope.READ)
    project = named_project(principal, project_id)
    found = user_meters.user_meter(parts.book, project, _name(user), now=parts.now())
    return exact_response(found)


def _limit(parts: Parts, principal: Principal, body: dict[str, Any], user: str) -> Response:
    need(principal, Scope.INGEST)
    project = named_project(principal, body.get("project_id"))
    threshold = needed_amount(body, "threshold_amount")
    found = user_meters.set_threshold(parts.book, project, _name(user), threshold, now=parts.now())
    return exact_response(found)


def _add(
    parts: Parts, principal: Principal, body: dict[str, Any], user: str, key: str | None
) -> Response:
    need(principal, Scope.INGEST)
    project = named_project(principal, body.get("project_id"))
    amount = needed_amount(body, "amount")
    token = f"increment:{key}" if key else None
    found = user_meters.increment(
        parts.book, project, _name(user), amount, now=parts.now(), key=token
    )
    return exact_response(found)


def _reset(
    parts: Parts, principal: Principal, body: dict[str, Any], user: str, key: str | None
) -> Response:
    need(principal, Scope.INGEST)
    project = named_project(principal, body.get("project_id"))
    token = f"reset:{key}" if key else None
    found = user_meters.reset(parts.book, project, _name(user), now=parts.now(), key=token)
    return exact_response(found)


def _name(user: str) -> str:
    return check_text(user, field="user_id", bytes_max=ID_BYTES_MAX)

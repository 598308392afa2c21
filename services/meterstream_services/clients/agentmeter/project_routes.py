"""Projects over HTTP, for both versions: `/api/v1/projects/` and `/projects`."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Header
from starlette.exceptions import HTTPException
from starlette.responses import Response

from meterstream_schemas.errors import InvalidEvent
from meterstream_services.clients.agentmeter.errors import error
from meterstream_services.clients.agentmeter.projects import (
    PROJECT,
    find_project,
    named_project,
    new_id,
    owner_of,
    visible_projects,
)
from meterstream_services.clients.agentmeter.values import described, optional, required, shown
from meterstream_services.clients.book import Book, Content
from meterstream_services.clients.exact_json import exact_response
from meterstream_services.clients.shaped_routes import ObjectOf, need, shaped
from meterstream_services.http.guarding import PrincipalOf
from meterstream_services.http.parts import PartsOf
from meterstream_services.keys.principal import Principal, Scope
from meterstream_services.zones import find_zone

router = APIRouter(include_in_schema=False, route_class=shaped(error))

Key = Annotated[str | None, Header(alias="idempotency-key")]


@router.post("/api/v1/projects/")
@router.post("/projects")
def create(body: ObjectOf, parts: PartsOf, principal: PrincipalOf, key: Key = None) -> Response:
    """Note a project. Its id is the body's, else the key's own tenant, else a new one."""
    need(principal, Scope.INGEST)
    required(body, "name")
    fields = _fields(body)
    project = _id_for(body, principal, key)
    now = shown(parts.now())
    made = {"id": project, "description": None} | fields
    made |= {"created_at": now, "updated_at": now}

    def noted(before: Content | None) -> Content:
        if before is not None and fields.items() <= before.items():
            return before  # Told again: the answer before was lost, perhaps.
        if before is not None:
            raise HTTPException(409, f"the project {project!r} is there already; update it")
        return made

    return exact_response(_kept(parts.book, project, noted), 201)


@router.get("/api/v1/projects/")
@router.get("/projects")
def listed(parts: PartsOf, principal: PrincipalOf) -> Response:
    """The projects that the key is for."""
    need(principal, Scope.READ)
    return exact_response(visible_projects(parts.book, principal))


@router.get("/api/v1/projects/{project:path}")
@router.get("/projects/{project:path}")
def one(project: str, parts: PartsOf, principal: PrincipalOf) -> Response:
    """One project."""
    need(principal, Scope.READ)
    return exact_response(find_project(parts.book, principal, project))


@router.patch("/api/v1/projects/{project:path}")
@router.patch("/projects/{project:path}")
def update(project: str, body: ObjectOf, parts: PartsOf, principal: PrincipalOf) -> Response:
    """Change name, description, ``timezone`` or ``enforce_threshold``."""
    need(principal, Scope.INGEST)
    find_project(parts.book, principal, project)
    fields = _fields(body) | {"updated_at": shown(parts.now())}

    def changed(before: Content | None) -> Content:
        if before is None:
            raise HTTPException(404, "the project was deleted meanwhile")
        return before | fields

    return exact_response(_kept(parts.book, project, changed))


@router.delete("/api/v1/projects/{project:path}")
@router.delete("/projects/{project:path}")
def delete(project: str, parts: PartsOf, principal: PrincipalOf) -> Response:
    """Forget what is noted of a project. What was metered in it stays."""
    need(principal, Scope.INGEST)
    find_project(parts.book, principal, project)
    parts.book.change(owner_of(project), PROJECT, project, lambda _: None)
    return exact_response({"success": True})


def _kept(book: Book, project: str, change: Any) -> Content | None:  # noqa: ANN401 - as the book has it
    return book.change(owner_of(project), PROJECT, project, change)


def _fields(body: dict[str, Any]) -> Content:
    """What a caller may set. Raises 422 and `InvalidEvent`."""
    found: Content = {}
    if (name := optional(body, "name")) is not None:
        found["name"] = name
    if (description := described(body, "description")) is not None:
        found["description"] = description
    if (zone := optional(body, "timezone")) is not None:
        found["timezone"] = find_zone(zone).key
    enforce = body.get("enforce_threshold")
    if enforce is not None:
        if not isinstance(enforce, bool):
            raise InvalidEvent("enforce_threshold", "is neither true nor false")
        found["enforce_threshold"] = enforce
    return found


def _id_for(body: dict[str, Any], principal: Principal, key: str | None) -> str:
    """Raises 403 where the key is bound to other tenants, 422 where to several."""
    if body.get("id") is not None or principal.tenants is not None:
        return named_project(principal, body.get("id"), field="id")
    return new_id(PROJECT, key)

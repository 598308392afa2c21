"""The OpenAPI document and the page made from it."""

from __future__ import annotations

import asyncio
import re
import threading
from typing import TYPE_CHECKING, Any

import httpx

from meterstream_services.http import docs

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pytest
    from fastapi import FastAPI

    from tests.unit.services.http.conftest import World

JSON_ROUTES = {
    "/v1/usage", "/v1/periods", "/v1/adjustments", "/v1/explain",
    "/v1/sessions", "/v1/meters", "/v1/thresholds", "/v1/accounts", "/v1/accounts/{account}",
    "/v1/accounts/{account}/tenants", "/v1/accounts:import", "/v1/tenants",
    "/v1/accounts/{account}/external-ids",
    "/v1/accounts/{account}/external-ids/{system}/{external_id}",
    "/v1/accounts:changes", "/v1/accounts:export", "/v1/accounts:merge", "/v1/accounts:move",
    "/v1/accounts:unmerge", "/v1/lookup", "/v1/lookup/external-ids/{system}/{external_id}",
    "/v1/lookup/tenants/{tenant}",
    "/v1/tenants/{tenant}/account", "/v1/tenants/{tenant}/account/history", "/v1/status",
    "/v1/reconcile", "/v1/deadletters", "/health/live", "/health/ready", "/metrics",
    "/v1/events", "/v1/records", "/api/v1/events", "/api/v1/meters/{slug}/query",
    "/registry/config", "/registry/config/{subject}", "/registry/mode", "/registry/mode/{subject}",
    "/registry/schemas/ids/{schema_id}", "/registry/schemas/ids/{schema_id}/schema",
    "/registry/schemas/ids/{schema_id}/subjects", "/registry/schemas/ids/{schema_id}/versions",
    "/registry/schemas/types", "/registry/subjects", "/registry/subjects/{subject}",
    "/registry/subjects/{subject}/versions", "/registry/subjects/{subject}/versions/{version}",
    "/registry/subjects/{subject}/versions/{version}/schema",
}  # fmt: skip


def _operations(schema: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, methods in schema["paths"].items():
        for method, operation in methods.items():
            yield f"{method.upper()} {path}", operation


def test_every_route_is_described(world: World) -> None:
    """All routes are in the document, with a summary, a description and a tag."""
    schema = world.get("/openapi.json").json()

    assert set(schema["paths"]) == JSON_ROUTES
    for name, operation in _operations(schema):
        assert operation["summary"], name
        assert operation["description"], name
        assert operation["tags"], name


def test_both_are_written_once_and_not_by_who_answers(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many who ask at once, and those who come later, get the same bytes."""
    begun: list[threading.Thread] = []
    write = docs._write

    def counted(app: FastAPI) -> object:
        begun.append(threading.current_thread())
        return write(app)

    async def ask() -> list[httpx.Response]:
        transport = httpx.ASGITransport(app=world.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            paths = ["/openapi.json", "/docs"] * 5
            return await asyncio.gather(*(client.get(path) for path in paths))

    monkeypatch.setattr(docs, "_write", counted)
    answers = asyncio.run(ask())
    again = [world.get("/openapi.json"), world.get("/docs")]

    assert {each.content for each in answers} == {each.content for each in again}
    assert again[0].json() == world.app.openapi()
    assert again[0].headers["content-type"] == "application/json"
    assert len(begun) == 1
    assert begun[0] is not threading.current_thread()


def test_programs_may_ask_for_the_head_alone(world: World) -> None:
    """As of every document."""
    answer = world.send("HEAD", "/openapi.json")

    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")


def test_every_reference_leads_somewhere(world: World) -> None:
    """No schema is referred to that is not there."""
    schema = world.get("/openapi.json").json()

    wanted = set(re.findall(r"#/components/schemas/(\w+)", world.get("/openapi.json").text))
    assert wanted <= set(schema["components"]["schemas"])
    assert "ProblemDocument" in wanted
    assert "HTTPValidationError" not in wanted


def test_every_error_is_a_problem(world: World) -> None:
    """Documented errors have the one shape of RFC 9457, but where others' clients read them."""
    schema = world.get("/openapi.json").json()
    theirs = {
        "/registry/": {"application/vnd.schemaregistry.v1+json"},
        "/v1/records": {"application/json"},
    }

    for name, operation in _operations(schema):
        wanted = next(
            (kinds for path, kinds in theirs.items() if f" {path}" in name),
            {"application/problem+json"},
        )
        for status, response in operation["responses"].items():
            if int(status) >= 400:
                assert set(response["content"]) == wanted, (name, status)


def test_answers_have_examples(world: World) -> None:
    """Each answer with data shows one, put together from its parts where needed."""
    schema = world.get("/openapi.json").json()

    without = [
        name
        for name, operation in _operations(schema)
        for status, response in operation["responses"].items()
        for content in response.get("content", {}).values()
        if int(status) < 300 and "/v1/" in name and docs._example(schema, content["schema"]) is None
    ]
    assert without == []


def test_the_page_loads_nothing(world: World) -> None:
    """The documentation is one page without programs, images or anything from elsewhere."""
    response = world.get("/docs")

    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/html")
    for path in JSON_ROUTES:
        assert f" {path}</code>" in response.text
    assert not re.search(r"<script|src=|https?://|@import", response.text)


def test_the_root_leads_to_the_page(world: World) -> None:
    """Whoever opens the address in a browser finds the documentation."""
    response = world.get("/")

    assert (response.status_code, response.headers["location"]) == (307, "/docs")

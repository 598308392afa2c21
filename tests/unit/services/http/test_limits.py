"""Sizes, foreign names, headers: what stands in front of every route."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import httpx
import pytest

from meterstream_services.http import limits
from meterstream_services.http.app import create_app
from meterstream_services.http.limits import is_loopback
from meterstream_services.http.settings import Settings

if TYPE_CHECKING:
    from pathlib import Path

    from tests.unit.services.http.conftest import World


@pytest.mark.parametrize("path", ["/v1/status", "/nothing", "/docs", "/metrics", "/openapi.json"])
def test_every_answer_has_safe_headers(world: World, path: str) -> None:
    """Browsers must not guess types, frame pages, run programs or keep figures."""
    headers = world.get(path).headers

    assert headers["x-content-type-options"] == "nosniff"
    assert headers["content-security-policy"].startswith("default-src 'none'")
    assert headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    "host", ["localhost:8080", "127.0.0.1:8080", "[::1]:8080", "127.1.2.3", "LOCALHOST"]
)
def test_loopback_names_are_served(world: World, host: str) -> None:
    """Clients on the same machine may call the service by any of its loopback names."""
    assert world.get("/health/live", headers={"host": host}).status_code == 200


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example:8080", "", "127.0.0.1.x"])
def test_foreign_names_are_refused(world: World, host: str) -> None:
    """A page that points its own name at loopback gets nothing."""
    response = world.get("/v1/status", headers={"host": host})

    assert response.status_code == 421
    assert response.json()["type"] == "urn:meterstream:problem:foreign-host"


def test_names_can_be_allowed(tmp_path: Path) -> None:
    """A name that the operator gave is served; a service for all addresses checks none."""
    allowed = create_app(Settings(tmp_path / "s", tmp_path / "a", hosts=("meter.example",)))
    open_to_all = create_app(Settings(tmp_path / "s", tmp_path / "a", host="0.0.0.0"))

    async def ask(app: object) -> int:
        transport = httpx.ASGITransport(app=app)  # type: ignore[arg-type]  # any ASGI application
        async with httpx.AsyncClient(
            transport=transport, base_url="http://meter.example"
        ) as client:
            return (await client.get("/health/live")).status_code

    assert asyncio.run(ask(allowed)) == 200
    assert asyncio.run(ask(open_to_all)) == 200


def test_what_is_loopback() -> None:
    """Loopback names and addresses, and nothing that merely looks like one."""
    yes = ["localhost", "a.localhost", "127.0.0.1", "127.9.9.9", "::1", "[::1]"]
    no = ["0.0.0.0", "::", "", "example.org", "10.0.0.1", "localhost.example", "127.0.0.1.example"]

    assert [is_loopback(host) for host in yes + no] == [True] * 6 + [False] * 7


def test_a_query_has_a_limit(world: World) -> None:
    """A query string beyond the limit is refused before it is parsed."""
    response = world.get(f"/v1/usage?meter={'m' * limits.QUERY_BYTES_MAX}")

    assert response.status_code == 414


def test_a_body_has_a_limit(world: World) -> None:
    """A body beyond the limit is refused by its announced length."""
    response = world.send("PUT", "/v1/accounts/a", content=b"x" * (limits.BODY_BYTES_MAX + 1))

    assert response.status_code == 413
    assert response.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    ("path", "kind"),
    [("/v1/accounts", "application/json"), ("/v1/accounts:import", "text/csv")],
)
def test_a_body_without_length_has_a_limit(
    world: World, monkeypatch: pytest.MonkeyPatch, path: str, kind: str
) -> None:
    """A body that does not say its length is cut off when it becomes too long."""
    monkeypatch.setattr(limits, "BODY_BYTES_MAX", 1000)
    monkeypatch.setattr(limits, "IMPORT_BYTES_MAX", 1000)

    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b"x" * 100

    response = world.send("POST", path, content=endless(), headers={"content-type": kind})

    assert response.status_code == 413, response.text


def test_methods_that_do_not_apply(world: World) -> None:
    """A wrong method is a problem that names the right one."""
    response = world.send("DELETE", "/v1/usage")

    assert response.status_code == 405
    assert response.json()["detail"] == "'DELETE' does not apply here; use GET"
    assert response.headers["allow"] == "GET"


def test_what_was_sent_comes_back_escaped(world: World) -> None:
    """Error documents are ASCII: nothing a caller wrote comes back as it was."""
    response = world.get(
        "/v1/usage?meter=%3Cscript%3E%C3%BC%E2%80%A8&from=2026-01-01&to=2026-01-02"
    )

    assert response.status_code == 404
    assert response.content.isascii()


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site", "origin": "http://localhost:3000"},
    ],
)
@pytest.mark.parametrize(
    "path",
    ["/v1/events", "/k/any/v1/events/batch", "/topics/usage-events", "/api/meter/event", "/health"],
)
def test_pages_of_other_origins_do_nothing(
    world: World, path: str, headers: dict[str, str]
) -> None:
    """What a browser posts for a foreign page is refused, also as plain text, on every path."""
    answer = world.send(
        "POST", path, content=b"{}", headers=headers | {"content-type": "text/plain"}
    )

    assert answer.status_code == 403
    assert "other origins" in answer.text


@pytest.mark.parametrize(
    "headers", [{}, {"origin": "http://LOCALHOST:8080"}, {"sec-fetch-site": "none"}]
)
def test_programs_and_own_pages_are_let_through(world: World, headers: dict[str, str]) -> None:
    """Programs send no origin; a browser's own requests come from here."""
    answer = world.send("POST", "/v1/events", content=b"{}", headers=headers)

    assert answer.status_code == 415

"""The lane of the fast path: the same answers and errors as through the router."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from meterstream_services.clients.book import BookUnavailable
from meterstream_services.http.app import create_app
from meterstream_services.http.front_lane import LaneMiddleware
from meterstream_services.http.problems import Problem, install_problems
from meterstream_services.http.settings import Settings


async def _answer(request: Request) -> Response:
    match (await request.body()).decode():
        case "problem":
            raise Problem(409, "key-conflict", "no")
        case "book":
            raise BookUnavailable("away")
        case "fault":
            raise LookupError("ours")
        case text:
            return PlainTextResponse(f"lane {text}")


def _app() -> FastAPI:
    app = FastAPI()
    install_problems(app)
    app.add_middleware(LaneMiddleware, path="/fast", answer=_answer)

    @app.api_route("/{path:path}", methods=["GET", "POST"])
    def usual(path: str) -> str:
        return f"usual {path}"

    return app


def _ask(method: str, path: str, body: str = "") -> httpx.Response:
    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(app=_app(), raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return await client.request(method, path, content=body)

    return asyncio.run(ask())


@pytest.mark.parametrize(
    ("method", "path", "told"),
    [
        ("POST", "/fast", "lane x"),
        ("POST", "/fast?a=b", "lane x"),
        ("GET", "/fast", '"usual fast"'),
        ("POST", "/fast/", '"usual fast/"'),
        ("POST", "/faster", '"usual faster"'),
        ("POST", "/other", '"usual other"'),
    ],
)
def test_only_the_one_path_goes_by_the_lane(method: str, path: str, told: str) -> None:
    """POST to the path itself takes the lane; other methods and paths are routed."""
    assert _ask(method, path, "x").text == told


@pytest.mark.parametrize(
    ("body", "status", "name"),
    [
        ("problem", 409, "key-conflict"),
        ("book", 503, "book-unavailable"),
        ("fault", 500, "internal-error"),
    ],
)
def test_errors_are_answered_as_ever(body: str, status: int, name: str) -> None:
    """Problems, errors of the packages beneath, and faults become what the router makes of them."""
    answer = _ask("POST", "/fast", body)

    assert answer.status_code == status
    assert answer.json()["type"] == f"urn:meterstream:problem:{name}"


def test_the_application_has_the_lane_innermost(tmp_path: Path) -> None:
    """Nothing that stands before the routes is passed by: keys, limits and metrics come first."""
    app = create_app(Settings(tmp_path / "s", tmp_path / "a", keys=tmp_path / "k"))

    kinds: list[object] = [each.cls for each in app.user_middleware]

    assert len(kinds) == 4
    assert kinds[-1] is LaneMiddleware

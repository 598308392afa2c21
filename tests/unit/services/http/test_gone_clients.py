"""Clients that leave in the middle of their request: nobody is answered, and nothing is wrong."""

from __future__ import annotations

import asyncio
import logging
import re
from typing import TYPE_CHECKING, Any

import pytest

from tests.unit.services.keys.routes import ways

if TYPE_CHECKING:
    from fastapi import FastAPI
    from starlette.types import Message

    from tests.unit.services.http.conftest import World

TYPES = (
    "application/json",
    "application/x-ndjson",
    "application/cloudevents+json",
    "application/vnd.meterstream.records",
)


def leave(app: FastAPI, method: str, path: str, content_type: str) -> list[Message]:
    """Send half a body and go; what was answered. Raises what the application lets out."""
    told: list[Message] = []
    coming: list[Message] = [
        {"type": "http.request", "body": b'{"records": [', "more_body": True},
    ]
    scope: dict[str, Any] = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": b"",
        "headers": [(b"host", b"localhost"), (b"content-type", content_type.encode())],
        "client": ("127.0.0.1", 4711),
        "server": ("127.0.0.1", 8080),
    }

    async def receive() -> Message:
        return coming.pop() if coming else {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        told.append(message)

    asyncio.run(app(scope, receive, send))
    return told


@pytest.mark.parametrize("content_type", TYPES)
def test_whoever_leaves_is_no_fault(
    world: World, caplog: pytest.LogCaptureFixture, content_type: str
) -> None:
    """On every path that takes a body: no exception, no 500, and nothing in the log."""
    caplog.set_level(logging.WARNING)
    taking = [way for way in ways(world.app) if way.method in {"POST", "PUT", "PATCH"}]
    assert len(taking) > 20

    for way in taking:
        path = re.sub(r"\{topic\}", "usage-events", way.path)
        path = re.sub(r"\{[^}]*\}", "x", path)
        told = leave(world.app, way.method, path, content_type)
        assert all(message.get("status") != 500 for message in told), (path, told)
    assert [line.getMessage() for line in caplog.records] == []

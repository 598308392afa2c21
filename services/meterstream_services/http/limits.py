"""Limits and safe defaults in front of every route.

* A query string and a body have a size; more is refused before it is kept.
* A service on a loopback address is meant for this machine. A page in a browser could reach it
  through a name of its own that resolves to 127.0.0.1, so there the ``Host`` header must be a
  loopback name, or one that the operator allows.
* Answers carry headers that keep browsers from guessing types, framing, or caching figures.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from typing import Final

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from meterstream_services.http.problems import Problem, problem_response

QUERY_BYTES_MAX: Final = 16_384
BODY_BYTES_MAX: Final = 1 << 20
IMPORT_BYTES_MAX: Final = 64 << 20
IMPORT_PATH: Final = "/v1/accounts:import"
STREAM_BYTES_MAX: Final = 64 << 20
STREAM_PATH: Final = "/v1/events"
STREAM_TYPES: Final = frozenset(
    {
        "application/x-ndjson",
        "application/ndjson",
        "application/jsonl",
        "application/x-jsonlines",
    }
)
"""Content types of events line by line, which are taken while they arrive."""

_HEADERS: Final = {
    "x-content-type-options": "nosniff",
    "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "referrer-policy": "no-referrer",
}


def is_loopback(host: str) -> bool:
    """Whether a host name or address means this machine only."""
    name = host.strip("[]").lower()
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


class LimitsMiddleware:
    """Refuses what is too large or called by a foreign name; adds safe headers to answers."""

    def __init__(self, app: ASGIApp, *, listens_on: str, hosts: Iterable[str] = ()) -> None:
        self._app = app
        self._checks_host = is_loopback(listens_on)
        self._hosts = frozenset(host.lower() for host in hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request, or one event of the application's life."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def safe(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
                headers.setdefault("cache-control", "no-store")
            await send(message)

        most = _body_bytes_max(scope)
        problem = self._refusal(scope, most)
        if problem is not None:
            await problem_response(problem)(scope, receive, safe)
            return
        await self._app(scope, _bounded(receive, most), safe)

    def _refusal(self, scope: Scope, most: int) -> Problem | None:
        headers = Headers(scope=scope)
        if self._checks_host and not self._is_known(headers.get("host", "")):
            return Problem(
                421,
                "foreign-host",
                f"{headers.get('host', '')[:200]!r} is no name of this service, which listens on a "
                "loopback address; call it by that address, or allow the name when it is started",
            )
        if len(scope["query_string"]) > QUERY_BYTES_MAX:
            return Problem(
                414, "query-too-long", f"the query is longer than {QUERY_BYTES_MAX} bytes; ask less"
            )
        length = headers.get("content-length", "0")
        if length.isdigit() and int(length[:20]) > most:
            return _too_large(most)
        return None

    def _is_known(self, host: str) -> bool:
        name = host[: host.rfind(":")] if host.rpartition(":")[2].isdigit() else host
        return is_loopback(name) or name.lower() in self._hosts


def _body_bytes_max(scope: Scope) -> int:
    """The bound of a request's body: by its path, and for streams by its content type."""
    if scope["path"] == IMPORT_PATH:
        return IMPORT_BYTES_MAX
    if scope["path"] == STREAM_PATH:
        told = Headers(scope=scope).get("content-type", "")
        if told.partition(";")[0].strip().lower() in STREAM_TYPES:
            return STREAM_BYTES_MAX
    return BODY_BYTES_MAX


def _bounded(receive: Receive, most: int) -> Receive:
    taken = 0

    async def bounded() -> Message:
        nonlocal taken
        message = await receive()
        if message["type"] == "http.request":
            taken += len(message.get("body", b""))
            if taken > most:
                raise _too_large(most)
        return message

    return bounded


def _too_large(most: int) -> Problem:
    return Problem(
        413, "body-too-large", f"the body is larger than {most} bytes; send less at once"
    )

"""Limits and safe defaults in front of every route.

* A query string and a body have a size; more is refused before it is kept.
* A service on a loopback address is meant for this machine. A page in a browser could reach it
  through a name of its own that resolves to 127.0.0.1, so there the ``Host`` header must be a
  loopback name, or one that the operator allows.
* A page in a browser can post to any address without asking, and browsers say so: what a page of
  another origin would have done here is refused, whatever its content type.
* Answers carry headers that keep browsers from guessing types, framing, or caching figures.
"""

from __future__ import annotations

import functools
import ipaddress
import sys
from collections.abc import Iterable
from typing import Final

from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from meterstream_services.http.metrics import HttpMetrics
from meterstream_services.http.problems import MEDIA_TYPE, Problem, problem_response
from meterstream_services.http.shapes import error_shape

QUERY_BYTES_MAX: Final = 16_384
BODY_BYTES_MAX: Final = 1 << 20
IMPORT_BYTES_MAX: Final = 64 << 20
IMPORT_PATH: Final = "/v1/accounts:import"
OWN_BODIES: Final = frozenset({"/v1/events/batch"})
"""Paths whose route bounds its body itself: its client loses what is 413 (CLIMeter)."""
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

_SAFE_METHODS: Final = frozenset({"GET", "HEAD"})
_OWN_SITES: Final = frozenset({b"same-origin", b"none"})
_JSON: Final = b"application/json"
_KEY_PATH: Final = "/k/"
"""Paths that begin so name a key first, then the path that is meant."""
_HEADERS: Final = (
    (b"x-content-type-options", b"nosniff"),
    (
        b"content-security-policy",
        (
            b"default-src 'none'; style-src 'unsafe-inline'; "
            b"frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
        ),
    ),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
)
_NAMES: Final = frozenset(name for name, _ in _HEADERS)


def is_loopback(host: str) -> bool:
    """Whether a host name or address means this machine only."""
    name = host.strip("[]").lower()
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


class Limits:
    """Judges requests by their heads and bounds their bodies. For one application.

    ``listens_on`` is the service's own address, ``hosts`` are further names of it. Without
    ``metrics`` nothing is counted.
    """

    def __init__(
        self, *, listens_on: str, hosts: Iterable[str] = (), metrics: HttpMetrics | None = None
    ) -> None:
        self._checks_host = is_loopback(listens_on)
        self._hosts = frozenset(host.lower() for host in hosts)
        self._metrics = metrics
        self._is_known = functools.lru_cache(1024)(self._judge_host)

    def admit(self, scope: Scope, receive: Receive) -> Receive | Response:
        """The body of a request, within its bound; or what is answered in place of its route."""
        headers, path = _headers(scope), _meant(scope["path"])
        most = _body_bytes_max(path, headers[b"content-type"])
        refusal = self._refusal(scope, most, headers)
        if refusal is None:
            return self._bounded(receive, most)
        limit, problem = refusal
        self._limited(limit)
        return _answer(path, problem)

    def _refusal(
        self, scope: Scope, most: int, headers: dict[bytes, bytes]
    ) -> tuple[str, Problem] | None:
        host = headers[b"host"]
        if self._checks_host and not self._is_known(host):
            return "known_hosts", Problem(
                421,
                "foreign-host",
                f"{host.decode('latin-1')[:200]!r} is no name of this service, which listens on a "
                "loopback address; call it by that address, or allow the name when it is started",
            )
        if scope["method"] not in _SAFE_METHODS and _is_foreign_page(headers):
            return "foreign_origin", Problem(
                403,
                "foreign-origin",
                "pages of other origins may do nothing here; have their own server ask",
            )
        if len(scope["query_string"]) > QUERY_BYTES_MAX:
            return "query_bytes_max", Problem(
                414, "query-too-long", f"the query is longer than {QUERY_BYTES_MAX} bytes; ask less"
            )
        length = headers[b"content-length"]
        if length.isdigit() and int(length[:20]) > most:
            return "body_bytes_max", _too_large(most)
        return None

    def _judge_host(self, host: bytes) -> bool:
        text = host.decode("latin-1")
        name = text[: text.rfind(":")] if text.rpartition(":")[2].isdigit() else text
        return is_loopback(name) or name.lower() in self._hosts

    def _bounded(self, receive: Receive, most: int) -> Receive:
        taken = 0

        async def bounded() -> Message:
            nonlocal taken
            message = await receive()
            if message["type"] == "http.request":
                taken += len(message.get("body", b""))
                if taken > most:
                    self._limited("body_bytes_max")
                    raise _too_large(most)
            return message

        return bounded

    def _limited(self, limit: str) -> None:
        if self._metrics is not None:
            self._metrics.limit(limit).inc()


class LimitsMiddleware:
    """Refuses what is too large or called by a foreign name; adds safe headers to answers.

    ``limits`` where others have them too; else they are made from the rest, see `Limits`.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        limits: Limits | None = None,
        listens_on: str = "",
        hosts: Iterable[str] = (),
        metrics: HttpMetrics | None = None,
    ) -> None:
        self._app = app
        self._limits = limits or Limits(listens_on=listens_on, hosts=hosts, metrics=metrics)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request, or one event of the application's life."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def safe(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = with_safe_headers(message.get("headers", ()))
            await send(message)

        admitted = self._limits.admit(scope, receive)
        if isinstance(admitted, Response):
            await admitted(scope, receive, safe)
        else:
            await self._app(scope, admitted, safe)


def with_safe_headers(headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """An answer's headers, and what they lack of those that every answer has."""
    told = list(headers)
    there = {name for name, _ in told}
    if there.isdisjoint(_NAMES):
        return [*told, *_HEADERS]
    return told + [header for header in _HEADERS if header[0] not in there]


def _headers(scope: Scope) -> dict[bytes, bytes]:
    """The headers that are judged here, empty where they are not; of several, the first with text.

    But of content types the very first, as routes read it: two readings would be two limits.
    """
    found = {
        b"host": b"",
        b"content-length": b"",
        b"content-type": b"",
        b"origin": b"",
        b"sec-fetch-site": b"",
    }
    has_type = False
    for name, value in scope["headers"]:
        if name == b"content-type":
            found[name] = found[name] if has_type else value
            has_type = True
        elif name in found and not found[name]:
            found[name] = value
    return found


def _is_foreign_page(headers: dict[bytes, bytes]) -> bool:
    """Whether a browser sends this for a page of another origin. Programs send neither header."""
    site, origin = headers[b"sec-fetch-site"], headers[b"origin"]
    if site:
        return site not in _OWN_SITES
    # An older browser. Of a page that may not be named it sends "null".
    return bool(origin) and origin.lower().partition(b"://")[2] != headers[b"host"].lower()


def _body_bytes_max(path: str, content_type: bytes) -> int:
    """The bound of a request's body: by its path, and for streams by its content type."""
    if path == IMPORT_PATH:
        return IMPORT_BYTES_MAX
    if path in OWN_BODIES:
        return sys.maxsize
    if path == STREAM_PATH and content_type != _JSON:
        kind = content_type.partition(b";")[0].strip().lower().decode("latin-1")
        if kind in STREAM_TYPES:
            return STREAM_BYTES_MAX
    return BODY_BYTES_MAX


def _answer(path: str, problem: Problem) -> Response:
    """A refusal in the shape that the path's clients read."""
    shaped = error_shape(path)(problem.status_code, problem.detail)
    return problem_response(problem) if shaped.media_type == MEDIA_TYPE else shaped


def _meant(path: str) -> str:
    """A path without the key that it may begin with."""
    return path[path.find("/", len(_KEY_PATH)) :] if path.startswith(_KEY_PATH) else path


def _too_large(most: int) -> Problem:
    return Problem(
        413, "body-too-large", f"the body is larger than {most} bytes; send less at once"
    )

"""The shortest way to the one path that must be fast.

A request for it needs no search among all routes, no framework around it, and no chain of
middleware that wrap each other's messages: that costs more than all that a single event does. So
the application gives it to a lane before anything else, and the lane asks the same guards as the
middleware do, in their order. Whatever is unusual about a request goes by the middleware as ever;
they have a lane of their own as the innermost.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from fastapi import FastAPI
from starlette.middleware.errors import ServerErrorMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from meterstream_services.http.limits import with_safe_headers

if TYPE_CHECKING:
    from meterstream_services.http.auth import Admission
    from meterstream_services.http.limits import Limits
    from meterstream_services.http.metrics import RequestCounts

Answer = Callable[[Request], Awaitable[Response]]


class Guards(NamedTuple):
    """What stands before the routes of one application, once for all ways to them."""

    counts: RequestCounts
    limits: Limits
    admission: Admission | None
    """None where no keys are asked for."""


class LaneRequest(Request):
    """A request whose body came in one piece more often than not."""

    async def body(self) -> bytes:
        """All of the body. Raises `ClientDisconnect`, and what its bound raises."""
        if self._stream_consumed or hasattr(self, "_body"):
            return await super().body()
        pieces: list[bytes] = []
        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                self._is_disconnected = True
                raise ClientDisconnect
            pieces.append(message.get("body", b""))
            if not message.get("more_body", False):
                break
        self._stream_consumed = True
        self._body = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        return self._body


class Lane:
    """Answers POST requests of one path. ``app`` is whose errors and state they have."""

    def __init__(self, app: FastAPI, guards: Guards, *, path: str, answer: Answer) -> None:
        self._app: Final = app
        self._guards: Final = guards
        self._path: Final = path
        self._answer: Final = answer

    def takes(self, scope: Scope) -> bool:
        """Whether a request is one for the lane: no header is there twice."""
        if scope["type"] != "http" or scope["path"] != self._path or scope["method"] != "POST":
            return False
        headers = scope["headers"]
        return len(dict(headers)) == len(headers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """A request that the lane takes."""
        begun, counts, status = time.perf_counter(), self._guards.counts, 500
        counts.running += 1
        try:
            response = await self._response(scope, receive, send)
            status = response.status_code
            await response(scope, receive, send)
        finally:
            counts.running -= 1
            counts.answered(scope, status, time.perf_counter() - begun)

    async def _response(self, scope: Scope, receive: Receive, send: Send) -> Response:
        scope["app"] = self._app
        try:
            response = await self._guarded(scope, receive, send)
        except Exception as error:
            await self._fail(error, scope, receive, send)
            raise
        response.raw_headers = with_safe_headers(response.raw_headers)
        return response

    async def _guarded(self, scope: Scope, receive: Receive, send: Send) -> Response:
        _, limits, admission = self._guards
        admitted = limits.admit(scope, receive)
        if admission is not None and not isinstance(admitted, Response):
            admitted = await admission.admit(scope, admitted)
        if isinstance(admitted, Response):
            return admitted
        return await _answered(self._answer, LaneRequest(scope, admitted, send))

    async def _fail(self, error: Exception, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer what nobody has a handler for as the application does. Raises the error again."""

        async def failing(*_: object) -> None:
            raise error

        handler = self._app.exception_handlers.get(Exception)
        await ServerErrorMiddleware(failing, handler)(scope, receive, send)


class LanedApplication(FastAPI):
    """An application some of whose requests take its `lane`, once it has one."""

    lane: Lane | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request, or one event of the application's life."""
        if self.lane is not None and self.lane.takes(scope):
            await self.lane(scope, receive, send)
        else:
            await super().__call__(scope, receive, send)


class LaneMiddleware:
    """Gives POST requests of one path to ``answer``, all others to the application.

    To be the innermost of the application's middleware. Errors go to the application's handlers.
    """

    def __init__(self, app: ASGIApp, *, path: str, answer: Answer) -> None:
        self._app: Final = app
        self._path: Final = path
        self._answer: Final = answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request, or one event of the application's life."""
        if scope["type"] != "http" or scope["method"] != "POST" or scope["path"] != self._path:
            await self._app(scope, receive, send)
            return
        response = await _answered(self._answer, LaneRequest(scope, receive, send))
        await response(scope, receive, send)


async def _answered(answer: Answer, request: Request) -> Response:
    """The answer, or what the application makes of an error. Raises what it has no handler for."""
    try:
        return await answer(request)
    except Exception as error:
        handler = _handler_of(request.app.exception_handlers, error)
        if handler is None:
            raise
        response: Response = await handler(request, error)
        return response


def _handler_of(handlers: dict[Any, Any], error: Exception) -> Any:  # noqa: ANN401 - as Starlette keeps them
    """The handler of the nearest kind; errors that only the catch-all knows are the server's."""
    kinds = (kind for kind in type(error).__mro__ if kind is not Exception)
    return next((handlers[kind] for kind in kinds if kind in handlers), None)

"""The shortest way to the one path that must be fast.

A request for it that the middleware in front has let pass needs no search among all routes and no
framework around it: that costs a third of what a single event does. Everything else, and what the
route raises, is treated as ever.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

Answer = Callable[[Request], Awaitable[Response]]


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
        request = Request(scope, receive, send)
        try:
            response = await self._answer(request)
        except Exception as error:
            handler = _handler_of(request.app.exception_handlers, error)
            if handler is None:
                raise
            response = await handler(request, error)
        await response(scope, receive, send)


def _handler_of(handlers: dict[Any, Any], error: Exception) -> Any:  # noqa: ANN401 - as Starlette keeps them
    """The handler of the nearest kind; errors that only the catch-all knows are the server's."""
    kinds = (kind for kind in type(error).__mro__ if kind is not Exception)
    return next((handlers[kind] for kind in kinds if kind in handlers), None)

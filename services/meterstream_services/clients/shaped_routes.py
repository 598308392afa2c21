"""Routes on the paths of a client: whatever goes wrong is answered in the client's own shape."""

from __future__ import annotations

import logging
from collections.abc import Callable, Coroutine
from typing import Annotated, Any, Final, cast

from fastapi import Depends, Request
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from meterstream.compat.agentmeter.errors import AgentMeterValidationError
from meterstream_aggregator.civil import InvalidQuestion
from meterstream_aggregator.errors import StoreError, UnknownMeter
from meterstream_schemas.errors import InvalidEvent
from meterstream_services.accounts.errors import AccountsUnavailable
from meterstream_services.clients.book import BookFull, BookUnavailable
from meterstream_services.http.json_bodies import BadJson, parse_json
from meterstream_services.http.parts import Parts
from meterstream_services.http.problems import RETRY_SECONDS, problem_of
from meterstream_services.keys.principal import Forbidden, Principal, Scope

_PLACES: Final = ("query", "path", "header")
_log: Final = logging.getLogger("meterstream.http")


def shaped(error: Callable[[int, str], Response]) -> type[APIRoute]:
    """A class of routes whose errors are what ``error`` makes of a status and a sentence."""

    class ShapedRoute(APIRoute):
        """See `shaped`."""

        def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
            handler = super().get_route_handler()

            async def answer(request: Request) -> Response:
                try:
                    return await handler(request)
                except Exception as problem:  # noqa: BLE001 - raised again where it is no known one
                    told = _told(problem)
                    if told.status_code >= 500:
                        _log.warning("%s %s: %s", request.method, request.url.path, told.detail)
                    response = error(told.status_code, told.detail)
                    response.headers.update(told.headers or {})
                    return response

            return answer

    return ShapedRoute


def _told(problem: Exception) -> HTTPException:  # noqa: PLR0911 - one line a kind of error
    """Status, sentence and headers of an error; raised again where it is no foreseen one."""
    match problem:
        case HTTPException():
            return problem
        case BadJson():
            return HTTPException(400, f"the body {problem.reason}")
        case InvalidEvent() | AgentMeterValidationError():
            return HTTPException(422, str(problem))
        case RequestValidationError() | ValidationError():
            first = problem.errors()[0]
            place = ".".join(str(part)[:64] for part in first["loc"] if part not in _PLACES)
            return HTTPException(422, f"{place}: {first['msg']}")
        case Forbidden():
            return HTTPException(403, problem.reason)
        case BookFull():
            return HTTPException(409, str(problem))
        case BookUnavailable():
            return HTTPException(503, str(problem), {"retry-after": str(RETRY_SECONDS)})
        case InvalidQuestion() | UnknownMeter() | StoreError() | AccountsUnavailable():
            return problem_of(problem)
        case _:
            raise problem


async def json_object(request: Request) -> dict[str, Any]:
    """The body as a JSON object. A dependency. Raises `BadJson` and 422."""
    value = parse_json(await request.body())
    if not isinstance(value, dict):
        raise HTTPException(422, "the body is no JSON object; send one")
    return cast("dict[str, Any]", value)


ObjectOf = Annotated[dict[str, Any], Depends(json_object)]


def need(principal: Principal, scope: Scope) -> None:
    """Raises `Forbidden` where the key is not for this."""
    if not principal.may(scope):
        raise Forbidden(f"this key is not for this; it lacks the scope {scope.value!r}")


def away(parts: Parts) -> HTTPException:
    """The answer when the door promised nothing: 503, and when to come again."""
    seconds = RETRY_SECONDS if parts.door is None else parts.door.retry_after_seconds()
    sentence = "events cannot be taken now; send it again later"
    return HTTPException(503, sentence, {"retry-after": str(seconds)})

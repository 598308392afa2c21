"""The shape of an error by the path it answers: a client reads the shape of its own server."""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus
from typing import Final

from starlette.responses import Response

from meterstream_services.clients.agentmeter import errors as agentmeter
from meterstream_services.clients.climeter import errors as climeter
from meterstream_services.clients.meter_lib import errors as meter_lib
from meterstream_services.clients.stripemeter import errors as stripemeter
from meterstream_services.http.problems import Problem, problem_response

ErrorShape = Callable[[int, str], Response]
"""From a status and a sentence to the answer."""

_SHAPES: Final[dict[str, ErrorShape]] = {
    prefix: client.error
    for client in (climeter, stripemeter, meter_lib, agentmeter)
    for prefix in client.PATHS
}


def error_shape(path: str) -> ErrorShape:
    """How errors look on a path: a client's way on its own paths, problem documents elsewhere."""
    end = len(path)
    while end > 0:
        found = _SHAPES.get(path[:end])
        if found is not None:
            return found
        end = path.rfind("/", 0, end)
    return _problem


def _problem(status: int, message: str) -> Response:
    try:
        name = HTTPStatus(status).phrase.lower().replace(" ", "-")
    except ValueError:
        name = "error"
    return problem_response(Problem(status, name, message))

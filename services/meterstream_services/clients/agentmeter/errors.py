"""Errors as AgentMeter's clients read them: a JSON object, always; its text in three places.

0.3.x shows ``detail``, and fails in its own code where the answer is no JSON object. 0.2.0 shows
``error.message``. ``message`` is for whoever reads answers by eye.
"""

from __future__ import annotations

from typing import Final

from starlette.responses import JSONResponse, Response

PATHS: Final = (
    "/api/v1/projects",
    "/api/v1/meter-types",
    "/api/v1/meter-events",
    "/api/v1/users",
    "/api/meter",
    "/projects",
    "/billing-records",
)
"""Prefixes of the paths that only its clients use."""


def error(status: int, message: str) -> Response:
    """An error of any status as both versions read it."""
    content = {
        "success": False,
        "detail": message,
        "error": {"message": message},
        "message": message,
    }
    return JSONResponse(content, status)

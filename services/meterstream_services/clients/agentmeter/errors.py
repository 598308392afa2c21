"""Errors as AgentMeter's clients read them: a JSON object, always; its text under three names.

0.3.x reads ``detail``, 0.2.0 shows ``error`` and ``message``. An answer that is no JSON object makes
0.3.x fail in its own code.
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
    return JSONResponse(
        {"success": False, "detail": message, "error": message, "message": message}, status
    )

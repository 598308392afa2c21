"""Errors as StripeMeter's clients read them: ``error`` by its server, ``message`` by its SDK."""

from __future__ import annotations

from typing import Final

from starlette.responses import JSONResponse, Response

PATHS: Final = (
    "/v1/events/ingest",
    "/v1/usage/current",
    "/v1/usage/projection",
    "/v1/usage/history",
    "/v1/mappings",
)
"""Prefixes of the paths that only its clients use. ``GET /v1/events`` answers errors alike."""


def error(status: int, message: str) -> Response:
    """An error of any status: one JSON object with both names of the text."""
    return JSONResponse({"error": message, "message": message}, status)

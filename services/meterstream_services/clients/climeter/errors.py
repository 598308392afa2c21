"""Errors as CLIMeter's client reads them: a JSON object with ``error``, a name to branch on."""

from __future__ import annotations

from http import HTTPStatus
from typing import Final

from starlette.responses import JSONResponse, Response

PATHS: Final = ("/v1/events/batch", "/v1/consumer", "/v1/clients/climeter")
"""Prefixes of the paths that only its clients use, and those who set their wallets."""


def error(status: int, message: str) -> Response:
    """An error of any status: its name in small letters, and one sentence."""
    try:
        name = HTTPStatus(status).phrase.lower().replace(" ", "_").replace("-", "_")
    except ValueError:
        name = "error"
    return JSONResponse({"error": name, "message": message}, status)

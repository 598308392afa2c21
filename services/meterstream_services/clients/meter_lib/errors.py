"""Errors as Kafka's REST proxy answers them: meter-lib reads no more than that it is not a 2xx."""

from __future__ import annotations

from typing import Final

from starlette.responses import JSONResponse, Response

PATHS: Final = (
    "/topics",
    "/metering",
    "/v1alpha1/customer-accounts",
    "/api/v1/customer-accounts",
)
"""Prefixes of the paths that only its clients use."""


def error(status: int, message: str) -> Response:
    """An error of any status, with ``error_code`` and ``message``."""
    return JSONResponse({"error_code": status, "message": message}, status)

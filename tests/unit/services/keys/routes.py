"""All routes of an application, those of included routers too."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fastapi import FastAPI


class Way(NamedTuple):
    """One method of one route; ``path`` is its template."""

    method: str
    path: str
    route: Any


def ways(app: FastAPI) -> list[Way]:
    """Every method of every route, in the order in which they are tried."""
    return [
        Way(method, route.path, route)
        for route in _routes(app.routes)
        for method in sorted(route.methods or ())
    ]


def _routes(routes: Any) -> Iterator[Any]:  # noqa: ANN401 - FastAPI has no name for them
    for route in routes:
        # FastAPI keeps an included router as one route, with its own ones inside.
        inner = getattr(route, "original_router", None)
        if inner is None:
            yield route
        else:
            yield from _routes(inner.routes)

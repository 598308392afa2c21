"""The API's description: ``GET /openapi.json``, and ``GET /docs``, which loads nothing else.

Anybody may ask for them, and as often as they like. So both are written once, when somebody first
asks, in a thread; everybody gets those bytes.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from html import escape
from typing import Any, Final, NamedTuple

from fastapi import APIRouter, FastAPI, Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

router = APIRouter(include_in_schema=False)

_writer: Final = ThreadPoolExecutor(1, thread_name_prefix="docs")

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h2 { margin-top: 2.5rem; font-size: 1.1rem; } code, pre { font-family: ui-monospace, monospace; }
pre { background: #f4f4f4; padding: .75rem; overflow-x: auto; } td { vertical-align: top; }
td { padding: .15rem .75rem .15rem 0; }
"""


@router.get("/")
async def index() -> RedirectResponse:
    """The way to the documentation."""
    return RedirectResponse("/docs")


class _Written(NamedTuple):
    document: bytes
    page: bytes


@router.api_route("/openapi.json", methods=["GET", "HEAD"])
async def document(request: Request) -> Response:
    """The description for programs."""
    return Response((await _written(request)).document, media_type="application/json")


@router.get("/docs")
async def page(request: Request) -> HTMLResponse:
    """Every route with its parameters and an example of its answer."""
    return HTMLResponse((await _written(request)).page)


async def _written(request: Request) -> _Written:
    state = request.app.state
    found: Future[_Written] | None = getattr(state, "documents", None)
    if found is None:
        found = state.documents = _writer.submit(_write, request.app)
    # A caller that goes away takes nothing from those who wait too.
    return found.result() if found.done() else await asyncio.shield(asyncio.wrap_future(found))


def _write(app: FastAPI) -> _Written:
    schema = app.openapi()
    text = json.dumps(schema, ensure_ascii=False, separators=(",", ":"))
    return _Written(text.encode(), "\n".join(_page(schema)).encode())


def _page(schema: Mapping[str, Any]) -> Iterator[str]:
    title = f"{schema['info']['title']} {schema['info']['version']}"
    yield f"<!doctype html><html lang=en><meta charset=utf-8><title>{escape(title)}</title>"
    yield f"<style>{_STYLE}</style><h1>{escape(title)}</h1>"
    yield f"<p>{escape(schema['info']['description'])}</p>"
    yield "<p>For programs: <a href=/openapi.json>openapi.json</a></p>"
    for path, methods in schema["paths"].items():
        for method, route in methods.items():
            yield from _route(schema, f"{method.upper()} {path}", route)


def _route(schema: Mapping[str, Any], name: str, route: Mapping[str, Any]) -> Iterator[str]:
    yield f"<h2><code>{escape(name)}</code></h2><p>{escape(route.get('summary', ''))}. "
    yield f"{escape(route.get('description', ''))}</p><table>"
    for parameter in route.get("parameters", ()):
        need = "" if parameter.get("required") else "optional"
        told = parameter.get("description", "")
        yield f"<tr><td><code>{escape(parameter['name'])}</code><td>{need}<td>{escape(told)}</tr>"
    yield "</table>"
    for status, response in sorted(route["responses"].items()):
        for kind, content in response.get("content", {}).items():
            example = _example(schema, content.get("schema", {}))
            if example is not None and not kind.endswith("problem+json"):
                text = json.dumps(example, indent=2)
                yield f"<p>{escape(status)}</p><pre>{escape(text)}</pre>"


def _example(schema: Mapping[str, Any], content: Mapping[str, Any]) -> object:
    """The example of a schema, put together from its parts' where it has none itself."""
    if "$ref" in content:
        return _example(schema, schema["components"]["schemas"][content["$ref"].rpartition("/")[2]])
    if "example" in content:
        return content["example"]
    if "anyOf" in content:
        return next((e for part in content["anyOf"] if (e := _example(schema, part))), None)
    if content.get("type") == "array":
        item = _example(schema, content["items"])
        return None if item is None else [item]
    if "properties" in content:
        found = {name: _example(schema, part) for name, part in content["properties"].items()}
        return found if any(value is not None for value in found.values()) else None
    return None

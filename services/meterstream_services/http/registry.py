"""``/registry``: the bundled schemas, as Confluent's schema registry answers for them.

Records carry a schema id (`meterstream_schemas.wire`). Tools that decode a topic ask a registry for
it: this one knows the bundled ids, under the subject ``<topic>-value`` of whatever topic is asked
about, and ``meterstream.events-value`` in the list. Nothing can be registered, changed or deleted.
Errors have the registry's own shape: ``{"error_code": 40403, "message": "..."}``.
"""

from __future__ import annotations

import json
from typing import Any, Final

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response

from meterstream_schemas.bundled import BUNDLED_FILES, LATEST_ID, bundled_text
from meterstream_schemas.events import EVENTS_TOPIC
from meterstream_services.http.json_bodies import BadJson, parse_json

MEDIA_TYPE: Final = "application/vnd.schemaregistry.v1+json"


class RegistryAnswer(JSONResponse):
    """An answer as the registry's clients expect it."""

    media_type = MEDIA_TYPE


_ERRORS: Final[dict[int | str, dict[str, Any]]] = {
    status: {
        "description": description,
        "content": {
            MEDIA_TYPE: {
                "schema": {
                    "type": "object",
                    "required": ["error_code", "message"],
                    "properties": {
                        "error_code": {"type": "integer"},
                        "message": {"type": "string"},
                    },
                }
            }
        },
    }
    for status, description in ((404, "Not Found"), (405, "Read-only"), (422, "No version"))
}
router = APIRouter(prefix="/registry", tags=["schema registry"], responses=_ERRORS)

SUBJECT: Final = f"{EVENTS_TOPIC}-value"
_VALUE: Final = "-value"
_LATEST: Final = frozenset({"latest", "-1"})
_VERSIONS: Final = tuple(BUNDLED_FILES)
"""A version is the schema's id: both count released schemas."""


def _answer(content: object, status: int = 200) -> Response:
    return RegistryAnswer(content, status)


def _error(code: int, message: str) -> Response:
    """An error; its status are the first three digits of its code."""
    status = int(str(code)[:3])
    return _answer({"error_code": code, "message": message}, status)


@router.get("/subjects", summary="Subjects", response_class=RegistryAnswer)
async def subjects() -> Response:
    """The one subject in the list."""
    return _answer([SUBJECT])


@router.get("/schemas/types", summary="Kinds of schemas", response_class=RegistryAnswer)
async def types() -> Response:
    """Avro alone."""
    return _answer(["AVRO"])


@router.get("/schemas/ids/{schema_id}", summary="A schema by its id", response_class=RegistryAnswer)
async def by_id(schema_id: str) -> Response:
    """The schema that records of this id were written with."""
    found = _known(schema_id)
    if found is None:
        return _error(40403, f"Schema {schema_id[:40]} not found")
    return _answer({"schemaType": "AVRO", "schema": _text(found)})


@router.get(
    "/schemas/ids/{schema_id}/schema",
    summary="A schema's text by its id",
    response_class=RegistryAnswer,
)
async def text_by_id(schema_id: str) -> Response:
    """The schema itself."""
    found = _known(schema_id)
    if found is None:
        return _error(40403, f"Schema {schema_id[:40]} not found")
    return Response(_text(found), media_type=MEDIA_TYPE)


@router.get(
    "/schemas/ids/{schema_id}/versions",
    summary="Where an id is used",
    response_class=RegistryAnswer,
)
async def versions_by_id(schema_id: str) -> Response:
    """The subject and version of an id."""
    found = _known(schema_id)
    if found is None:
        return _error(40403, f"Schema {schema_id[:40]} not found")
    return _answer([{"subject": SUBJECT, "version": found}])


@router.get(
    "/schemas/ids/{schema_id}/subjects",
    summary="Subjects that use an id",
    response_class=RegistryAnswer,
)
async def subjects_by_id(schema_id: str) -> Response:
    """The subject of an id."""
    if _known(schema_id) is None:
        return _error(40403, f"Schema {schema_id[:40]} not found")
    return _answer([SUBJECT])


@router.get(
    "/subjects/{subject}/versions", summary="Versions of a subject", response_class=RegistryAnswer
)
async def versions(subject: str) -> Response:
    """The released versions."""
    if not _is_subject(subject):
        return _no_subject(subject)
    return _answer(_VERSIONS)


@router.get(
    "/subjects/{subject}/versions/{version}",
    summary="A version of a subject",
    response_class=RegistryAnswer,
)
async def by_version(subject: str, version: str) -> Response:
    """The schema of a version, or of ``latest``."""
    if not _is_subject(subject):
        return _no_subject(subject)
    if version not in _LATEST and not _is_number(version):
        return _error(42202, "The specified version is not a valid version id")
    found = LATEST_ID if version in _LATEST else _known(version)
    if found is None:
        return _error(40402, f"Version {version[:40]} not found.")
    return _answer(_registered(subject, found))


@router.get(
    "/subjects/{subject}/versions/{version}/schema",
    summary="A version's text",
    response_class=RegistryAnswer,
)
async def text_by_version(subject: str, version: str) -> Response:
    """The schema itself."""
    if not _is_subject(subject):
        return _no_subject(subject)
    found = LATEST_ID if version in _LATEST else _known(version)
    if found is None:
        return _error(40402, f"Version {version[:40]} not found.")
    return Response(_text(found), media_type=MEDIA_TYPE)


@router.get("/config", summary="How schemas change", response_class=RegistryAnswer)
async def config() -> Response:
    """Every version reads, and is read by, all others."""
    return _answer({"compatibilityLevel": "FULL_TRANSITIVE"})


@router.get(
    "/config/{subject}", summary="How a subject's schemas change", response_class=RegistryAnswer
)
async def config_of(subject: str) -> Response:
    """As for all."""
    return await config() if _is_subject(subject) else _no_subject(subject)


@router.get("/mode", summary="What may be done", response_class=RegistryAnswer)
async def mode() -> Response:
    """Reading."""
    return _answer({"mode": "READONLY"})


@router.get(
    "/mode/{subject}", summary="What may be done to a subject", response_class=RegistryAnswer
)
async def mode_of(subject: str) -> Response:
    """As for all."""
    return await mode() if _is_subject(subject) else _no_subject(subject)


@router.post("/subjects/{subject}", summary="Look a schema up")
@router.post(
    "/subjects/{subject}/versions",
    summary="Look a schema up, as if to register it",
    response_class=RegistryAnswer,
)
async def look_up(subject: str, request: Request) -> Response:
    """The id and version of a schema that is bundled; another one is not found, nor registered."""
    if not _is_subject(subject):
        return _no_subject(subject)
    try:
        told = parse_json(await request.body())
        text = told.get("schema") if type(told) is dict else None
        wanted = parse_json(text.encode()) if type(text) is str else None
    except (BadJson, UnicodeEncodeError) as problem:
        return _error(42201, f"Invalid schema: {str(problem)[:200]}")
    if wanted is None:
        return _error(42201, "Invalid schema: send it as the text of the member schema")
    for found in BUNDLED_FILES:
        if json.loads(bundled_text(found)) == wanted:
            return _answer(_registered(subject, found))
    if request.url.path.endswith("/versions"):
        return _error(42205, f"Subject {subject[:200]} is in read-only mode")
    return _error(40403, "Schema not found")


@router.api_route(
    "/{path:path}",
    methods=["GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS"],
    include_in_schema=False,
)
async def nothing(path: str, request: Request) -> Response:
    """Whatever else a registry does: not here."""
    if request.method in {"GET", "HEAD"}:
        return _error(404, f"HTTP 404 Not Found: {path[:200]}")
    return _error(405, "HTTP 405 Method Not Allowed: this registry can only be read")


def _is_subject(subject: str) -> bool:
    return subject.endswith(_VALUE) and len(subject) > len(_VALUE)


def _no_subject(subject: str) -> Response:
    return _error(40401, f"Subject '{subject[:200]}' not found.")


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 10


def _known(text: str) -> int | None:
    """A bundled id, or a version, which is the same number."""
    number = int(text) if _is_number(text) else 0
    return number if number in BUNDLED_FILES else None


def _registered(subject: str, schema_id: int) -> dict[str, Any]:
    return {
        "subject": subject,
        "id": schema_id,
        "version": schema_id,
        "schemaType": "AVRO",
        "schema": _text(schema_id),
    }


def _text(schema_id: int) -> str:
    """The schema without its blanks."""
    return json.dumps(json.loads(bundled_text(schema_id)), separators=(",", ":"))

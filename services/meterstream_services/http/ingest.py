"""``POST /v1/events``: events in native JSON and as CloudEvents, one, many, or line by line.

Two clients of other systems post to the same path. What a body is, is told by its content type,
and then by its shape:

=========================================  ======================================================
``application/cloudevents+json``           one CloudEvent
``application/cloudevents-batch+json``     an array of them
headers ``ce-id``, ``ce-specversion``      one CloudEvent in binary mode
``application/x-ndjson`` and the like      an event a line: native, or a CloudEvent
``application/json``: object               native; with ``specversion`` a CloudEvent, with
                                           ``events`` a batch, with ``tool_id`` CLIMeter's
``application/json``: array                a batch; with ``metric_code`` Unimeter's
=========================================  ======================================================

Runs on the event loop and waits for nothing but the door.
"""

from __future__ import annotations

from typing import Any, Final

from fastapi import APIRouter, Request
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.routing import Route

from meterstream_schemas.errors import InvalidEvent
from meterstream_services.clients.climeter.rest import record_single
from meterstream_services.clients.unimeter.http_events import record_array
from meterstream_services.gateway.port import Door
from meterstream_services.http import ingest_stream
from meterstream_services.http.guarding import foreign_tenant, principal_of
from meterstream_services.http.ingest_answers import batch_answer, refused, single_answer
from meterstream_services.http.ingest_cloud import from_headers
from meterstream_services.http.ingest_described import DESCRIBED, RESPONSES
from meterstream_services.http.ingest_native import ForeignTenant, json_name
from meterstream_services.http.ingest_taking import IDEMPOTENCY_KEY_MAX, Sender, check_rate, take
from meterstream_services.http.json_bodies import BadJson, parse_json
from meterstream_services.http.limits import BODY_BYTES_MAX, STREAM_TYPES
from meterstream_services.http.packed import (
    ACCEPTED,
    BadPacking,
    UnknownEncoding,
    UnpackedTooLarge,
    unpack,
)
from meterstream_services.http.parts import Parts
from meterstream_services.http.problems import Problem

router = APIRouter(tags=["events"])

PATH: Final = "/v1/events"
ITEMS_MAX: Final = 1000
JSON_TYPES: Final = frozenset({"application/json", "text/json"})
"""Not without a type: pages in browsers may post those, as plain text and forms, to any address."""
CLOUD_EVENT: Final = "application/cloudevents+json"
CLOUD_EVENTS: Final = "application/cloudevents-batch+json"

_PLAIN_TYPES: Final = {b"": "", b"application/json": "application/json"}
_BINARY_MODE: Final = frozenset({b"ce-specversion", b"ce-id"})
_KNOWN_TYPES: Final = (
    "application/json",
    ingest_stream.MEDIA_TYPE,
    CLOUD_EVENT,
    CLOUD_EVENTS,
)


async def record(request: Request) -> Response:
    """Record one event, a batch, or a stream; answered when the log has them."""
    # Not by dependencies: each would be a way into a thread and back.
    parts = request.app.state.parts
    assert isinstance(parts, Parts)
    request.scope["route"] = _PLAIN  # What the metrics ask for; plain routes do not say it.
    try:
        return await _record(request, parts)
    except ClientDisconnect:
        return Response(status_code=400)
    except ForeignTenant as problem:
        raise foreign_tenant(problem.tenant) from None
    except InvalidEvent as problem:
        raise refused(problem.field, problem.problem) from None


# A plain route answers, at half of what FastAPI's own would cost for a single event; that one
# stands behind it for the description, and is never reached.
_PLAIN: Final = Route(PATH, record, methods=["POST"], include_in_schema=False)
router.routes.append(_PLAIN)
router.post(
    PATH, summary="Record events", status_code=201, responses=RESPONSES, openapi_extra=DESCRIBED
)(record)


async def _record(request: Request, parts: Parts) -> Response:
    media_type = media_type_of(request)
    # Looked up only where they are: each look-up goes through all headers.
    named = {name for name, _ in request.scope["headers"]}
    sender = Sender(
        principal_of(request),
        idempotency_key(request) if b"idempotency-key" in named else None,
        asks_receipt(request) if b"prefer" in named else False,
    )
    if media_type in JSON_TYPES and named.isdisjoint(_BINARY_MODE):
        return await _by_shape(request, parts, sender, await body_of(request))
    if media_type in STREAM_TYPES:
        return await _stream(request, parts, sender)
    if media_type == CLOUD_EVENT:
        return await _one(request, parts, sender, await body_of(request), asks_cloud=True)
    if media_type == CLOUD_EVENTS:
        items = await body_of(request)
        if type(items) is not list:
            raise InvalidEvent("events", f"{json_name(items)} is no batch; send an array")
        return await _many(request, parts, sender, items, asks_cloud=True)
    if not named.isdisjoint(_BINARY_MODE):
        event = from_headers(request.headers, media_type, await bytes_of(request))
        return await _one(request, parts, sender, event, asks_cloud=True)
    raise Problem(
        415,
        "unknown-media-type",
        f"content type {media_type[:64]!r} is not read here; send one of {', '.join(_KNOWN_TYPES)}",
        headers={"accept": ", ".join(_KNOWN_TYPES)},
    )


async def _by_shape(request: Request, parts: Parts, sender: Sender, body: Any) -> Response:  # noqa: ANN401 - JSON
    if type(body) is list:
        if body and type(body[0]) is dict and body[0].keys() >= {"account_id", "metric_code"}:
            return await record_array(request, parts, sender.principal, body)
        return await _many(request, parts, sender, body)
    if type(body) is not dict or "specversion" in body:
        return await _one(request, parts, sender, body)
    if "events" in body:
        unknown = sorted(set(body) - {"events"})
        if unknown:
            raise InvalidEvent(unknown[0][:64], "not known beside events; put it into each event")
        if type(body["events"]) is not list:
            raise InvalidEvent("events", f"{json_name(body['events'])} is no array of events")
        return await _many(request, parts, sender, body["events"])
    if "tool_id" in body or ("tool_slug" in body and ("command" in body or "event_name" in body)):
        return await record_single(request, parts, sender.principal, body)
    return await _one(request, parts, sender, body)


async def _one(
    request: Request,
    parts: Parts,
    sender: Sender,
    item: Any,  # noqa: ANN401 - JSON
    *,
    asks_cloud: bool = False,
) -> Response:
    door = door_of(parts)
    offer = sender.offer(_as_cloud(item) if asks_cloud else item, None)
    check_rate(request, 1)
    (fate,) = await door.take([offer], sender.patience([offer]))
    return single_answer(fate, offer, door, asked_async=sender.asks_receipt)


async def _many(
    request: Request,
    parts: Parts,
    sender: Sender,
    items: list[Any],
    *,
    asks_cloud: bool = False,
) -> Response:
    door = door_of(parts)
    check_count(items)
    judged = sender.offers([_as_cloud(item) for item in items] if asks_cloud else items)
    check_rate(request, len(judged))
    fates, offers = await take(door, judged, sender.patience(judged))
    return batch_answer(fates, offers, door, asked_async=sender.asks_receipt)


async def _stream(request: Request, parts: Parts, sender: Sender) -> Response:
    try:
        return await ingest_stream.record_lines(request, door_of(parts), sender, parts.keys)
    except (BadPacking, UnknownEncoding, UnpackedTooLarge) as problem:
        raise packing_problem(problem) from None


def _as_cloud(item: Any) -> Any:  # noqa: ANN401 - JSON
    """An item that the content type calls a CloudEvent: without ``specversion`` it is a bad one."""
    if type(item) is dict and "specversion" not in item:
        return item | {"specversion": None}
    return item


def door_of(parts: Parts) -> Door:
    """The door. Raises `Problem` where there is none."""
    if parts.door is None:
        raise Problem(
            503,
            "no-broker",
            "nothing is taken here; start serve with --bootstrap HOST:PORT, not --read-only",
        )
    return parts.door


def check_count(items: list[Any]) -> None:
    """Raise `Problem` for more items than one request may have."""
    if len(items) > ITEMS_MAX:
        raise Problem(
            413,
            "too-many-events",
            f"{len(items)} events in one request; send at most {ITEMS_MAX}, or a stream of lines",
        )


def media_type_of(request: Request) -> str:
    """The content type in lower case, without parameters; empty without one."""
    told = header_of(request, b"content-type")
    if told is None or told in _PLAIN_TYPES:
        return _PLAIN_TYPES[told or b""]
    return told.decode("latin-1").partition(";")[0].strip().lower()


def header_of(request: Request, name: bytes) -> bytes | None:
    """A header, by its name in lower case; of several the first."""
    for each, value in request.scope["headers"]:
        if each == name:
            return value  # type: ignore[no-any-return]  # ASGI has bytes there
    return None


def idempotency_key(request: Request) -> str:
    """The header ``Idempotency-Key``. Raises `InvalidEvent` where it cannot be a key."""
    told = request.headers.getlist("idempotency-key")
    key = told[0].strip()
    if len(told) > 1 or not 0 < len(key) <= IDEMPOTENCY_KEY_MAX or not _is_plain(key):
        raise InvalidEvent(
            "Idempotency-Key",
            f"must be there once: 1 to {IDEMPOTENCY_KEY_MAX} printable ASCII characters",
        )
    return key


def asks_receipt(request: Request) -> bool:
    """Whether the client would rather have a receipt than wait for the log (RFC 7240)."""
    told = ",".join(request.headers.getlist("prefer"))
    return any(part.strip().lower() == "respond-async" for part in told.split(","))


async def body_of(request: Request) -> Any:  # noqa: ANN401 - whatever the sender wrote
    """The JSON of the body, unpacked. Raises `Problem`."""
    try:
        return parse_json(await bytes_of(request))
    except BadJson as problem:
        raise Problem(400, "bad-json", f"the body {problem.reason}") from None


async def bytes_of(request: Request) -> bytes:
    """The body, unpacked, within the limit of bodies. Raises `Problem`."""
    body = await request.body()
    told = header_of(request, b"content-encoding")
    if told is None and len(body) <= BODY_BYTES_MAX:
        return body
    try:
        return unpack(body, (told or b"").decode("latin-1"), BODY_BYTES_MAX)
    except (BadPacking, UnknownEncoding, UnpackedTooLarge) as problem:
        raise packing_problem(problem) from None


def packing_problem(problem: BadPacking | UnknownEncoding | UnpackedTooLarge) -> Problem:
    """What is told of a body that cannot be unpacked."""
    match problem:
        case BadPacking():
            return Problem(400, "bad-packing", problem.reason)
        case UnknownEncoding():
            return Problem(
                415, "unknown-encoding", str(problem), headers={"accept-encoding": ACCEPTED}
            )
        case UnpackedTooLarge():
            return Problem(413, "body-too-large", str(problem))


def _is_plain(text: str) -> bool:
    return text.isascii() and text.isprintable()

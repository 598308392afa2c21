"""``/v1/records``: Avro records of the SDK, passed on as they are (decision 22).

Answers of its own, in place of problem documents: the SDK believes a refusal only where it reads
``error``.
"""

from __future__ import annotations

import math
import struct
from typing import Annotated, Any, Final, NamedTuple

import orjson
from fastapi import APIRouter, Header, Request
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from meterstream.transport import Failure
from meterstream_schemas.errors import SchemaUnavailable
from meterstream_services.gateway.passing import Busy, Passing, Record
from meterstream_services.gateway.records import Judge, TooManyProducers
from meterstream_services.http.guarding import PrincipalOf
from meterstream_services.http.packed import (
    BadPacking,
    UnknownEncoding,
    UnpackedTooLarge,
    unpack,
)
from meterstream_services.http.parts import PartsOf
from meterstream_services.http.rates import charge
from meterstream_services.http.threads import Work, in_thread
from meterstream_services.keys.principal import Principal, Scope

router = APIRouter(tags=["events"])

BYTES_MAX: Final = 1_000_000
"""Of one request, unpacked."""
RECORDS_MAX: Final = 5_000
RETRY_SECONDS: Final = 2
MEDIA_TYPE: Final = "application/vnd.meterstream.records"
_DIGITS_MAX: Final = 9
_FRAME: Final = struct.Struct(">II")


class Unframed(ValueError):
    """A body that is no sequence of records."""


_ERROR: Final = {
    "application/json": {
        "schema": {
            "type": "object",
            "required": ["error"],
            "properties": {"error": {"type": "string"}},
        }
    }
}
"""An error as the SDK reads it: decision 22."""


@router.get(
    "/v1/records",
    summary="How records are taken",
    response_class=Response,
    responses={503: {"description": "The log is away", "content": _ERROR}},
)
async def terms(parts: PartsOf, principal: PrincipalOf) -> Response:
    """Partitions of the topic, and the bounds of one request before it is packed."""
    if not principal.may(Scope.INGEST):
        return _refusal(403, "this key is not for ingest")
    passing = parts.passing
    if passing is None or passing.partitions is None:
        return _away(passing)
    told = {
        "partitions": passing.partitions,
        "bytes_max": BYTES_MAX,
        "records_max": RECORDS_MAX,
    }
    return _json(200, told)


@router.post(
    "/v1/records",
    summary="Pass on records of the SDK",
    response_class=Response,
    responses={
        200: {"description": "A result for each record: `[partition, offset]`, or an error"},
        **{
            status: {"description": description, "content": _ERROR}
            for status, description in (
                (400, "Not records"),
                (413, "Too much at once"),
                (415, "Another media type"),
                (422, "Headers that cannot be read"),
                (429, "More than the key may send"),
                (503, "The log is away"),
            )
        },
    },
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {MEDIA_TYPE: {"schema": {"type": "string", "format": "binary"}}},
        }
    },
)
async def pass_on(  # noqa: PLR0911 - one line an answer of decision 22
    request: Request,
    parts: PartsOf,
    principal: PrincipalOf,
    meterstream_records: Annotated[str | None, Header()] = None,
) -> Response:
    """Each record into the partition that it names; answered when all replicas have it."""
    if not principal.may(Scope.INGEST):
        return _refusal(403, "this key is not for ingest")
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != MEDIA_TYPE:
        return _refusal(415, f"send {MEDIA_TYPE}")
    passing, judge = parts.passing, parts.judge
    if passing is None or judge is None or passing.partitions is None:
        return _away(passing)
    wait_seconds = charge(request, _count_told(meterstream_records), principal=principal)
    if wait_seconds is not None:
        why = "this key sends more than its rate allows"
        return _refusal(429, why, retry_seconds=max(1, math.ceil(wait_seconds)))
    try:
        body = await request.body()
        posted = _Posted(body, request.headers.get("content-encoding"), meterstream_records)
        judged = await in_thread(Work.TAKING, _judged, posted, judge, passing.partitions, principal)
    except ClientDisconnect:
        return _refusal(400, "the request ended early")
    except (UnpackedTooLarge, TooManyProducers) as problem:
        return _refusal(413, str(problem) or "too many producers in one request")
    except (Unframed, BadPacking, UnknownEncoding) as problem:
        return _refusal(400, str(problem))
    except SchemaUnavailable as problem:
        return _refusal(503, str(problem), retry_seconds=RETRY_SECONDS)
    return await _passed(passing, judged)


def _count_told(told: str | None) -> int:
    """How many records a request says it has. It is refused if that is not so."""
    is_count = told is not None and told.isascii() and told.isdecimal() and len(told) <= _DIGITS_MAX
    return min(int(told), RECORDS_MAX) if told is not None and is_count else 1


class _Posted(NamedTuple):
    """A body, how it is packed, and how many records it is said to have."""

    body: bytes
    encoding: str | None
    told: str | None


def _judged(
    posted: _Posted, judge: Judge, partitions: int, principal: Principal
) -> list[Record | Failure]:
    """Off the event loop: unpack, cut, decode and judge."""
    records = cut(unpack(posted.body, posted.encoding, BYTES_MAX))
    if posted.told != str(len(records)):
        told = str(posted.told)[:20]
        raise Unframed(f"{len(records)} records; Meterstream-Records tells {told}")
    return judge.judged(records, partitions, principal)


def cut(body: bytes) -> list[tuple[int, bytes]]:
    """Partition and record of each frame. Raises `Unframed`, and `UnpackedTooLarge`."""
    records: list[tuple[int, bytes]] = []
    at, end = 0, len(body)
    while at < end:
        if end - at < _FRAME.size:
            raise Unframed(f"{end - at} bytes at the end are no frame")
        length, partition = _FRAME.unpack_from(body, at)
        at += _FRAME.size
        if length > end - at:
            raise Unframed(f"a record of {length} bytes ends after {end - at}")
        records.append((partition, body[at : at + length]))
        at += length
        if len(records) > RECORDS_MAX:
            raise UnpackedTooLarge(BYTES_MAX)
    return records


async def _passed(passing: Passing, judged: list[Record | Failure]) -> Response:
    good = [each for each in judged if isinstance(each, Record)]
    try:
        sent = await passing.send(good) if good else []
    except Busy as problem:
        return _refusal(503, str(problem), retry_seconds=RETRY_SECONDS)
    places = iter(zip(good, sent, strict=True))
    results: list[Any] = []
    for each in judged:
        if isinstance(each, Failure):
            results.append(_told(each))
        else:
            record, result = next(places)
            told = _told(result) if isinstance(result, Failure) else [record.partition, result]
            results.append(told)
    return _json(200, {"results": results})


def _told(failure: Failure) -> dict[str, Any]:
    return {"error": failure.reason, "permanent": failure.permanent}


def _away(passing: Passing | None) -> Response:
    why = "no broker is named here" if passing is None else "the log is away"
    return _refusal(503, why, retry_seconds=RETRY_SECONDS)


def _refusal(status: int, why: str, *, retry_seconds: int | None = None) -> Response:
    headers = {} if retry_seconds is None else {"retry-after": str(retry_seconds)}
    return _json(status, {"error": why}, headers)


def _json(status: int, content: object, headers: dict[str, str] | None = None) -> Response:
    return Response(orjson.dumps(content), status, headers, media_type="application/json")

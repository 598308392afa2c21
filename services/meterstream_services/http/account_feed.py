"""``/v1/accounts:changes`` and ``:export``: the whole directory, and what changes in it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from typing import Annotated, Any, Final

import orjson
from fastapi import APIRouter, Depends, Request
from fastapi import Query as InQuery
from pydantic import BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response, StreamingResponse

from meterstream_aggregator.civil import format_time
from meterstream_services.accounts.errors import FeedExpired, NotEditable
from meterstream_services.accounts.exporting import export_rows
from meterstream_services.accounts.port import EditableDirectory
from meterstream_services.http.account_moves import changed_json
from meterstream_services.http.asking import ROWS_DEFAULT, Limit, Query, json_response, said_once
from meterstream_services.http.etags import digest, tagged
from meterstream_services.http.parts import PartsOf
from meterstream_services.http.problems import documented
from meterstream_services.zones import find_zone

router = APIRouter(tags=["accounts"], dependencies=[Depends(said_once)])

CURSOR_HEADER: Final = "meterstream-cursor"
WAIT_SECONDS_MAX: Final = 20
_LOOK_SECONDS: Final = 0.5


class ChangesQuery(Query):
    """From where on, how many, and how long to wait for the first."""

    after: Annotated[
        int, Field(ge=0, le=2**62, description="`next` of the answer before; 0: from the first.")
    ] = 0
    limit: Limit = ROWS_DEFAULT
    wait_seconds: Annotated[
        int, Field(ge=0, le=WAIT_SECONDS_MAX, description="Wait so long for a change.")
    ] = 0


class ChangeDocument(BaseModel):
    """One thing that was changed, whole as it was and as it is; null and [] are nothing."""

    sequence: int
    time: str
    kind: Annotated[str, Field(description="account, tenant (its history) or external_id")]
    id: Annotated[str, Field(description="the account, the tenant, or SYSTEM/ID")]
    was: Any
    now: Any


class ChangesDocument(BaseModel):
    """Changes in their order. `next` goes on where this answer stops; `last` is the newest."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "changes": [
                    {
                        "sequence": 7,
                        "time": "2026-03-01T09:30:00+00:00",
                        "kind": "external_id",
                        "id": "stripe/cus_1",
                        "was": None,
                        "now": "a1",
                    }
                ],
                "next": 7,
                "last": 7,
            }
        }
    )

    changes: list[ChangeDocument]
    next: int
    last: int


@router.get(
    "/v1/accounts:changes",
    summary="What changed, in order",
    responses={200: {"model": ChangesDocument}, **documented(409, 410, 422, 503)},
)
async def read_changes(
    request: Request, query: Annotated[ChangesQuery, InQuery()], parts: PartsOf
) -> Response:
    """Every change once, without gaps, to keep a mirror: begin with an export and its cursor.

    410 where the next change is no longer kept, or `after` is beyond the last change, as after a
    return to a backup: export again. `wait_seconds` holds the answer until there is a change, or
    the time is over.
    """
    until = time.monotonic() + query.wait_seconds
    while True:
        feed = await run_in_threadpool(
            parts.directory.changes, after=query.after, limit=query.limit
        )
        if query.after > feed.last:
            raise FeedExpired(
                f"the last change is {feed.last}, so {query.after} is a cursor of other "
                "accounts, or these came back from a backup; export everything anew"
            )
        if feed.records or time.monotonic() >= until or await request.is_disconnected():
            break
        await asyncio.sleep(_LOOK_SECONDS)
    zone = find_zone("UTC")
    response = json_response(
        {
            "changes": [
                {
                    "sequence": record.sequence,
                    "time": format_time(record.time, zone),
                    **changed_json(record),
                }
                for record in feed.records
            ],
            "next": feed.records[-1].sequence if feed.records else query.after,
            "last": feed.last,
        }
    )
    return tagged(request, response, digest(bytes(response.body)))


@router.get(
    "/v1/accounts:export",
    summary="Everything, as rows of an import",
    response_class=StreamingResponse,
    responses={
        200: {
            "description": "One JSON object a line",
            "content": {
                "application/x-ndjson": {
                    "schema": {
                        "type": "string",
                        "example": '{"account": "a1", "tenant": "acme"}\\n',
                    }
                }
            },
        },
        **documented(422, 503),
    },
)
def export(parts: PartsOf) -> Response:
    """All accounts, mappings, external ids and merges; importing them elsewhere gives the same.

    The header `Meterstream-Cursor` is where to follow the changes from: each is whole, so those
    that the export has already do no harm.
    """
    directory = parts.directory
    cursor = _cursor(directory)
    directory.accounts(limit=1)  # An outage is an answer of its own, not half an export.
    headers = {"cache-control": "private, no-cache"}
    if cursor is not None:
        headers[CURSOR_HEADER] = str(cursor)
    return StreamingResponse(_lines(directory), headers=headers, media_type="application/x-ndjson")


def _cursor(directory: EditableDirectory) -> int | None:
    try:
        return directory.changes(after=2**62, limit=1).last
    except NotEditable:
        return None


def _lines(directory: EditableDirectory) -> Iterator[bytes]:
    lines: list[bytes] = []
    for row in export_rows(directory):
        lines.append(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE))
        if len(lines) >= 1000:
            yield b"".join(lines)
            lines = []
    yield b"".join(lines)

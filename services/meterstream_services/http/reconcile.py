"""``GET /v1/reconcile``: what each producer sent against what was counted."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends
from fastapi import Query as InQuery
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from meterstream_aggregator.store.port import ProducerRow
from meterstream_services.http.asking import (
    ROWS_DEFAULT,
    After,
    Limit,
    Query,
    Text,
    Zone,
    cursor,
    json_response,
    place,
    said_once,
    shown_time,
)
from meterstream_services.http.parts import PartsOf
from meterstream_services.http.problems import documented
from meterstream_services.zones import find_zone

router = APIRouter(tags=["operation"], dependencies=[Depends(said_once)])

_PRODUCER: Final[dict[str, Any]] = {
    "producer": "5f3c0f4e9b5d4c0c8f8f0a1b2c3d4e5f",
    "seen": 1000,
    "counted": 998,
    "duplicates": 40,
    "refused": 2,
    "missing": [{"lane": 17, "from": 12, "to": 13}],
    "closed": True,
    "last_append": "2026-03-01T10:12:31+00:00",
}


class ReconcileQuery(Query):
    """Which producers."""

    producer: Annotated[Text | None, Field(description="One producer's id.")] = None
    zone: Zone = "UTC"
    limit: Limit = ROWS_DEFAULT
    after: After | None = None


class MissingDocument(BaseModel):
    """Numbers of a lane that were spent and never arrived, both ends included."""

    lane: int
    start: int = Field(alias="from")
    end: int = Field(alias="to")


class ProducerDocument(BaseModel):
    """One producer incarnation, over all partitions.

    `seen` numbers arrived; each was counted or refused. `missing` ones are lost, or on their way.
    `closed` says that it ended with a closing mark in every partition that knows it.
    """

    model_config = ConfigDict(json_schema_extra={"example": _PRODUCER})

    producer: str
    seen: int
    counted: int
    duplicates: int
    refused: int
    missing: list[MissingDocument]
    closed: bool
    last_append: str | None


class ReconcileDocument(BaseModel):
    """Producers by id. `next` goes on where this answer stops."""

    producers: list[ProducerDocument]
    next: str | None


@router.get(
    "/v1/reconcile",
    summary="Sent against counted, by producer",
    responses={200: {"model": ReconcileDocument}, **documented(422, 503)},
)
def reconcile(query: Annotated[ReconcileQuery, InQuery()], parts: PartsOf) -> Response:
    """For each producer: numbers seen, counted, repeated, refused and missing."""
    zone = find_zone(query.zone)
    after = "" if query.after is None else place(query.after)
    with parts.store() as store:
        rows = sorted(row for row in store.producers(query.producer) if row.producer > after)
    found = [_joined(name, told) for name, told in groupby(rows, key=lambda row: row.producer)]
    shown = found[: query.limit]
    for producer in shown:
        producer["last_append"] = shown_time(producer["last_append"], zone)
    more = len(found) > query.limit
    return json_response(
        {"producers": shown, "next": cursor(shown[-1]["producer"]) if more else None}
    )


def _joined(producer: str, told: Iterable[ProducerRow]) -> dict[str, Any]:
    rows = list(told)
    missing = sorted(run for row in rows for run in row.missing)
    return {
        "producer": producer,
        "seen": sum(row.seen for row in rows),
        "counted": sum(row.counted for row in rows),
        "duplicates": sum(row.duplicates for row in rows),
        "refused": sum(row.refused for row in rows),
        "missing": [{"lane": lane, "from": start, "to": end} for lane, start, end in missing],
        "closed": all(row.closed for row in rows),
        "last_append": max((row.last_append for row in rows), default=0) or None,
    }

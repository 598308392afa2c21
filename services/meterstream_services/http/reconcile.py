"""``GET /v1/reconcile``: what each producer sent against what was counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import tzinfo
from itertools import groupby
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends
from fastapi import Query as InQuery
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from meterstream_aggregator.catalogue import MINUTE
from meterstream_aggregator.refusals import Reason
from meterstream_aggregator.store.port import StoreReader
from meterstream_aggregator.store.told import DeadLettersWanted, ProducerRow
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
from meterstream_services.http.missing import missing_numbers
from meterstream_services.http.parts import PartsOf
from meterstream_services.http.problems import documented
from meterstream_services.zones import find_zone

router = APIRouter(tags=["operation"], dependencies=[Depends(said_once)])

SILENT_AFTER: Final = 10 * MINUTE
"""A producer that did not close is silent once the log went on for this long without it."""
CONFLICTS_MAX: Final = 100_000
"""Most key conflicts that are looked through."""

_SUMS: Final = ("seen", "counted", "duplicates", "refused", "conflicts", "missing_numbers")
_PRODUCER: Final[dict[str, Any]] = {
    "producer": "5f3c0f4e9b5d4c0c8f8f0a1b2c3d4e5f",
    "seen": 1000,
    "counted": 998,
    "duplicates": 40,
    "refused": 2,
    "conflicts": 1,
    "missing_numbers": 2,
    "missing": [{"lane": 17, "from": 12, "to": 13, "since": "2026-03-01T10:07:00+00:00"}],
    "lanes": None,
    "closed": False,
    "last_append": "2026-03-01T10:12:31+00:00",
    "silent_since": "2026-03-01T10:12:31+00:00",
}


class ReconcileQuery(Query):
    """Which producers."""

    producer: Annotated[
        Text | None, Field(description="One producer's id: with the numbers of its lanes.")
    ] = None
    missing: Annotated[bool, Field(description="Only producers of which numbers are missing.")] = (
        False
    )
    zone: Zone = "UTC"
    limit: Limit = ROWS_DEFAULT
    after: After | None = None


class MissingDocument(BaseModel):
    """Numbers of a lane that were spent and never arrived, both ends included."""

    lane: int
    start: int = Field(alias="from")
    end: int = Field(alias="to")
    since: str = Field(description="When the log first showed that they are missing.")


class LaneDocument(BaseModel):
    """The numbers of one lane: `1` to `highest`, but for those missing."""

    lane: int
    highest: int
    missing_numbers: int


class TotalsDocument(BaseModel):
    """All producers together, those of other pages included."""

    producers: int
    seen: int
    counted: int
    duplicates: int
    refused: int
    conflicts: int
    missing_numbers: int
    with_missing: int = Field(description="Producers of which numbers are missing.")
    silent: int = Field(description="Producers that went silent without closing.")


class ProducerDocument(BaseModel):
    """One producer incarnation, over all partitions.

    `seen` numbers arrived; each was counted or refused. `missing` ones are lost, or on their way.
    `conflicts` are those refused because their caller's key was used for other content. `closed`
    says that it ended with a closing mark in every partition that knows it; one that did not and
    went silent says since when.
    """

    model_config = ConfigDict(json_schema_extra={"example": _PRODUCER})

    producer: str
    seen: int
    counted: int
    duplicates: int
    refused: int
    conflicts: int
    missing_numbers: int
    missing: list[MissingDocument]
    lanes: list[LaneDocument] | None = Field(description="Only where one producer is asked for.")
    closed: bool
    last_append: str | None
    silent_since: str | None


class ReconcileDocument(BaseModel):
    """Producers by id. `next` goes on where this answer stops."""

    producers: list[ProducerDocument]
    totals: TotalsDocument
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
        rows = sorted(store.producers(query.producer))
        appended = {row.partition: row.appended for row in store.positions()}
        conflicts = _conflicts(store, query.producer)
    told = [
        _joined(name, list(of), appended, conflicts[name])
        for name, of in groupby(rows, key=lambda row: row.producer)
    ]
    wanted = [
        entry
        for entry in told
        if entry["producer"] > after and (entry["missing"] or not query.missing)
    ]
    shown = wanted[: query.limit]
    more = len(wanted) > query.limit
    return json_response(
        {
            "producers": [_shown(entry, zone, lanes=query.producer is not None) for entry in shown],
            "totals": totals_of(told),
            "next": cursor(shown[-1]["producer"]) if more else None,
        }
    )


def totals_of(told: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    """Sums over producers."""
    sums: dict[str, int] = dict.fromkeys(("producers", *_SUMS, "with_missing", "silent"), 0)
    for entry in told:
        sums["producers"] += 1
        for name in _SUMS:
            sums[name] += entry[name]
        sums["with_missing"] += bool(entry["missing"])
        sums["silent"] += entry["silent_since"] is not None
    return sums


def _conflicts(store: StoreReader, producer: str | None) -> Counter[str]:
    wanted = DeadLettersWanted(producer=producer, reason=Reason.KEY_CONFLICT)
    letters = store.dead_letters(wanted, limit=CONFLICTS_MAX)
    return Counter(letter.producer for letter in letters)


def _joined(
    producer: str, rows: list[ProducerRow], appended: Mapping[int, int], conflicts: int
) -> dict[str, Any]:
    last = max((row.last_append for row in rows), default=0)
    closed = all(row.closed for row in rows)
    log_time = max((appended.get(row.partition, 0) for row in rows), default=0)
    return {
        "producer": producer,
        "seen": sum(row.seen for row in rows),
        "counted": sum(row.counted for row in rows),
        "duplicates": sum(row.duplicates for row in rows),
        "refused": sum(row.refused for row in rows),
        "conflicts": conflicts,
        "missing_numbers": sum(missing_numbers(row) for row in rows),
        "missing": sorted(run for row in rows for run in row.missing),
        "lanes": sorted(lane for row in rows for lane in row.lanes),
        "closed": closed,
        "last_append": last or None,
        "silent_since": last if not closed and log_time >= last + SILENT_AFTER else None,
    }


def _shown(entry: dict[str, Any], zone: tzinfo, *, lanes: bool) -> dict[str, Any]:
    missing: Counter[int] = Counter()
    for lane, start, end, _ in entry["missing"]:
        missing[lane] += end - start + 1
    return entry | {
        "missing": [
            {"lane": lane, "from": start, "to": end, "since": shown_time(since, zone)}
            for lane, start, end, since in entry["missing"]
        ],
        "lanes": [
            {"lane": lane, "highest": highest, "missing_numbers": missing[lane]}
            for lane, highest in entry["lanes"]
        ]
        if lanes
        else None,
        "last_append": shown_time(entry["last_append"], zone),
        "silent_since": shown_time(entry["silent_since"], zone),
    }

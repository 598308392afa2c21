"""``GET /v1/status``: how far everything is folded, and what became of the events."""

from __future__ import annotations

from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends
from fastapi import Query as InQuery
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from meterstream_aggregator.questions import folded_until
from meterstream_schemas.quantity import format_amount
from meterstream_services.http.asking import Query, Zone, json_response, said_once, shown_time
from meterstream_services.http.parts import Parts, PartsOf
from meterstream_services.http.problems import documented
from meterstream_services.zones import find_zone

router = APIRouter(tags=["operation"], dependencies=[Depends(said_once)])

_STATUS: Final[dict[str, Any]] = {
    "now": "2026-03-01T10:12:31+00:00",
    "topic": {"topic": "meterstream.events", "topic_id": "h6tP1rRZQ7", "partitions": 1},
    "keys": "demanded",
    "catalogue": {
        "version": "0011223344556677",
        "metering_since": "2026-01-01T00:00:00+00:00",
        "meters": 4,
    },
    "folded_until": "2026-03-01T10:12:30+00:00",
    "counted": 1000,
    "duplicates": 40,
    "refused": 2,
    "awaited_voids": 0,
    "overflowing": [{"meter": "llm.tokens", "tenant": "acme", "events": 17}],
    "partitions": [
        {
            "partition": 0,
            "next_offset": 1043,
            "appended": "2026-03-01T10:12:30+00:00",
            "behind_seconds": "1",
            "epoch": 3,
            "owner": "worker-1",
            "counted": 1000,
            "duplicates": 40,
            "refused": 2,
        }
    ],
}


class StatusQuery(Query):
    """How to show times."""

    zone: Zone = "UTC"


class TopicDocument(BaseModel):
    """The topic generation that the store belongs to."""

    topic: str
    topic_id: str
    partitions: int


class CatalogueDocument(BaseModel):
    """The catalogue in force."""

    version: str
    metering_since: str
    meters: int


class OverflowDocument(BaseModel):
    """A tenant with more groups than its meter allows: these events are in the overflow series."""

    meter: str
    tenant: str
    events: int


class PartitionDocument(BaseModel):
    """How far one partition is folded, by whom. `next_offset` is null before its first event.

    `appended` is the append time that it is folded to, `behind_seconds` how long ago that is. An
    idle partition is told of the time every few seconds, so it is never far behind.
    """

    partition: int
    next_offset: int | None
    appended: str | None
    behind_seconds: str | None
    epoch: int
    owner: str
    counted: int
    duplicates: int
    refused: int


class StatusDocument(BaseModel):
    """`folded_until` is the append time that all partitions are folded to; null before."""

    model_config = ConfigDict(json_schema_extra={"example": _STATUS})

    now: str
    topic: TopicDocument | None
    keys: str = Field(description="`demanded`, or in words that anybody may do everything.")
    catalogue: CatalogueDocument
    folded_until: str | None
    counted: int
    duplicates: int
    refused: int
    awaited_voids: int = Field(description="VOIDs that came before what they take back.")
    overflowing: list[OverflowDocument]
    partitions: list[PartitionDocument]


@router.get(
    "/v1/status",
    summary="Progress of the workers",
    responses={200: {"model": StatusDocument}, **documented(422, 503)},
)
def status(query: Annotated[StatusQuery, InQuery()], parts: PartsOf) -> Response:
    """Positions, owners and counters of every partition, from the store."""
    zone = find_zone(query.zone)
    with parts.store() as store:
        catalogue, topic, positions = store.catalogue(), store.topic(), store.positions()
        awaited, overflowing = store.awaited(), store.overflowing()
    now = parts.now()
    folded = folded_until(positions, topic.partitions if topic else 0)
    return json_response(
        {
            "now": shown_time(now, zone),
            "topic": topic._asdict() if topic else None,
            "keys": _keys(parts),
            "catalogue": {
                "version": catalogue.version,
                "metering_since": shown_time(catalogue.metering_since, zone),
                "meters": len(catalogue.meters),
            },
            "folded_until": shown_time(folded or None, zone),
            "counted": sum(row.counted for row in positions),
            "duplicates": sum(row.duplicates for row in positions),
            "refused": sum(row.refused for row in positions),
            "awaited_voids": awaited,
            "overflowing": [
                {"meter": meter, "tenant": tenant, "events": events}
                for meter, tenant, events in overflowing
            ],
            "partitions": [
                {
                    "partition": row.partition,
                    "next_offset": row.next_offset if row.next_offset >= 0 else None,
                    "appended": shown_time(row.appended or None, zone),
                    "behind_seconds": format_amount(max(now - row.appended, 0), 6)
                    if row.appended
                    else None,
                    "epoch": row.epoch,
                    "owner": row.owner,
                    "counted": row.counted,
                    "duplicates": row.duplicates,
                    "refused": row.refused,
                }
                for row in positions
            ],
        }
    )


def _keys(parts: Parts) -> str:
    """Whether keys are asked for, said aloud where they are not."""
    if parts.keys is None:
        return "not looked for, anybody may do everything"
    return "none made, anybody may do everything" if parts.keys.none_made else "demanded"

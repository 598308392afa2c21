"""``GET /v1/deadletters``: what was not counted, and why."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import tzinfo
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends
from fastapi import Query as InQuery
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from meterstream_aggregator.civil import InvalidQuestion, parse_time
from meterstream_aggregator.refusals import Reason
from meterstream_aggregator.store.port import StoreReader
from meterstream_aggregator.store.told import DeadLetterRow, DeadLettersWanted
from meterstream_services.http.asking import (
    ROWS_DEFAULT,
    Limit,
    Query,
    Text,
    Zone,
    json_response,
    said_once,
    shown_time,
)
from meterstream_services.http.guarding import PrincipalOf, own_tenants
from meterstream_services.http.parts import PartsOf
from meterstream_services.http.problems import documented
from meterstream_services.zones import find_zone

router = APIRouter(tags=["operation"], dependencies=[Depends(said_once)])

_LETTER: Final[dict[str, Any]] = {
    "partition": 3,
    "offset": 123456,
    "reason": "unknown_type",
    "detail": "no meter reads the type 'api.requst'",
    "tenant": "acme",
    "type": "api.requst",
    "producer": "5f3c0f4e9b5d4c0c8f8f0a1b2c3d4e5f",
    "lane": 17,
    "sequence": 12,
    "append_time": "2026-03-01T10:12:31+00:00",
}


class DeadLettersQuery(Query):
    """Which dead letters."""

    producer: Annotated[Text | None, Field(description="Of one producer's id only.")] = None
    reason: Annotated[Text | None, Field(description="Of one reason only.")] = None
    tenant: Annotated[Text | None, Field(description="Of one tenant only.")] = None
    type: Annotated[Text | None, Field(description="Of one event type only.")] = None
    partition: Annotated[int | None, Field(ge=0, description="Of one partition only.")] = None
    since: Annotated[
        Text | None, Field(description="Appended at this ISO 8601 time or later, in `zone`.")
    ] = None
    until: Annotated[Text | None, Field(description="Appended before this time.")] = None
    zone: Zone = "UTC"
    limit: Limit = ROWS_DEFAULT


class DeadLetterDocument(BaseModel):
    """A record that was not counted: where it lies in the log, and why."""

    model_config = ConfigDict(json_schema_extra={"example": _LETTER})

    partition: int
    offset: int
    reason: str
    detail: str
    tenant: str | None
    type: str | None
    producer: str
    lane: int
    sequence: int
    append_time: str


class DeadLettersDocument(BaseModel):
    """Dead letters, the newest first."""

    deadletters: list[DeadLetterDocument]


@router.get(
    "/v1/deadletters",
    summary="Records that were not counted",
    responses={200: {"model": DeadLettersDocument}, **documented(422, 503)},
)
def deadletters(
    query: Annotated[DeadLettersQuery, InQuery()], parts: PartsOf, principal: PrincipalOf
) -> Response:
    """The newest dead letters. The original bytes are on the dead-letter topic.

    A key that is bound to tenants sees those of them; not what could not even be decoded, of which
    nobody knows the tenant.
    """
    tenants = own_tenants(principal, [] if query.tenant is None else [query.tenant])
    zone = find_zone(query.zone)
    if query.reason is not None and query.reason not in set(Reason):
        known = ", ".join(Reason)
        raise InvalidQuestion("reason", f"{query.reason[:64]!r} is no reason; there are {known}")
    wanted = DeadLettersWanted(
        producer=query.producer,
        reason=query.reason,
        type=query.type,
        partition=query.partition,
        since=_instant(query.since, zone, "since"),
        until=_instant(query.until, zone, "until"),
    )
    with parts.store() as store:
        found = _newest(store, wanted, tenants, query.limit)
    return json_response(
        {
            "deadletters": [
                row._asdict() | {"append_time": shown_time(row.append_time, zone)} for row in found
            ]
        }
    )


def _newest(
    store: StoreReader, wanted: DeadLettersWanted, tenants: Sequence[str] | None, limit: int
) -> list[DeadLetterRow]:
    if tenants is None:
        return store.dead_letters(wanted, limit=limit)
    found = [
        row
        for tenant in tenants
        for row in store.dead_letters(wanted._replace(tenant=tenant), limit=limit)
    ]
    found.sort(key=lambda row: (row.append_time, row.partition, row.offset), reverse=True)
    return found[:limit]


def _instant(text: str | None, zone: tzinfo, field: str) -> int | None:
    return None if text is None else parse_time(text, zone, field=field)

"""``GET /v1/explain``: what one figure is made of, and where the log has its events."""

from __future__ import annotations

from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends
from fastapi import Query as InQuery
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from meterstream_aggregator import explain as explaining_core
from meterstream_aggregator.civil import InvalidQuestion
from meterstream_aggregator.errors import StoreUnavailable
from meterstream_services import explaining
from meterstream_services.http.asking import Query, Text, Zone, json_response, said_once
from meterstream_services.http.guarding import PrincipalOf, own_tenants
from meterstream_services.http.parts import PartsOf
from meterstream_services.http.problems import documented
from meterstream_services.zones import find_zone

router = APIRouter(tags=["usage"], dependencies=[Depends(said_once)])

_HASH: Final = "8d1f6e6c3f0b7c6f0f3d6d0b2f2f5a11"
_NOTHING: Final[dict[str, Any]] = {"count": 0, "hash": _HASH, "first": []}
_EXAMPLE: Final[dict[str, Any]] = {
    "tenant": "acme",
    "meter": "llm.tokens",
    "unit": "token",
    "from": "2026-03-01T00:00:00+00:00",
    "to": "2026-03-01T01:00:00+00:00",
    "group": {"model": ["code"]},
    "value": "1800",
    "closing": "1800",
    "adjustment": "0",
    "events": 3,
    "average": None,
    "running": None,
    "status": "final",
    "final_at": "2026-03-02T01:00:00+00:00",
    "definitions": [],
    "windows": _NOTHING,
    "adjustments": _NOTHING,
    "items": _NOTHING,
    "figure_hash": _HASH,
    "log": {"topic": "meterstream.events", "lane": 17, "partitions": [1]},
    "producers": _NOTHING | {"segments_left_out": 0},
    "keys": _NOTHING,
    "sessions": _NOTHING,
    "hash": _HASH,
}


class ExplainQuery(Query):
    """Which figure."""

    tenant: Annotated[
        list[Text],
        Field(min_length=1, max_length=1, description="Whose figure.", examples=[["acme"]]),
    ]
    meter: Annotated[Text, Field(description="Name of the meter.", examples=["llm.tokens"])]
    start: Annotated[
        Text,
        Field(
            alias="from",
            description="First instant: ISO 8601, in `zone` unless it has an offset.",
            examples=["2023-11-16"],
        ),
    ]
    end: Annotated[
        Text, Field(alias="to", description="First instant after.", examples=["2023-11-17"])
    ]
    zone: Annotated[Zone, Field(description="IANA zone of `from` and `to`.")] = "UTC"
    group: Annotated[
        list[Text],
        Field(
            max_length=100,
            description="`NAME=VALUE` of the groups to explain. Repeatable; the same NAME twice "
            "means either.",
            examples=[["model=code"]],
        ),
    ] = Field(default_factory=list[str])
    limit: Annotated[
        int,
        Field(ge=1, le=explaining_core.LIMIT, description="Most entries shown of each list."),
    ] = 100
    events: Annotated[
        bool,
        Field(description="Refused here: the events are in the log, which this service reads not."),
    ] = False


class ListDocument(BaseModel):
    """The first entries of a list, with the count and the hash of all of them."""

    count: int
    hash: str
    first: list[dict[str, Any]]


class ExplainDocument(BaseModel):
    """What a figure is made of. Times are in UTC.

    `figure_hash` covers the figure, its definitions and its rows: it changes only with an
    adjustment. `hash` covers everything but the status.
    """

    model_config = ConfigDict(json_schema_extra={"example": _EXAMPLE})

    tenant: str
    meter: str
    unit: str
    start: str = Field(alias="from")
    end: str = Field(alias="to")
    group: dict[str, list[str]]
    value: str | None
    closing: str | None
    adjustment: str | None
    events: int
    average: str | None
    running: str | None
    status: str
    final_at: str
    definitions: list[dict[str, Any]]
    windows: ListDocument
    adjustments: ListDocument
    items: ListDocument
    figure_hash: str
    log: dict[str, Any]
    producers: dict[str, Any] | None
    keys: ListDocument
    sessions: ListDocument
    hash: str


@router.get(
    "/v1/explain",
    summary="What one figure is made of",
    responses={200: {"model": ExplainDocument}, **documented(404, 422, 503)},
)
def explain(
    query: Annotated[ExplainQuery, InQuery()], parts: PartsOf, principal: PrincipalOf
) -> Response:
    """A figure's rows, rules, producers and positions in the log, with a hash over all of it.

    A key that is bound to tenants gets no producers and no places in the log: those are other
    tenants' as well.
    """
    own_tenants(principal, query.tenant)
    if query.events:
        raise InvalidQuestion(
            "events",
            "are in the log, which this service does not read; run `meterstream explain --events` "
            "where the store's file and Kafka can be reached",
        )
    with parts.store() as store:
        asked = explaining.asked_of(
            store,
            tenant=query.tenant[0],
            meter=query.meter,
            start=query.start,
            end=query.end,
            zone=find_zone(query.zone),
            group=query.group,
        )
        found = explaining_core.explain(store, asked, now=parts.now())
    if found is None:
        raise StoreUnavailable("no worker has bound this store yet; start one")
    document = explaining.document(found, limit=query.limit)
    if principal.tenants is not None:
        document |= {"producers": None, "log": {"topic": document["log"]["topic"]}}
    return json_response(document)

"""``GET /v1/adjustments``: what came after its window had closed, and what it changed."""

from __future__ import annotations

from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends
from fastapi import Query as InQuery
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from meterstream_aggregator.answering import adjustments as adjustments_of
from meterstream_aggregator.civil import parse_time
from meterstream_aggregator.merging import EVER
from meterstream_services.http.asking import Text, json_response, said_once, shown_time
from meterstream_services.http.guarding import PrincipalOf
from meterstream_services.http.meter_question import MeterQuery, accounts_of, decimal, put
from meterstream_services.http.parts import PartsOf
from meterstream_services.http.problems import documented

router = APIRouter(tags=["usage"], dependencies=[Depends(said_once)])

_ROW: Final[dict[str, Any]] = {
    "from": "2026-01-01T00:00:00+00:00",
    "to": "2026-02-01T00:00:00+00:00",
    "tenant": "acme",
    "account": "a1",
    "group": {},
    "arrived_from": "2026-02-07T09:15:00+00:00",
    "arrived_until": "2026-02-07T09:30:00+00:00",
    "amount": "-24",
    "events": 2,
}
_ANSWER: Final[dict[str, Any]] = {
    "meter": "llm.tokens",
    "unit": "token",
    "from": "2026-01-01T00:00:00+00:00",
    "to": "2026-02-01T00:00:00+00:00",
    "every": "1mo",
    "zone": "UTC",
    "rows": [_ROW],
}


class AdjustmentsQuery(MeterQuery):
    """Which periods' adjustments, and when they arrived."""

    arrived_from: Annotated[
        Text | None, Field(description="Those that arrived here or later: ISO 8601, append time.")
    ] = None
    arrived_until: Annotated[Text | None, Field(description="Those that arrived before.")] = None


class AdjustmentDocument(BaseModel):
    """What one arrival changed about one figure."""

    model_config = ConfigDict(json_schema_extra={"example": _ROW})

    start: str = Field(alias="from", description="The period that it belongs to.")
    end: str = Field(alias="to")
    tenant: str | None
    account: str | None
    group: dict[str, str]
    arrived_from: str | None = Field(
        description="It came in [`arrived_from`, `arrived_until`), in append time. Null: seconds "
        "of sessions that still run, in windows that closed; they have not arrived yet."
    )
    arrived_until: str | None
    amount: str = Field(description="What the figure changed by, all that came before known.")
    events: int


class AdjustmentsDocument(BaseModel):
    """Adjustments by period, tenant, group and arrival. Closing figure + adjustments = total."""

    model_config = ConfigDict(json_schema_extra={"example": _ANSWER})

    meter: str
    unit: str
    start: str = Field(alias="from")
    end: str = Field(alias="to")
    every: str
    zone: str
    rows: list[AdjustmentDocument]


@router.get(
    "/v1/adjustments",
    summary="What came after the close",
    responses={200: {"model": AdjustmentsDocument}, **documented(404, 422, 503)},
)
def adjustments(
    query: Annotated[AdjustmentsQuery, InQuery()], parts: PartsOf, principal: PrincipalOf
) -> Response:
    """The ledger of what came late: to which period it belongs, when it came, what it changed."""
    with parts.store() as store:
        asked = put(query, parts, store, principal)
        since, until = (
            default if text is None else parse_time(text, asked.zone, field=field)
            for field, text, default in (
                ("arrived_from", query.arrived_from, 0),
                ("arrived_until", query.arrived_until, EVER),
            )
        )
        found = adjustments_of(
            store,
            asked.question,
            scope=asked.scope,
            now=asked.as_of.now,
            arrived_from=since,
            arrived_until=until,
            running=asked.running,
        )
    places = [(one.tenant, one.start, one.end - 1) for one in found]
    accounts = accounts_of(places, query.account, parts)
    return json_response(
        asked.header(query)
        | {
            "rows": [
                {
                    "from": asked.times[one.start],
                    "to": asked.times[one.end],
                    "tenant": one.tenant,
                    "account": account,
                    "group": dict(zip(asked.question.by, one.group, strict=True)),
                    "arrived_from": shown_time(one.arrived_from, asked.zone),
                    "arrived_until": shown_time(one.arrived_until, asked.zone),
                    "amount": decimal(one.amount),
                    "events": one.events,
                }
                for one, account in zip(found, accounts, strict=True)
            ],
        }
    )

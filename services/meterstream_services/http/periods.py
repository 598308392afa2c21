"""``GET /v1/periods``: closing figures, when they close, and what was adjusted since."""

from __future__ import annotations

from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends
from fastapi import Query as InQuery
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from meterstream_aggregator.answering import figures
from meterstream_services.http.asking import json_response, said_once, shown_time
from meterstream_services.http.guarding import PrincipalOf
from meterstream_services.http.meter_question import (
    MeterQuery,
    accounts_of,
    decimal,
    place_of,
    put,
)
from meterstream_services.http.parts import PartsOf
from meterstream_services.http.problems import documented

router = APIRouter(tags=["usage"], dependencies=[Depends(said_once)])

_ROW: Final[dict[str, Any]] = {
    "from": "2026-01-31T00:00:00+01:00",
    "to": "2026-02-28T00:00:00+01:00",
    "tenant": "acme",
    "account": "a1",
    "group": {},
    "status": "final",
    "final_at": "2026-03-01T00:00:00+01:00",
    "closing": "18059974",
    "adjustments": "-24",
    "value": "18059950",
    "events": 8819,
}
_ANSWER: Final[dict[str, Any]] = {
    "meter": "llm.tokens",
    "unit": "token",
    "from": "2026-01-31T00:00:00+01:00",
    "to": "2026-02-28T00:00:00+01:00",
    "every": "billing",
    "zone": "Europe/Berlin",
    "folded_until": "2026-03-02T10:12:30+01:00",
    "rows": [_ROW],
}


class PeriodRowDocument(BaseModel):
    """One period of one tenant and group. Once `final`, `closing` never changes."""

    model_config = ConfigDict(json_schema_extra={"example": _ROW})

    start: str = Field(alias="from")
    end: str = Field(alias="to")
    tenant: str | None = Field(description="Null in totals over tenants.")
    account: str | None
    group: dict[str, str]
    status: str = Field(description="`open`, `closing` or `final`.")
    final_at: str = Field(
        description="The append time that every partition must be folded to for it to be final."
    )
    closing: str | None
    adjustments: str | None = Field(description="The sum of what `/v1/adjustments` lists of it.")
    value: str | None = Field(description="`closing` and `adjustments` together.")
    events: int


class PeriodsDocument(BaseModel):
    """Closing figures. `folded_until` is the append time that all partitions are folded to."""

    model_config = ConfigDict(json_schema_extra={"example": _ANSWER})

    meter: str
    unit: str
    start: str = Field(alias="from")
    end: str = Field(alias="to")
    every: str
    zone: str
    folded_until: str | None
    rows: list[PeriodRowDocument]


@router.get(
    "/v1/periods",
    summary="Closing figures",
    responses={200: {"model": PeriodsDocument}, **documented(404, 422, 503)},
)
def periods(
    query: Annotated[MeterQuery, InQuery()], parts: PartsOf, principal: PrincipalOf
) -> Response:
    """The closing figure of every period, whether it is final, and its adjustments so far."""
    with parts.store() as store:
        asked = put(query, parts, store, principal)
        found = figures(
            store,
            asked.question,
            scope=asked.scope,
            progress=asked.as_of.progress,
            now=asked.as_of.now,
            running=asked.running,
        )
    accounts = accounts_of([place_of(figure) for figure in found], query.account, parts)
    return json_response(
        asked.header(query)
        | {
            "folded_until": shown_time(asked.as_of.progress or None, asked.zone),
            "rows": [
                {
                    "from": asked.times[figure.start],
                    "to": asked.times[figure.end],
                    "tenant": figure.tenant,
                    "account": account,
                    "group": dict(zip(asked.question.by, figure.group, strict=True)),
                    "status": figure.status.value,
                    "final_at": shown_time(figure.final_at, asked.zone),
                    "closing": decimal(figure.closing),
                    "adjustments": decimal(figure.adjustment),
                    "value": decimal(figure.total),
                    "events": figure.events,
                }
                for figure, account in zip(found, accounts, strict=True)
            ],
        }
    )

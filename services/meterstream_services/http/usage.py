"""``GET /v1/usage``: what was used, by whom, when."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends
from fastapi import Query as InQuery
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from meterstream_aggregator.answering import GAUGES, figures
from meterstream_aggregator.catalogue import Aggregate
from meterstream_aggregator.civil import InvalidQuestion
from meterstream_aggregator.peaks import Peak, Place, peaks_of
from meterstream_aggregator.questions import Figure
from meterstream_aggregator.store.port import StoreReader
from meterstream_services.http.asking import json_response, said_once, shown_time
from meterstream_services.http.guarding import PrincipalOf
from meterstream_services.http.meter_question import (
    MeterQuery,
    Put,
    accounts_of,
    decimal,
    place_of,
    put,
)
from meterstream_services.http.parts import PartsOf
from meterstream_services.http.problems import documented

router = APIRouter(tags=["usage"], dependencies=[Depends(said_once)])

_ROW: Final[dict[str, Any]] = {
    "from": "2023-11-16T00:00:00+00:00",
    "to": "2023-11-17T00:00:00+00:00",
    "tenant": "acme",
    "account": None,
    "group": {"model": "code"},
    "value": "18059974",
    "events": 8819,
    "closing": "18059974",
    "adjustment": "0",
    "status": "final",
}
_ANSWER: Final[dict[str, Any]] = {
    "meter": "llm.tokens",
    "unit": "token",
    "from": "2023-11-16T00:00:00+00:00",
    "to": "2023-11-17T00:00:00+00:00",
    "every": "1d",
    "zone": "UTC",
    "rows": [_ROW],
}


class UsageQuery(MeterQuery):
    """What to ask of a meter, and what beside the figures."""

    peak: Annotated[
        bool,
        Field(
            description="Of session meters: the greatest number of sessions at one time, and when "
            "it was first reached."
        ),
    ] = False


class UsageRowDocument(BaseModel):
    """One figure: `value` is always `closing` and `adjustment` together."""

    model_config = ConfigDict(json_schema_extra={"example": _ROW})

    start: str = Field(alias="from")
    end: str = Field(alias="to")
    tenant: str | None = Field(description="Null in totals over tenants.")
    account: str | None = Field(
        description="The one account that the tenant belonged to throughout; null where it "
        "belonged to none or to several, or accounts cannot be read."
    )
    group: dict[str, str]
    value: str | None = Field(
        description="Exact decimal. Null: no smallest or greatest of nothing."
    )
    events: int
    closing: str | None
    adjustment: str | None
    status: str = Field(description="`open`, `closing` or `final`.")
    average: str | None = Field(
        default=None,
        description="Of time-weighted meters: the mean level, over the time in which one is known.",
    )
    running: str | None = Field(
        default=None,
        description="Of session meters: seconds in `value` of sessions that still run.",
    )
    peak: int | None = Field(
        default=None, description="With `peak=true`: the greatest number of sessions at one time."
    )
    peak_at: str | None = Field(default=None, description="When `peak` was first reached.")
    unit: str | None = Field(
        default=None, description="Only where the meter's unit changed within the time asked for."
    )


class UsageDocument(BaseModel):
    """The answer to a question about usage."""

    model_config = ConfigDict(json_schema_extra={"example": _ANSWER})

    meter: str
    unit: str
    start: str = Field(alias="from")
    end: str = Field(alias="to")
    every: str
    zone: str
    rows: list[UsageRowDocument]


@router.get(
    "/v1/usage",
    summary="Usage by period, tenant and group",
    responses={200: {"model": UsageDocument}, **documented(404, 422, 503)},
)
def usage(
    query: Annotated[UsageQuery, InQuery()], parts: PartsOf, principal: PrincipalOf
) -> Response:
    """Usage of a meter, merged exactly into periods of any zone. Rows are sorted."""
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
        peaks = _peaks(query, store, asked)
    accounts = accounts_of([place_of(figure) for figure in found], query.account, parts)
    units = {stretch.meters[-1].unit for stretch in asked.question.stretches}
    return json_response(
        asked.header(query)
        | {
            "rows": [
                usage_row(figure, account, asked)
                | ({"unit": figure.unit} if len(units) > 1 else {})
                | _peak_row(peaks, figure, asked)
                for figure, account in zip(found, accounts, strict=True)
            ],
        }
    )


def usage_row(figure: Figure, account: str | None, asked: Put) -> dict[str, Any]:
    """One figure; what means nothing for its meter is left out."""
    value = decimal(figure.total)
    row: dict[str, Any] = {
        "from": asked.times[figure.start],
        "to": asked.times[figure.end],
        "tenant": figure.tenant,
        "account": account,
        "group": dict(zip(asked.question.by, figure.group, strict=True)),
        "value": value,
        "events": figure.events,
        "closing": value if figure.closing is figure.total else decimal(figure.closing),
        "adjustment": decimal(figure.adjustment),
        "status": figure.status.value,
    }
    if figure.aggregate in GAUGES:
        row["average"] = decimal(figure.average)
    elif figure.aggregate is Aggregate.SESSION:
        row["running"] = decimal(figure.running)
    return row


def _peaks(query: UsageQuery, store: StoreReader, asked: Put) -> Mapping[Place, Peak] | None:
    if not query.peak:
        return None
    if any(stretch.aggregate is not Aggregate.SESSION for stretch in asked.question.stretches):
        raise InvalidQuestion("peak", f"{asked.meter.name} does not measure sessions")
    return peaks_of(store, asked.question, scope=asked.scope, as_of=asked.as_of)


def _peak_row(peaks: Mapping[Place, Peak] | None, figure: Figure, asked: Put) -> dict[str, Any]:
    if peaks is None:
        return {}
    peak = peaks.get((figure.start, figure.tenant, figure.group), Peak(0, None))
    return {"peak": peak.sessions, "peak_at": shown_time(peak.at, asked.zone)}

"""``GET /v1/usage``: what was used, by whom, when."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends
from fastapi import Query as InQuery
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from meterstream_aggregator.catalogue import Meter
from meterstream_aggregator.civil import InvalidQuestion, format_time, parse_time
from meterstream_aggregator.periods import period_bounds
from meterstream_aggregator.questions import Figure, answer, ask, folded_until
from meterstream_aggregator.store.port import StoreReader, UsageRow
from meterstream_schemas.quantity import Amount, format_amount
from meterstream_services.accounts.errors import AccountsUnavailable
from meterstream_services.accounts.history import History, account_at, sole_account
from meterstream_services.accounts.port import Directory
from meterstream_services.http.asking import Query, Text, Zone, json_response, said_once
from meterstream_services.http.parts import Parts, PartsOf
from meterstream_services.http.problems import Problem, documented
from meterstream_services.zones import find_zone

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


class UsageQuery(Query):
    """What to ask of a meter."""

    meter: Annotated[Text, Field(description="Name of the meter.", examples=["llm.tokens"])]
    start: Annotated[
        Text,
        Field(
            alias="from",
            description="First instant: ISO 8601, in `zone` unless it has an offset. A local time "
            "that clocks show twice means the first; one that they skip, the first after it.",
            examples=["2023-11-16"],
        ),
    ]
    end: Annotated[
        Text, Field(alias="to", description="First instant after.", examples=["2023-11-17"])
    ]
    every: Annotated[
        Text,
        Field(
            description="Length of the periods: `15m`, `1h`, `1d`, `1w` (ISO weeks), `1mo`, `1q`, "
            "`1y`, multiples of them, or `total`. Days, weeks and months begin at local midnight.",
            examples=["1d"],
        ),
    ] = "total"
    zone: Zone = "UTC"
    tenant: Annotated[
        list[Text], Field(max_length=1000, description="Of these tenants only. Repeatable.")
    ] = Field(default_factory=list[str])
    account: Annotated[
        Text | None,
        Field(
            description="Of the tenants that belonged to this account, each for the windows that "
            "began while it did."
        ),
    ] = None
    by: Annotated[
        list[Text],
        Field(max_length=8, description="Keep figures apart by this attribute. Repeatable."),
    ] = Field(default_factory=list[str])
    where: Annotated[
        list[Text],
        Field(
            max_length=100,
            description="`NAME=VALUE` to keep. Repeatable; the same NAME twice means either.",
            examples=[["model=code"]],
        ),
    ] = Field(default_factory=list[str])
    total: Annotated[
        bool,
        Field(
            description="One figure over all tenants (`tenant` is null). Without `by`, periods "
            "without usage are shown too; otherwise rows are only where something was used."
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
def usage(query: Annotated[UsageQuery, InQuery()], parts: PartsOf) -> Response:
    """Usage of a meter, merged exactly into periods of any zone. Rows are sorted."""
    zone = find_zone(query.zone)
    start = parse_time(query.start, zone, field="from")
    end = parse_time(query.end, zone, field="to")
    with parts.store() as store:
        catalogue = store.catalogue()
        meter = catalogue.meter(query.meter)
        bounds = period_bounds(start, end, query.every, zone, window=meter.window)
        question = ask(meter, bounds, by=query.by, where=conditions(query.where), total=query.total)
        topic = store.topic()
        figures = answer(
            question,
            _rows(query, parts.directory, store, meter, (start, end)),
            metering_since=catalogue.metering_since,
            progress=folded_until(store.positions(), topic.partitions if topic else 0),
            now=parts.now(),
        )
    accounts = _accounts(query, figures, parts)
    times = {bound: format_time(bound, zone) for bound in bounds}
    return json_response(
        {
            "meter": meter.name,
            "unit": meter.unit,
            "from": times[start],
            "to": times[end],
            "every": query.every,
            "zone": query.zone,
            "rows": [
                {
                    "from": times[figure.start],
                    "to": times[figure.end],
                    "tenant": figure.tenant,
                    "account": account,
                    "group": dict(zip(question.by, figure.group, strict=True)),
                    "value": _decimal(figure.total),
                    "events": figure.events,
                    "closing": _decimal(figure.closing),
                    "adjustment": _decimal(figure.adjustment),
                    "status": figure.status.value,
                }
                for figure, account in zip(figures, accounts, strict=True)
            ],
        }
    )


def conditions(where: Sequence[str]) -> Mapping[str, list[str]]:
    """``NAME=VALUE`` texts by name. Raises `InvalidQuestion` for one without ``=``."""
    found: dict[str, list[str]] = {}
    for condition in where:
        name, equals, value = condition.partition("=")
        if not equals or not name:
            raise InvalidQuestion("where", f"{condition[:64]!r} is no condition; write NAME=VALUE")
        found.setdefault(name, []).append(value)
    return found


def _rows(
    query: UsageQuery,
    directory: Directory,
    store: StoreReader,
    meter: Meter,
    span: tuple[int, int],
) -> Iterator[UsageRow]:
    start, end = span
    asked = list(dict.fromkeys(query.tenant)) or None
    if query.account is None:
        return store.usage(meter, tenants=asked, start=start, end=end)
    if directory.account(query.account) is None:
        raise Problem(404, "unknown-account", f"there is no account {query.account[:128]!r}")
    members = directory.tenants_of(query.account)
    if asked is not None:
        members = [tenant for tenant in members if tenant in asked]
    histories = directory.histories(members)
    rows = store.usage(meter, tenants=members, start=start, end=end)
    return (row for row in rows if _belongs(histories, row, query.account))


def _belongs(histories: Mapping[str, History], row: UsageRow, account: str | None) -> bool:
    return account_at(histories.get(row.tenant, ()), row.start) == account


def _accounts(query: UsageQuery, figures: Sequence[Figure], parts: Parts) -> list[str | None]:
    """The account of each figure. Usage is answered without when accounts cannot be read."""
    if query.account is not None:
        return [query.account] * len(figures)
    tenants = sorted({figure.tenant for figure in figures if figure.tenant is not None})
    try:
        histories = parts.directory.histories(tenants) if tenants else {}
    except AccountsUnavailable:
        parts.metrics.accounts_failures.inc()
        histories = {}
    return [
        None
        if figure.tenant not in histories or figure.first is None or figure.last is None
        else sole_account(histories[figure.tenant], figure.first, figure.last)
        for figure in figures
    ]


def _decimal(amount: Amount | None) -> str | None:
    return None if amount is None else format_amount(*amount)

"""What StripeMeter's clients ask: usage of a month, what it costs, its history, prices.

Figures are those of `/v1/usage`, exact, each metric by the aggregation that it is charged by; a
metric without a mapping is summed up and costs nothing. Days of a period are UTC and all belong.
"""

from __future__ import annotations

from collections import defaultdict
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from functools import reduce
from typing import Annotated, Any, Final, NamedTuple

from fastapi import APIRouter, Query
from starlette.exceptions import HTTPException
from starlette.responses import Response

from meterstream.compat.ledger import EXACT
from meterstream_aggregator.questions import folded_until
from meterstream_services.clients.asking import Row, usage
from meterstream_services.clients.exact_json import exact_response
from meterstream_services.clients.operating import need_operator
from meterstream_services.clients.shaped_routes import ObjectOf, need, shaped
from meterstream_services.clients.stripemeter.customers import tenant_of
from meterstream_services.clients.stripemeter.errors import error
from meterstream_services.clients.stripemeter.events import ACCOUNT_MAX, CUSTOMER_MAX, first_of
from meterstream_services.clients.stripemeter.prices import (
    AGGREGATIONS,
    Price,
    prices_of,
    set_price,
    shown,
)
from meterstream_services.http.guarding import PrincipalOf, foreign_tenant
from meterstream_services.http.parts import Parts, PartsOf
from meterstream_services.keys.principal import Principal, Scope

router = APIRouter(include_in_schema=False, route_class=shaped(error))

DAYS_MAX: Final = 366
MONTHS_MAX: Final = 60
_STEPS: Final = {"day": ("1d", DAYS_MAX), "month": ("1mo", MONTHS_MAX * 31)}
_DAY: Final = timedelta(days=1)
Text = Annotated[str | None, Query(max_length=CUSTOMER_MAX)]


class _Asked(NamedTuple):
    """Whose usage: a customer's, as far as an account of the vendor's metered it."""

    account: str
    customer: str
    prices: dict[str, Price]


@router.get("/v1/usage/current")
def current(
    *,
    parts: PartsOf,
    principal: PrincipalOf,
    tenantId: Text = None,  # noqa: N803 - the wire's name
    customerRef: Text = None,  # noqa: N803 - the wire's name
) -> Response:
    """A customer's usage in the present month, metric by metric, and what is at its limit."""
    asked = _asked(parts, principal, tenantId, customerRef)
    start, after = _month(_today(parts))
    figures = _figures(parts, asked, start, after)
    metrics: list[dict[str, Any]] = []
    alerts: list[dict[str, str]] = []
    for metric, figure in figures.items():
        price = asked.prices.get(metric, Price())
        entry: dict[str, Any] = {"name": metric, "current": figure, "unit": price.unit}
        if price.limit is not None:
            entry["limit"] = price.limit
            if figure >= price.limit:
                message = f"{metric} is at {figure:f} of {price.limit:f}"
                alerts.append({"type": "limit", "message": message, "severity": "critical"})
        metrics.append(entry)
    period = {"start": start.isoformat(), "end": (after - _DAY).isoformat()}
    return exact_response(
        {"customerRef": asked.customer, "period": period, "metrics": metrics, "alerts": alerts}
    )


@router.post("/v1/usage/projection")
def projection(body: ObjectOf, parts: PartsOf, principal: PrincipalOf) -> Response:
    """What a customer's usage of a period costs so far; the present month unless it is told."""
    asked = _asked(
        parts,
        principal,
        first_of(body, "tenantId", "tenant_id"),
        first_of(body, "customerRef", "customer_ref"),
    )
    start, after = _period(
        parts,
        first_of(body, "periodStart", "period_start"),
        first_of(body, "periodEnd", "period_end"),
    )
    figures = _figures(parts, asked, start, after)
    prices = {metric: asked.prices.get(metric, Price()) for metric in figures}
    totals = {
        metric: EXACT.multiply(figure, prices[metric].unit_price)
        for metric, figure in figures.items()
    }
    items = [
        {
            "metric": metric,
            "quantity": figure,
            "unitPrice": prices[metric].unit_price,
            "total": totals[metric],
        }
        for metric, figure in figures.items()
    ]
    # What costs nothing has no currency, whatever it says.
    currencies = {price.currency for price in prices.values() if price.unit_price} or {"USD"}
    if len(currencies) > 1:
        raise HTTPException(400, f"prices in {' and '.join(sorted(currencies))} have no total")
    subtotal = reduce(EXACT.add, totals.values(), Decimal(0))
    return exact_response(
        {
            "customerRef": asked.customer,
            "periodStart": start.isoformat(),
            "periodEnd": (after - _DAY).isoformat(),
            "lineItems": items,
            "subtotal": subtotal,
            "credits": 0,
            "total": subtotal,
            "currency": currencies.pop(),
            "freshness": _freshness(parts),
        }
    )


@router.get("/v1/usage/history")
def history(
    *,
    parts: PartsOf,
    principal: PrincipalOf,
    tenantId: Text = None,  # noqa: N803 - the wire's name
    customerRef: Text = None,  # noqa: N803 - the wire's name
    metric: Text = None,
    step: Text = "day",
    periodStart: Text = None,  # noqa: N803 - the wire's name
    periodEnd: Text = None,  # noqa: N803 - the wire's name
) -> Response:
    """A customer's usage by days or months, metric by metric; only where something was used."""
    asked = _asked(parts, principal, tenantId, customerRef)
    if step not in _STEPS:
        raise HTTPException(400, "step: is neither day nor month")
    every, days_max = _STEPS[step]
    start, after = _period(parts, periodStart, periodEnd)
    if step == "month":
        start, after = _month(start)[0], _month(after - _DAY)[1]
    if (after - start).days > days_max:
        raise HTTPException(400, f"periodEnd: is more than {days_max} days after periodStart")
    by_metric: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in _rows(parts, asked, start, after, every):
        name = row.group["metric"]
        if metric in (None, name) and row.value is not None:
            by_metric[name].append({"period": _day_of(row.start), "quantity": row.value})
    return exact_response(
        {
            "customerRef": asked.customer,
            "step": step,
            "periodStart": start.isoformat(),
            "periodEnd": (after - _DAY).isoformat(),
            "metrics": [
                {
                    "name": name,
                    "aggregation": asked.prices.get(name, Price()).aggregation,
                    "usage": sorted(points, key=lambda point: point["period"]),
                }
                for name, points in sorted(by_metric.items())
            ],
        }
    )


@router.get("/v1/mappings")
def mappings(parts: PartsOf, principal: PrincipalOf, tenantId: Text = None) -> Response:  # noqa: N803 - the wire's name
    """What the metrics of an account cost and how they are counted.

    Customers see what they use priced in their usage. The list as a whole is the account's: a key
    that is bound has to be bound to its name too.
    """
    need(principal, Scope.READ)
    account = _text(tenantId, "tenantId", ACCOUNT_MAX)
    if not principal.may_use(account):
        raise foreign_tenant(account)
    found = prices_of(parts.book, account)
    rows = [{"metric": metric, **shown(price)} for metric, price in sorted(found.items())]
    return exact_response({"tenantId": account, "mappings": rows})


@router.post("/v1/mappings")
def map_metric(body: ObjectOf, parts: PartsOf, principal: PrincipalOf) -> Response:
    """Say what a metric costs, how it is counted, and its limit a month."""
    need_operator(principal)
    account = _text(body.get("tenantId"), "tenantId", ACCOUNT_MAX)
    return exact_response(set_price(parts.book, account, body), 201)


def _asked(parts: Parts, principal: Principal, account: object, customer: object) -> _Asked:
    """Whose usage is asked for. Raises where the key is not for it."""
    need(principal, Scope.READ)
    name = _text(customer, "customerRef", CUSTOMER_MAX)
    if not principal.may_use(tenant_of(name)):
        raise foreign_tenant(name)
    vendor = _text(account, "tenantId", ACCOUNT_MAX)
    return _Asked(vendor, name, prices_of(parts.book, vendor))


def _text(value: object, name: str, most: int) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= most:
        raise HTTPException(400, f"{name}: is no text of 1 to {most} characters")
    return value


def _figures(parts: Parts, asked: _Asked, start: date, after: date) -> dict[str, Decimal]:
    """Each metric's figure, by name."""
    rows = _rows(parts, asked, start, after, "total")
    figures = {row.group["metric"]: row.value for row in rows}
    return {metric: figures[metric] or Decimal(0) for metric in sorted(figures)}


def _rows(parts: Parts, asked: _Asked, start: date, after: date, every: str) -> list[Row]:
    """Rows of all metrics, each by its own aggregation."""
    chosen = {metric: price.aggregation for metric, price in asked.prices.items()}
    wanted = {"sum", *chosen.values()}
    return [
        row
        for aggregation in AGGREGATIONS
        if aggregation in wanted
        for row in usage(
            parts,
            f"stripemeter.{aggregation}",
            _midnight(start),
            _midnight(after),
            tenants=[tenant_of(asked.customer)],
            by=["metric"],
            where=[f"account={asked.account}"],
            every=every,
        )
        if chosen.get(row.group["metric"], "sum") == aggregation
    ]


def _freshness(parts: Parts) -> dict[str, Any]:
    """Up to which time of the log everything is counted, and its age in seconds."""
    with parts.store() as store:
        topic = store.topic()
        until = folded_until(store.positions(), topic.partitions) if topic else 0
    age = max(parts.now() - until, 0) // 1_000_000
    told = datetime.fromtimestamp(until // 1_000_000, UTC).isoformat().replace("+00:00", "Z")
    return {"lastUpdate": told, "staleness": age}


def _period(parts: Parts, start: object, end: object) -> tuple[date, date]:
    """The first day of a period, and the first day after it."""
    month_start, month_after = _month(_today(parts))
    first = _day(start, "periodStart") or month_start
    last = _day(end, "periodEnd") or max(month_after - _DAY, first)
    if last < first:
        raise HTTPException(400, f"periodEnd: {last} is before {first}")
    return first, last + _DAY


def _day(told: object, name: str) -> date | None:
    """A day of ISO text: of a date, or of a time in its own zone."""
    if told is None:
        return None
    try:
        found = datetime.fromisoformat(told).date() if isinstance(told, str) else None
    except ValueError:
        found = None
    if found is None or not 1970 <= found.year < 9999:
        raise HTTPException(400, f"{name}: is no ISO 8601 date; send one such as 2026-11-01")
    return found


def _month(day: date) -> tuple[date, date]:
    start = day.replace(day=1)
    return start, (start + 32 * _DAY).replace(day=1)


def _today(parts: Parts) -> date:
    return datetime.fromtimestamp(parts.now() // 1_000_000, UTC).date()


def _midnight(day: date) -> int:
    return int(datetime.combine(day, time(), UTC).timestamp()) * 1_000_000


def _day_of(instant: int) -> str:
    return datetime.fromtimestamp(instant // 1_000_000, UTC).date().isoformat()

"""StripeMeter's questions, put to the usage API.

Every metric is a group of three meters of the ready catalogue ``stripemeter``: ``stripemeter.sum``,
``stripemeter.max`` and ``stripemeter.last``. Which of them a metric is charged by, at what price
and up to what limit, is declared with `declare_price`; undeclared ones are sums that cost nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from functools import reduce
from typing import Final, Literal, NamedTuple, get_args

from meterstream.compat import wiring
from meterstream.compat.ledger import EXACT
from meterstream.compat.plain import shown
from meterstream.compat.stripemeter_values import (
    Alert,
    Freshness,
    LineItem,
    MetricUsage,
    Period,
    ProjectionResponse,
    StripeMeterError,
    UsageResponse,
)
from meterstream.compat.usage_api import Json, UsageRefused, UsageUnavailable

Aggregation = Literal["sum", "max", "last"]
PRICE: Final = "stripemeter.price"
_NO_METER: Final = 404


class Price(NamedTuple):
    """What was declared for a metric."""

    unit_price: Decimal = Decimal(0)
    aggregation: Aggregation = "sum"
    currency: str = "USD"
    unit: str | None = None
    limit: Decimal | None = None


def declare_price(
    metric: str,
    unit_price: Decimal | int | str,
    *,
    aggregation: Aggregation = "sum",
    currency: str = "USD",
    unit: str | None = None,
    limit: Decimal | int | str | None = None,
) -> None:
    """Say what a metric costs, how it is charged, and its limit a month. Blocks on the disk."""
    if aggregation not in get_args(Aggregation):
        raise ValueError(f"aggregation: {aggregation!r} is none of {get_args(Aggregation)}")
    definition = {
        "unit_price": format(Decimal(unit_price), "f"),
        "aggregation": aggregation,
        "currency": currency,
        "unit": unit,
        "limit": None if limit is None else format(Decimal(limit), "f"),
    }
    wiring.definitions().put(PRICE, metric, definition)


def usage_of(account: str, customer: str) -> UsageResponse:
    """What a customer used in the present month, UTC, metric by metric in their order."""
    start, after = _month(datetime.now(UTC).date())
    figures, _ = _figures(account, customer, start, after)
    prices = {metric: _price(metric) for metric in figures}
    return UsageResponse(
        customer_ref=customer,
        period=Period(start, after - timedelta(days=1)),
        metrics=tuple(
            MetricUsage(metric, figure, prices[metric].limit, prices[metric].unit)
            for metric, figure in figures.items()
        ),
        alerts=tuple(
            Alert("limit", f"{metric} is at {figure} of {prices[metric].limit}", "critical")
            for metric, figure in figures.items()
            if (limit := prices[metric].limit) is not None and figure >= limit
        ),
    )


def projection_of(
    account: str,
    customer: str,
    period_start: date | str | None,
    period_end: date | str | None,
) -> ProjectionResponse:
    """What a customer's usage of a period costs so far; the present month, UTC, unless given.

    Both days belong to the period.
    """
    month_start, month_after = _month(datetime.now(UTC).date())
    start = _day(period_start, "period_start") or month_start
    last = _day(period_end, "period_end") or month_after - timedelta(days=1)
    if last < start:
        raise StripeMeterError(f"period_end: {last} is before {start}", 400)
    figures, folded_until = _figures(account, customer, start, last + timedelta(days=1))
    prices = {metric: _price(metric) for metric in figures}
    items = tuple(
        LineItem(metric, figure, price := prices[metric].unit_price, EXACT.multiply(figure, price))
        for metric, figure in figures.items()
    )
    subtotal = reduce(EXACT.add, (item.total for item in items), Decimal(0))
    currencies = sorted({price.currency for price in prices.values()}) or ["USD"]
    if len(currencies) > 1:
        raise StripeMeterError(f"prices in {' and '.join(currencies)} have no common total", 400)
    age = 0 if folded_until is None else int((datetime.now(UTC) - folded_until).total_seconds())
    return ProjectionResponse(
        customer_ref=customer,
        period_start=start,
        period_end=last,
        line_items=items,
        subtotal=subtotal,
        credits=Decimal(0),
        total=subtotal,
        currency=currencies[0],
        freshness=Freshness(folded_until, max(0, age)),
    )


def _figures(
    account: str, customer: str, start: date, after: date
) -> tuple[Mapping[str, Decimal], datetime | None]:
    """Each metric's figure by its declared aggregation, and the log's time that is counted."""
    metered = wiring.definitions().all(PRICE)
    chosen = {metric: str(told.get("aggregation", "sum")) for metric, told in metered.items()}
    figures: dict[str, Decimal] = {}
    folded_until: datetime | None = None
    for aggregation in ("sum", *sorted(set(chosen.values()) - {"sum"})):
        answer = _ask(f"stripemeter.{aggregation}", account, customer, start, after)
        told_until = answer.get("folded_until")
        if told_until:
            folded_until = datetime.fromisoformat(told_until)
        for row in answer["rows"]:
            metric = row["group"]["metric"]
            if chosen.get(metric, "sum") == aggregation and row["value"] is not None:
                figures[metric] = Decimal(row["value"])
    return dict(sorted(figures.items())), folded_until


def _ask(meter: str, account: str, customer: str, start: date, after: date) -> Json:
    parameters: Sequence[tuple[str, str]] = [
        ("meter", meter),
        ("from", _midnight(start)),
        ("to", _midnight(after)),
        ("tenant", customer),
        ("by", "metric"),
        *([("where", f"account={account}")] if account else []),
    ]
    try:
        return wiring.usage().get("/v1/periods", parameters)
    except UsageUnavailable as problem:
        raise StripeMeterError(str(problem), 503) from problem
    except UsageRefused as problem:
        hint = "; add the ready catalogue stripemeter" if problem.status == _NO_METER else ""
        raise StripeMeterError(f"{problem.detail}{hint}", problem.status) from problem


def _price(metric: str) -> Price:
    told = wiring.definitions().get(PRICE, metric)
    if told is None:
        return Price()
    limit = told.get("limit")
    return Price(
        unit_price=Decimal(told["unit_price"]),
        aggregation=told["aggregation"],
        currency=told["currency"],
        unit=told.get("unit"),
        limit=None if limit is None else Decimal(limit),
    )


def _month(day: date) -> tuple[date, date]:
    start = day.replace(day=1)
    return start, (start + timedelta(days=32)).replace(day=1)


def _midnight(day: date) -> str:
    return datetime.combine(day, time(), UTC).isoformat()


def _day(told: date | str | None, name: str) -> date | None:
    """A day: of a date, a datetime (in its own zone), or ISO text."""
    if told is None:
        return None
    try:
        found = datetime.fromisoformat(told) if isinstance(told, str) else told
    except ValueError:
        raise StripeMeterError(f"{name}: {shown(told)} is not an ISO 8601 date", 400) from None
    return found.date() if isinstance(found, datetime) else found

"""What metrics cost and how they are counted: mappings, kept in the book, one entry an account.

Set by those who may set them for everybody, and read by everybody who asks what usage costs.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final, Literal, NamedTuple, cast, get_args

from starlette.exceptions import HTTPException

from meterstream_schemas.errors import InvalidQuantity
from meterstream_schemas.quantity import parse_amount
from meterstream_services.clients.book import Book, Content
from meterstream_services.clients.exact_json import plain
from meterstream_services.clients.stripemeter.events import METRIC_MAX
from meterstream_services.keys.principal import ALL

KIND: Final = "stripemeter.prices"
Aggregation = Literal["sum", "max", "last"]
AGGREGATIONS: Final[tuple[Aggregation, ...]] = get_args(Aggregation)
_TEXT_MAX: Final = 64
_KNOWN: Final = frozenset(
    {"tenantId", "metric", "aggregation", "unitPrice", "currency", "unit", "limit"}
)


class Price(NamedTuple):
    """What is known of a metric; nothing is: it is summed up and costs nothing."""

    unit_price: Decimal = Decimal(0)
    aggregation: Aggregation = "sum"
    currency: str = "USD"
    unit: str = "unit"
    limit: Decimal | None = None


def prices_of(book: Book, account: str) -> dict[str, Price]:
    """The prices of an account's metrics, by metric. Blocks."""
    content = book.get(ALL, KIND, account) or {}
    return {metric: _price(told) for metric, told in content.items()}


def set_price(book: Book, account: str, told: Mapping[str, Any]) -> Content:
    """Keep one mapping, in place of the metric's last one. Blocks. Raises 400 for a wrong one."""
    unknown = sorted(set(told) - _KNOWN)
    if unknown:
        raise _wrong(f"{unknown[0][:64]}: is not known here; prices are not looked up at Stripe")
    metric = told.get("metric")
    if not isinstance(metric, str) or not 0 < len(metric) <= METRIC_MAX:
        raise _wrong(f"metric: is no text of 1 to {METRIC_MAX} characters")
    aggregation = told.get("aggregation", "sum")
    if aggregation not in AGGREGATIONS:
        raise _wrong(f"aggregation: is none of {', '.join(AGGREGATIONS)}")
    limit = told.get("limit")
    kept: Content = {
        "unitPrice": plain(_amount(told.get("unitPrice", 0), "unitPrice")),
        "aggregation": aggregation,
        "currency": _text(told, "currency", "USD").upper(),
        "unit": _text(told, "unit", "unit"),
        "limit": None if limit is None else plain(_amount(limit, "limit")),
    }
    book.change(ALL, KIND, account, lambda known: {**(known or {}), metric: kept})
    return {"tenantId": account, "metric": metric, **shown(_price(kept))}


def shown(price: Price) -> dict[str, Any]:
    """A price as it is answered."""
    return {
        "aggregation": price.aggregation,
        "unitPrice": price.unit_price,
        "currency": price.currency,
        "unit": price.unit,
        "limit": price.limit,
    }


def _price(told: Mapping[str, Any]) -> Price:
    limit = told.get("limit")
    return Price(
        Decimal(told["unitPrice"]),
        cast("Aggregation", told["aggregation"]),
        told["currency"],
        told["unit"],
        None if limit is None else Decimal(limit),
    )


def _amount(value: object, field: str) -> Decimal:
    try:
        amount = parse_amount(value, field=field).decimal()
    except InvalidQuantity as problem:
        raise _wrong(str(problem)) from None
    if amount < 0:
        raise _wrong(f"{field}: is below zero")
    return amount


def _text(told: Mapping[str, Any], name: str, default: str) -> str:
    value = told.get(name, default)
    if not isinstance(value, str) or not 0 < len(value) <= _TEXT_MAX:
        raise _wrong(f"{name}: is no text of 1 to {_TEXT_MAX} characters")
    return value


def _wrong(message: str) -> HTTPException:
    return HTTPException(400, message)

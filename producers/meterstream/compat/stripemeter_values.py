"""What StripeMeter's calls return and raise. Amounts are exact: `Decimal` in place of floats."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Generator


class StripeMeterError(Exception):
    """A call failed. ``status_code`` is what the vendor's server would have answered, if anything.

    ========  ===================================================================================
    400       an argument is wrong; nothing was recorded
    404       the catalogue has no such meter: add the ready catalogue ``stripemeter``
    409       the idempotency key was used for other content
    422       the broker refused the event for good
    503       not confirmed in time, or the usage API is away; what was recorded is still on its way
    ========  ===================================================================================

    ``data["idempotency_keys"]`` names the keys of events that are still on their way: sending them
    again with these keys counts them once.
    """

    def __init__(
        self, message: str, status_code: int | None = None, data: dict[str, Any] | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.status_code = status_code
        self.data = data


@dataclass(frozen=True, slots=True)
class EventProblem:
    """What is wrong with one event of a batch, by its place in it."""

    index: int
    error: str


@dataclass(frozen=True, slots=True)
class IngestResponse:
    """What became of events. It can be awaited too, which gives it at once."""

    accepted: int
    """Events that are in the log."""
    duplicates: int
    """Events that this client had sent before under the same key, with the same content."""
    errors: tuple[EventProblem, ...] = ()

    def __await__(self) -> Generator[None, None, Self]:
        """Itself: ``await client.flush()`` works as ``client.flush()`` does."""
        yield from ()
        return self


@dataclass(frozen=True, slots=True)
class Period:
    """First and last day, UTC."""

    start: date
    end: date


@dataclass(frozen=True, slots=True)
class MetricUsage:
    """One metric of a customer."""

    name: str
    current: Decimal
    limit: Decimal | None = None
    unit: str | None = None


@dataclass(frozen=True, slots=True)
class Alert:
    """Something to look at."""

    type: str
    message: str
    severity: str


@dataclass(frozen=True, slots=True)
class UsageResponse:
    """A customer's usage in the present month."""

    customer_ref: str
    period: Period
    metrics: tuple[MetricUsage, ...]
    alerts: tuple[Alert, ...] = ()


@dataclass(frozen=True, slots=True)
class LineItem:
    """One metric's usage and what it costs."""

    metric: str
    quantity: Decimal
    unit_price: Decimal
    total: Decimal


@dataclass(frozen=True, slots=True)
class Freshness:
    """How far the figures reach: the log's time that is counted, and its age in seconds."""

    last_update: datetime | None
    staleness: int


@dataclass(frozen=True, slots=True)
class ProjectionResponse:
    """What a customer's usage of a period costs so far."""

    customer_ref: str
    period_start: date
    period_end: date
    line_items: tuple[LineItem, ...]
    subtotal: Decimal
    credits: Decimal
    total: Decimal
    currency: str
    freshness: Freshness = field(default_factory=lambda: Freshness(None, 0))

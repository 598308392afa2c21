"""What the calls answer. Amounts of the document are floats; the exact ones stand beside them."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import asdict, dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Self

from meterstream.compat.agentmeter.events import Event


@dataclass(frozen=True, slots=True)
class MeterEventResponse:
    """What became of an event. May be awaited as well; that answers itself, at once.

    ``success``: the event is in the log, with ``partition`` and ``offset``; from a tracker, it was
    taken and will be sent. ``cost`` and ``total_cost`` are the same float of ``exact_cost``.
    """

    event_id: str
    exact_cost: Decimal
    success: bool
    message: str
    timestamp: datetime
    event: Event
    partition: int | None = None
    offset: int | None = None

    @property
    def id(self) -> str:
        """The event's id, as ``event_id``."""
        return self.event_id

    @property
    def cost(self) -> float:
        """The cost as a float, for showing."""
        return float(self.exact_cost)

    @property
    def total_cost(self) -> float:
        """The cost as a float, for showing."""
        return float(self.exact_cost)

    def dict(self) -> dict[str, Any]:
        """The documented fields by name, and the event's own under ``event``."""
        return {
            "event_id": self.event_id,
            "id": self.event_id,
            "cost": self.cost,
            "total_cost": self.total_cost,
            "success": self.success,
            "message": self.message,
            "timestamp": self.timestamp.isoformat(),
            "event": self.event.dict(),
        }

    def __await__(self) -> Generator[None, None, Self]:
        yield from ()
        return self


@dataclass(frozen=True, slots=True)
class UserMeter:
    """What a user has used since the last reset, and the limit set for it.

    Without a limit ``threshold_amount`` is 0 and nothing is over it.
    """

    project_id: str
    user_id: str
    exact_threshold: Decimal | None
    exact_usage: Decimal
    last_reset_at: datetime | None

    @property
    def threshold_amount(self) -> float:
        """The limit as a float, for showing."""
        return float(self.exact_threshold or 0)

    @property
    def current_usage(self) -> float:
        """The usage as a float, for showing."""
        return float(self.exact_usage)

    @property
    def is_over_limit(self) -> bool:
        """More was used than the limit; never without a limit."""
        return self.exact_threshold is not None and self.exact_usage > self.exact_threshold

    @property
    def remaining(self) -> float:
        """What is left until the limit, at least 0; infinite without a limit."""
        if self.exact_threshold is None:
            return float("inf")
        return float(max(Decimal(0), self.exact_threshold - self.exact_usage))


@dataclass(frozen=True, slots=True)
class MeterStats:
    """Figures of a project over a time, as the usage API answers them."""

    project_id: str
    timeframe: str
    start: datetime
    end: datetime
    total_api_calls: int
    total_tokens_in: int
    total_tokens_out: int
    total_payments: int
    exact_cost: Decimal
    cost_by_payment_type: dict[str, Decimal]

    @property
    def total_cost(self) -> float:
        """The cost as a float, for showing."""
        return float(self.exact_cost)


@dataclass(frozen=True, slots=True)
class Project:
    """A project: what tenants are called here."""

    id: str
    name: str
    description: str | None
    created_at: datetime
    updated_at: datetime

    def dict(self) -> dict[str, Any]:
        """The fields by name."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class BillingRecord:
    """What a project owes for a time. Nothing is collected by it: see the guide."""

    id: str
    project_id: str
    period_start: str
    period_end: str
    exact_amount: Decimal
    status: str
    created_at: datetime
    updated_at: datetime

    @property
    def amount(self) -> float:
        """The amount as a float, for showing."""
        return float(self.exact_amount)

    def dict(self) -> dict[str, Any]:
        """The fields by name, and the amount as a float."""
        return asdict(self) | {"amount": self.amount}

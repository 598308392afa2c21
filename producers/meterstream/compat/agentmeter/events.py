"""The three kinds of payment as values, their exact costs, and how each stands on the wire."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any, ClassVar

from meterstream.compat.agentmeter.errors import AgentMeterValidationError
from meterstream.compat.agentmeter.money import Number, carried, exact, product, total, whole

Metadata = Mapping[str, Any]


class PaymentType(StrEnum):
    """How something is charged."""

    API_REQUEST_PAY = "api_request_pay"
    TOKEN_BASED_PAY = "token_based_pay"  # noqa: S105 - tokens of a language model
    INSTANT_PAY = "instant_pay"


class EventType(StrEnum):
    """What happened."""

    API_CALL = "api_call"
    TOKEN_USAGE = "token_usage"  # noqa: S105 - tokens of a language model
    INSTANT_PAYMENT = "instant_payment"


def _new_id() -> str:
    return str(uuid.uuid4())


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class APIRequestPayEvent:
    """Calls at a price each. Raises `AgentMeterValidationError` for what cannot be billed."""

    payment_type: ClassVar = PaymentType.API_REQUEST_PAY
    event_type: ClassVar = EventType.API_CALL

    project_id: str | None = None
    agent_id: str | None = None
    user_id: str | None = None
    api_calls: int = 1
    unit_price: Number = 0
    metadata: Metadata = field(default_factory=dict[str, Any])
    event_id: str = field(default_factory=_new_id)
    timestamp: datetime = field(default_factory=_now)
    exact_cost: Decimal = field(init=False)

    def __post_init__(self) -> None:
        calls = whole(self.api_calls, field="api_calls")
        object.__setattr__(self, "api_calls", calls)
        price = exact(self.unit_price, field="unit_price")
        object.__setattr__(self, "exact_cost", product(calls, price))
        _check(self.timestamp, self.metadata)

    @property
    def total_cost(self) -> float:
        """The cost as a float, for showing; `exact_cost` is what is recorded."""
        return float(self.exact_cost)

    @property
    def quantity(self) -> Decimal | int:
        """What a meter counts: calls."""
        return self.api_calls

    def dict(self) -> dict[str, Any]:
        """The documented fields by name."""
        return _common(self) | {"api_calls": self.api_calls, "unit_price": self.unit_price}


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenBasedPayEvent:
    """Tokens at a price each way. Raises `AgentMeterValidationError` as above."""

    payment_type: ClassVar = PaymentType.TOKEN_BASED_PAY
    event_type: ClassVar = EventType.TOKEN_USAGE

    project_id: str | None = None
    agent_id: str | None = None
    user_id: str | None = None
    tokens_in: int = 0
    tokens_out: int = 0
    input_token_price: Number = 0
    output_token_price: Number = 0
    metadata: Metadata = field(default_factory=dict[str, Any])
    event_id: str = field(default_factory=_new_id)
    timestamp: datetime = field(default_factory=_now)
    exact_cost: Decimal = field(init=False)

    def __post_init__(self) -> None:
        taken = whole(self.tokens_in, field="tokens_in")
        given = whole(self.tokens_out, field="tokens_out")
        object.__setattr__(self, "tokens_in", taken)
        object.__setattr__(self, "tokens_out", given)
        cost = total(
            product(taken, exact(self.input_token_price, field="input_token_price")),
            product(given, exact(self.output_token_price, field="output_token_price")),
        )
        object.__setattr__(self, "exact_cost", cost)
        _check(self.timestamp, self.metadata)

    @property
    def total_cost(self) -> float:
        """The cost as a float, for showing; `exact_cost` is what is recorded."""
        return float(self.exact_cost)

    @property
    def quantity(self) -> Decimal | int:
        """What a meter counts: tokens both ways."""
        return self.tokens_in + self.tokens_out

    def dict(self) -> dict[str, Any]:
        """The documented fields by name."""
        return _common(self) | {
            "tokens_in": self.tokens_in,
            "tokens_out": self.tokens_out,
            "input_token_price": self.input_token_price,
            "output_token_price": self.output_token_price,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class InstantPayEvent:
    """An amount, charged at once. Raises `AgentMeterValidationError` as above."""

    payment_type: ClassVar = PaymentType.INSTANT_PAY
    event_type: ClassVar = EventType.INSTANT_PAYMENT

    project_id: str | None = None
    agent_id: str | None = None
    user_id: str | None = None
    amount: Number = 0
    description: str | None = None
    metadata: Metadata = field(default_factory=dict[str, Any])
    event_id: str = field(default_factory=_new_id)
    timestamp: datetime = field(default_factory=_now)
    exact_cost: Decimal = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "exact_cost", exact(self.amount, field="amount"))
        _check(self.timestamp, self.metadata)

    @property
    def total_cost(self) -> float:
        """The cost as a float, for showing; `exact_cost` is what is recorded."""
        return float(self.exact_cost)

    @property
    def quantity(self) -> Decimal | int:
        """What a meter counts: the amount."""
        return carried(self.exact_cost, field="amount")

    def dict(self) -> dict[str, Any]:
        """The documented fields by name."""
        return _common(self) | {"amount": self.amount, "description": self.description}


Event = APIRequestPayEvent | TokenBasedPayEvent | InstantPayEvent


def _common(event: Event) -> dict[str, Any]:
    return {
        "id": event.event_id,
        "event_id": event.event_id,
        "event_type": event.event_type.value,
        "payment_type": event.payment_type.value,
        "project_id": event.project_id,
        "agent_id": event.agent_id,
        "user_id": event.user_id,
        "total_cost": event.total_cost,
        "timestamp": event.timestamp.isoformat(),
        "metadata": dict(event.metadata),
    }


def _check(timestamp: object, metadata: object) -> None:
    if not isinstance(timestamp, datetime) or timestamp.tzinfo is None:
        raise AgentMeterValidationError(
            f"timestamp: {timestamp!r:.80} is not a datetime with a zone; pass one in UTC"
        )
    if not isinstance(metadata, Mapping):
        raise AgentMeterValidationError(
            f"metadata: {type(metadata).__name__} is not a mapping; pass a dict"
        )

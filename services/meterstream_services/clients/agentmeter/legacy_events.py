"""What an event of AgentMeter 0.2.0 is: from its JSON to an offer, and from the log to JSON."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta, tzinfo
from decimal import Decimal
from typing import Any, Final, NamedTuple

from meterstream.compat.agentmeter.events import (
    APIRequestPayEvent,
    Event,
    InstantPayEvent,
    PaymentType,
    TokenBasedPayEvent,
)
from meterstream.compat.agentmeter.money import Number, carried, exact
from meterstream.compat.agentmeter.statistics import span
from meterstream.compat.agentmeter.translating import TYPES as WIRE_TYPES
from meterstream.compat.agentmeter.translating import recorded
from meterstream_schemas.errors import InvalidEvent
from meterstream_schemas.events import MeterEvent
from meterstream_services.clients.agentmeter.listing import quantity_of
from meterstream_services.clients.agentmeter.values import (
    described,
    instant,
    optional,
    shown,
    texts,
)
from meterstream_services.clients.eventlog import Listed
from meterstream_services.clients.exact_json import plain
from meterstream_services.gateway.port import Offer

_EVENT_TYPES: Final = {
    "api_call": PaymentType.API_REQUEST_PAY,
    "token_usage": PaymentType.TOKEN_BASED_PAY,
    "instant_payment": PaymentType.INSTANT_PAY,
}
TYPES: Final = {name: WIRE_TYPES[kind] for name, kind in _EVENT_TYPES.items()}
"""The type of an event by its ``event_type`` here."""
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_PRICES: Final = ("unit_price", "input_token_price", "output_token_price")


class Charge(NamedTuple):
    """An event to be recorded, its id, what it costs, exactly, and when it happened.

    One with an id of the client's and no time has the door's: a repeat is given the same.
    """

    offer: Offer
    id: str
    cost: Decimal
    at: int


def charge_of(body: Mapping[str, Any], project: str, *, zone: tzinfo, now: int) -> Charge:
    """What an event's JSON means.

    Raises `InvalidEvent`, `AgentMeterValidationError` and 422 for what cannot be billed.
    """
    told = optional(body, "id") or optional(body, "event_id")
    name = told or str(uuid.uuid4())
    time = instant(body.get("timestamp"), "timestamp", zone)
    metadata = texts(body.get("metadata"), "metadata")
    event = _event(
        body,
        {
            "project_id": project,
            "agent_id": optional(body, "agent_id"),
            "user_id": optional(body, "user_id"),
            "metadata": metadata,
            "event_id": name,
            "timestamp": _EPOCH + timedelta(microseconds=now if time is None else time),
        },
    )
    made = recorded(event)
    cost, attributes = event.exact_cost, made.attributes
    own = _first(body, "total_cost")
    if not isinstance(event, InstantPayEvent) and own is not None and not _has_price(body):
        cost = exact(own, field="total_cost")
        attributes = attributes | {"cost": plain(carried(cost, field="total_cost"))}
    return Charge(
        Offer(
            type=made.type,
            tenant=project,
            quantity=made.quantity,
            time=now if time is None and told is None else time,
            subject=made.subject,
            attributes=attributes,
            key=told,
        ),
        name,
        cost,
        now if time is None else time,
    )


def span_of(timeframe: str, now: int) -> tuple[int, int]:
    """The whole hours of a timeframe such as ``30 days``. Raises `AgentMeterValidationError`."""
    start, end = span(timeframe, _EPOCH + timedelta(microseconds=now))
    micro = timedelta(microseconds=1)
    return max((start - _EPOCH) // micro, 0), (end - _EPOCH) // micro


def shown_event(each: Listed) -> dict[str, Any]:
    """An event of the log as 0.2.0 lists it."""
    event = each.event
    kind = next(kind for kind, name in WIRE_TYPES.items() if name == event.type)
    own = event.attributes
    name = event.key or f"{each.partition}-{each.offset}"
    return {
        "id": name,
        "event_id": name,
        "project_id": event.tenant,
        "agent_id": own.get("agent"),
        "user_id": event.subject,
        "event_type": next(name for name, it in _EVENT_TYPES.items() if it is kind),
        "payment_type": kind.value,
        "total_cost": _number(own.get("cost_exact") or own.get("cost")),
        "timestamp": shown(event.time),
        "metadata": {
            name.removeprefix("metadata."): value
            for name, value in own.items()
            if name.startswith("metadata.")
        },
        **_details(kind, event),
    }


def _details(kind: PaymentType, event: MeterEvent) -> dict[str, Any]:
    own = event.attributes
    match kind:
        case PaymentType.API_REQUEST_PAY:
            return {
                "api_calls": quantity_of(event),
                "unit_price": _number(own.get("unit_price")),
            }
        case PaymentType.TOKEN_BASED_PAY:
            fields = ("tokens_in", "tokens_out", "input_token_price", "output_token_price")
            return {field: _number(own.get(field)) for field in fields}
        case PaymentType.INSTANT_PAY:
            return {"amount": quantity_of(event), "description": own.get("description")}


def _number(text: str | None) -> Decimal | str | None:
    """An attribute as a number. Somebody else may have recorded the event, with any text."""
    if text is None:
        return None
    try:
        found = Decimal(text)
    except ArithmeticError:
        return text
    return found if found.is_finite() else text


def _event(body: Mapping[str, Any], common: dict[str, Any]) -> Event:
    match _kind(body):
        case PaymentType.API_REQUEST_PAY:
            return APIRequestPayEvent(
                **common,
                api_calls=_count(body, "api_calls", "request_count", default=1),
                unit_price=_first(body, "unit_price") or 0,
            )
        case PaymentType.TOKEN_BASED_PAY:
            return TokenBasedPayEvent(
                **common,
                tokens_in=_count(body, "tokens_in", "input_tokens", default=0),
                tokens_out=_count(body, "tokens_out", "output_tokens", default=0),
                input_token_price=_first(body, "input_token_price") or 0,
                output_token_price=_first(body, "output_token_price") or 0,
            )
        case PaymentType.INSTANT_PAY:
            return InstantPayEvent(
                **common,
                amount=_first(body, "amount", "total_cost") or 0,
                description=described(body, "description"),
            )


def _kind(body: Mapping[str, Any]) -> PaymentType:
    """By ``payment_type``, else ``event_type``, else what it counts; a bare event is one call."""
    payment, happened = optional(body, "payment_type"), optional(body, "event_type")
    if payment is not None:
        try:
            return PaymentType(payment)
        except ValueError:
            raise InvalidEvent(
                "payment_type", f"{payment[:64]!r} is none; see PaymentType"
            ) from None
    if happened is not None:
        if happened not in _EVENT_TYPES:
            raise InvalidEvent("event_type", f"{happened[:64]!r} is none; see EventType")
        return _EVENT_TYPES[happened]
    if _first(body, "amount") is not None:
        return PaymentType.INSTANT_PAY
    if _first(body, "tokens_in", "tokens_out", "input_tokens", "output_tokens") is not None:
        return PaymentType.TOKEN_BASED_PAY
    return PaymentType.API_REQUEST_PAY


def _first(body: Mapping[str, Any], *fields: str) -> Number | None:
    return next((body[field] for field in fields if body.get(field) is not None), None)


def _count(body: Mapping[str, Any], *fields: str, default: int) -> int:
    told = _first(body, *fields)
    return default if told is None else told  # type: ignore[return-value]  # checked by the event


def _has_price(body: Mapping[str, Any]) -> bool:
    return any(body.get(price) not in (None, 0) for price in _PRICES)

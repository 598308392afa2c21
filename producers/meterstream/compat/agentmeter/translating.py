"""What an event of AgentMeter is on the wire: type, tenant, subject, quantity, attributes.

Tenant is the project and subject the user. Attributes: ``agent``, ``cost`` as exact decimal text,
the prices or the description, and each entry of the metadata as ``metadata.<name>``: text as it is,
anything else as JSON. A cost of more digits than an event can carry is rounded (see `money`), and
``cost_exact`` keeps it whole. Metadata beyond the limits of an event is left out, and
``metadata_left_out`` says how many entries: what is to be paid is never lost for it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal
from typing import Final, NamedTuple

from meterstream.compat.agentmeter.events import (
    APIRequestPayEvent,
    Event,
    InstantPayEvent,
    Metadata,
    PaymentType,
    TokenBasedPayEvent,
)
from meterstream.compat.agentmeter.money import carried, exact, text
from meterstream_schemas.checks import check_text, check_value
from meterstream_schemas.events import ATTRIBUTE_NAME_BYTES_MAX, ATTRIBUTE_VALUE_BYTES_MAX

TYPES: Final = {
    PaymentType.API_REQUEST_PAY: "agentmeter.api_request",
    PaymentType.TOKEN_BASED_PAY: "agentmeter.tokens",
    PaymentType.INSTANT_PAY: "agentmeter.payment",
}
METADATA_ENTRIES_MAX: Final = 22
"""Of the 32 attributes of an event; the others are the event's own."""
METADATA_BYTES_MAX: Final = 8192
"""Names and values together: half of what an event may hold."""
_LEFT_OUT: Final = "metadata_left_out"


class Recorded(NamedTuple):
    """The arguments of `meterstream.meter.Meter.record`."""

    type: str
    tenant: str | None
    quantity: Decimal | int
    time: datetime
    subject: str | None
    attributes: dict[str, str]
    key: str


def recorded(event: Event) -> Recorded:
    """An event as it is recorded. Raises `AgentMeterValidationError` for a cost beyond all size."""
    cost = carried(event.exact_cost, field="cost")
    attributes = {"cost": text(cost)} | _own(event)
    if cost != event.exact_cost:
        attributes["cost_exact"] = text(event.exact_cost)
    if event.agent_id:
        attributes["agent"] = event.agent_id
    attributes |= metadata_attributes(event.metadata)
    return Recorded(
        TYPES[event.payment_type],
        event.project_id or None,
        event.quantity,
        event.timestamp,
        event.user_id or None,
        attributes,
        event.event_id,
    )


def _own(event: Event) -> dict[str, str]:
    """What only this kind of payment has."""
    match event:
        case APIRequestPayEvent():
            return {"unit_price": text(exact(event.unit_price, field="unit_price"))}
        case TokenBasedPayEvent():
            return {
                "tokens_in": str(event.tokens_in),
                "tokens_out": str(event.tokens_out),
                "input_token_price": text(exact(event.input_token_price, field="price")),
                "output_token_price": text(exact(event.output_token_price, field="price")),
            }
        case InstantPayEvent():
            return {"description": _cut(event.description)} if event.description else {}


def metadata_attributes(metadata: Metadata) -> dict[str, str]:
    """The entries of metadata as attributes, and how many had to be left out."""
    kept: dict[str, str] = {}
    left_out, room = 0, METADATA_BYTES_MAX
    for entry in _entries(metadata):
        if entry is None or len(kept) == METADATA_ENTRIES_MAX:
            left_out += 1
            continue
        name, value = entry
        room -= len(name.encode()) + len(value.encode())
        if room < 0:
            left_out += 1
        else:
            kept[name] = value
    return kept | ({_LEFT_OUT: str(left_out)} if left_out else {})


def _entries(metadata: Metadata) -> Iterator[tuple[str, str] | None]:
    """Each entry as an attribute; None for one that no attribute can hold."""
    for name, value in metadata.items():
        try:
            yield (
                check_text(f"metadata.{name}", field="", bytes_max=ATTRIBUTE_NAME_BYTES_MAX),
                check_value(_shown(value), field="", bytes_max=ATTRIBUTE_VALUE_BYTES_MAX),
            )
        except Exception:  # noqa: BLE001 - a value of the host may refuse to be shown in any way
            yield None


def _shown(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def _cut(words: str) -> str:
    """At most as many bytes as an attribute holds."""
    return words.encode(errors="replace")[:ATTRIBUTE_VALUE_BYTES_MAX].decode(errors="ignore")

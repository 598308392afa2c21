"""The oracle's rules for single events: what is refused, what an amount is, what content is."""

from __future__ import annotations

import re
from fractions import Fraction
from typing import TYPE_CHECKING

from meterstream_schemas.events import EventKind, MeterEvent
from tests.oracle.catalogue import ADDITIVE, OracleCatalogue, OracleMeter

if TYPE_CHECKING:
    from collections.abc import Iterable

BOUNDARIES = (EventKind.SESSION_START, EventKind.SESSION_HEARTBEAT, EventKind.SESSION_END)
FUTURE_MICROSECONDS = 3_600_000_000
YEAR_10000 = 253_402_300_800_000_000
_PLAIN = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d{1,2})?")


def identity_is_possible(event: MeterEvent) -> bool:
    """Whether the event can have been sent under what it says."""
    if event.producer:
        if not re.fullmatch(r"[ -~]{1,64}", event.producer):
            return False
        if event.lane not in range(256) or event.sequence < 1:
            return False
    return event.key is None or _is_clean(event.key, 256)


def refusal(catalogue: OracleCatalogue, event: MeterEvent, log_time: int) -> str | None:
    """The first reason why the event cannot be counted, or None."""
    if event.kind is EventKind.UNKNOWN:
        return "unknown_kind"
    if not _is_clean(event.tenant, 128):
        return "invalid_tenant"
    latest = min(log_time + FUTURE_MICROSECONDS, YEAR_10000 - 1)
    if not catalogue.accept_from <= event.time <= latest:
        return "invalid_time"
    if event.kind in BOUNDARIES:
        return _boundary_refusal(event, catalogue.of_type(event.type, sessions=True))
    meters = catalogue.of_type(event.type, sessions=False)
    return _usage_refusal(event, [meter for meter in meters if meter.reads(event.time)])


def _boundary_refusal(event: MeterEvent, meters: Iterable[OracleMeter]) -> str | None:
    start = event.kind is EventKind.SESSION_START
    if not any(m.reads(event.time) if start else m.since <= event.time for m in meters):
        return "unknown_type"
    if event.session is None:
        fine = not event.subject or _is_clean(event.subject, 256)
    else:
        fine = _is_clean(event.session, 256)
    return None if fine else "invalid_session"


def _usage_refusal(event: MeterEvent, meters: list[OracleMeter]) -> str | None:
    if not meters:
        return "unknown_type"
    if not 0 <= event.scale <= 18:
        return "invalid_quantity"
    for meter in meters:
        name = meter.value_attribute
        if meter.aggregate not in ("unique", "count") and name is not None:
            text = event.attributes.get(name)
            if text is not None and plain_decimal(text) is None:
                return "invalid_quantity"
    if event.kind is not EventKind.VOID:
        return None
    if event.key is None:
        return "invalid_key"
    lasting = [meter for meter in meters if meter.aggregate not in ADDITIVE]
    return "not_invertible" if any(counts(meter, event) for meter in lasting) else None


def counts(meter: OracleMeter, event: MeterEvent) -> bool:
    """Whether a definition counts a usage event: by its time, its filter and its value."""
    if not meter.reads(event.time) or not meter.passes(event.attributes):
        return False
    return text(meter, event) is not None if meter.aggregate == "unique" else (
        value(meter, event) is not None
    )  # fmt: skip


def value(meter: OracleMeter, event: MeterEvent) -> Fraction | None:
    """What the event adds to the meter, or None where it says nothing about it."""
    if meter.aggregate == "count":
        return Fraction(1)
    name = meter.value_attribute
    if name is None:
        return Fraction(event.quantity, 10**event.scale)
    return plain_decimal(event.attributes[name]) if name in event.attributes else None


def text(meter: OracleMeter, event: MeterEvent) -> str | None:
    """What a unique meter tells apart."""
    name = meter.value_attribute
    return event.subject if name is None else event.attributes.get(name)


def content(event: MeterEvent) -> object:
    """What must be equal for two events under one key to be the same; a VOID is as its event."""
    kind = EventKind.USAGE if event.kind is EventKind.VOID else event.kind
    attributes = tuple(sorted(event.attributes.items()))
    amount = _reduced(event.quantity, event.scale)
    return kind, event.type, event.time, amount, event.session, event.subject, attributes


def _reduced(quantity: int, scale: int) -> tuple[int, int]:
    """An amount without the zeros at its end: scales may be too wild for a fraction."""
    while quantity and quantity % 10 == 0:
        quantity, scale = quantity // 10, scale - 1
    return quantity, scale if quantity else 0


def plain_decimal(text: str) -> Fraction | None:
    """The exact value of decimal text that fits an amount, or None where it is not one."""
    if len(text) > 64 or not text.isascii() or not _PLAIN.fullmatch(text):
        return None
    value = Fraction(text)
    for scale in range(19):
        unscaled = value * 10**scale
        if unscaled.denominator == 1:
            return value if -(2**63) <= unscaled < 2**63 else None
    return None


def _is_clean(text: str, bytes_max: int) -> bool:
    """Not empty, not too long, and no control characters in it."""
    if not text or len(text.encode()) > bytes_max:
        return False
    return not any(ord(character) < 32 or ord(character) == 127 for character in text)

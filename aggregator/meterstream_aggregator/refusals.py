"""Why an event is not counted: the closed set of reasons, and the rules that apply to one event.

`refusal` is the only definition of an acceptable event; the columnar fold uses vector masks merely
to find the few rows worth asking about.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final, NamedTuple

from meterstream_aggregator.catalogue import FUTURE_MAX, Catalogue, Meter
from meterstream_schemas.checks import check_text, check_time
from meterstream_schemas.errors import InvalidEvent, InvalidQuantity
from meterstream_schemas.events import (
    ID_BYTES_MAX,
    LANES,
    SCALE_MAX,
    TENANT_BYTES_MAX,
    TYPE_BYTES_MAX,
    EventKind,
    MeterEvent,
)
from meterstream_schemas.quantity import Amount, parse_amount

PRODUCER_CHARACTERS_MAX: Final = 64
SESSION_KINDS: Final = frozenset(
    {EventKind.SESSION_START, EventKind.SESSION_HEARTBEAT, EventKind.SESSION_END}
)


class Reason(StrEnum):
    """Why a record is a dead letter. Each value is documented in docs/dead-letters.md."""

    UNDECODABLE = "undecodable"
    """The bytes are not one whole event of their schema."""
    UNKNOWN_SCHEMA = "unknown_schema"
    """The schema id is neither bundled nor registered for the allowed subject."""
    TOO_LARGE = "too_large"
    """The record is larger than an event may be."""
    UNKNOWN_KIND = "unknown_kind"
    """A kind of event that this version does not count."""
    UNKNOWN_TYPE = "unknown_type"
    """No meter reads this type of event (or this type's sessions)."""
    INVALID_TENANT = "invalid_tenant"
    """The tenant is empty, too long or not clean text."""
    INVALID_TIME = "invalid_time"
    """Before metering began, more than an hour ahead of its append time, or no time at all."""
    INVALID_QUANTITY = "invalid_quantity"
    """The scale, or an attribute that a meter takes its amount from, is not an exact amount."""
    INVALID_SESSION = "invalid_session"
    """A session boundary without a usable session id."""
    INVALID_IDENTITY = "invalid_identity"
    """A producer, lane, number or caller key outside its range."""
    KEY_CONFLICT = "key_conflict"
    """The caller's key was used before for other content."""


class Refusal(NamedTuple):
    """A reason and one sentence for the person who mends the event."""

    reason: Reason
    detail: str


def refusal(event: MeterEvent, append_time: int, catalogue: Catalogue) -> Refusal | None:
    """Why this event cannot be counted, or None. Pure; the first rule that fails is reported."""
    try:
        _check_identity(event)
    except InvalidEvent as problem:
        return Refusal(Reason.INVALID_IDENTITY, str(problem))
    if event.kind is EventKind.MARK:
        return None
    why = _refusal_of_any(event, append_time, catalogue)
    if why is not None:
        return why
    if event.kind in SESSION_KINDS:
        return _session_refusal(event, catalogue)
    return _usage_refusal(event, catalogue)


def amount_of(event: MeterEvent, meter: Meter) -> Amount | None:
    """What a meter reads from an event, or None where the attribute is absent.

    Raises `InvalidQuantity` when the attribute is there and is not a plain decimal.
    """
    name = meter.value_attribute
    if name is None:
        return Amount(event.quantity, event.scale)
    text = event.attributes.get(name)
    return None if text is None else parse_amount(text, field=f"attributes.{name}")


def is_producer(name: str) -> bool:
    """Whether this can be a producer incarnation's name."""
    return len(name) <= PRODUCER_CHARACTERS_MAX and name.isascii() and name.isprintable()


def _check_identity(event: MeterEvent) -> None:
    if event.producer:
        if not is_producer(event.producer):
            raise InvalidEvent(
                "producer", f"{event.producer!r:.80} is not up to 64 printable ASCII characters"
            )
        if not 0 <= event.lane < LANES:
            raise InvalidEvent("lane", f"{event.lane} is not a lane; lanes are 0 to {LANES - 1}")
        if event.sequence < 1:
            raise InvalidEvent("sequence", f"{event.sequence} is not a number; numbers begin at 1")
    elif event.kind is EventKind.MARK:
        raise InvalidEvent("producer", "is empty; a mark names the producer it speaks for")
    if event.key is not None:
        check_text(event.key, field="key", bytes_max=ID_BYTES_MAX)


def _refusal_of_any(event: MeterEvent, append_time: int, catalogue: Catalogue) -> Refusal | None:
    """What usage and session boundaries have in common: kind, tenant and time."""
    if event.kind is EventKind.UNKNOWN or event.kind is EventKind.VOID:
        return Refusal(Reason.UNKNOWN_KIND, f"kind {event.kind} is not counted by this version")
    try:
        check_text(event.tenant, field="tenant", bytes_max=TENANT_BYTES_MAX)
    except InvalidEvent as problem:
        return Refusal(Reason.INVALID_TENANT, str(problem))
    late = _time_problem(event.time, append_time, catalogue)
    return None if late is None else Refusal(Reason.INVALID_TIME, late)


def _time_problem(time: int, append_time: int, catalogue: Catalogue) -> str | None:
    try:
        check_time(time)
    except InvalidEvent as problem:
        return str(problem)
    if time < catalogue.metering_since:
        return f"time: {time} µs is before metering began at {catalogue.metering_since} µs"
    if time > append_time + FUTURE_MAX:
        return f"time: {time} µs is more than an hour ahead of the log's time {append_time} µs"
    return None


def _session_refusal(event: MeterEvent, catalogue: Catalogue) -> Refusal | None:
    if not catalogue.session_meters(event.type):
        return Refusal(Reason.UNKNOWN_TYPE, f"no session meter reads type {event.type!r:.80}")
    if event.session is None:
        return Refusal(Reason.INVALID_SESSION, "session: is absent; send the session's id")
    try:
        check_text(event.session, field="session", bytes_max=ID_BYTES_MAX)
    except InvalidEvent as problem:
        return Refusal(Reason.INVALID_SESSION, str(problem))
    return None


def _usage_refusal(event: MeterEvent, catalogue: Catalogue) -> Refusal | None:
    meters = catalogue.usage_meters(event.type)
    if not meters or len(event.type.encode()) > TYPE_BYTES_MAX:
        return Refusal(Reason.UNKNOWN_TYPE, f"no meter reads type {event.type!r:.80}")
    if not 0 <= event.scale <= SCALE_MAX:
        return Refusal(
            Reason.INVALID_QUANTITY, f"scale: {event.scale} is not 0 to {SCALE_MAX} decimal places"
        )
    try:
        for meter in meters:
            amount_of(event, meter)
    except InvalidQuantity as problem:
        return Refusal(Reason.INVALID_QUANTITY, str(problem))
    return None

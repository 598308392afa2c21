"""Why an event is not counted: the closed set of reasons, and the rules that apply to one event.

`refusal` is the only definition of an acceptable event; the columnar fold uses vector masks merely
to find the few rows worth asking about.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final, NamedTuple

from meterstream_aggregator.catalogue import (
    FUTURE_MAX,
    INVERTIBLE,
    Aggregate,
    Catalogue,
    Meter,
)
from meterstream_schemas.checks import check_text, check_time
from meterstream_schemas.errors import InvalidEvent, InvalidQuantity
from meterstream_schemas.events import (
    ID_BYTES_MAX,
    LANES,
    SCALE_MAX,
    TENANT_BYTES_MAX,
    EventKind,
    MeterEvent,
)
from meterstream_schemas.quantity import Amount, parse_amount

PRODUCER_CHARACTERS_MAX: Final = 64
REMOVE: Final = "remove"
"""The text of a unique meter's operation attribute that takes a value out."""
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
    """No meter reads this type of event (or this type's sessions) at the event's time."""
    INVALID_TENANT = "invalid_tenant"
    """The tenant is empty, too long or not clean text."""
    INVALID_TIME = "invalid_time"
    """Before the catalogue's ``accept_from``, an hour ahead of its append time, or no time."""
    INVALID_QUANTITY = "invalid_quantity"
    """The scale, or an attribute that a meter takes its amount from, is not an exact amount."""
    INVALID_SESSION = "invalid_session"
    """A session boundary whose session id, or subject in place of one, is not clean text."""
    SETTLED_SESSION = "settled_session"
    """A boundary without a session id, so long ago that its subject is settled there."""
    INVALID_IDENTITY = "invalid_identity"
    """A producer, lane, number or caller key outside its range."""
    EXPIRED_PRODUCER = "expired_producer"
    """Its producer was silent for longer than `dedup.PRODUCER_HORIZON`."""
    INVALID_KEY = "invalid_key"
    """A VOID without the caller's key of the event that it takes back."""
    KEY_CONFLICT = "key_conflict"
    """The caller's key was used before for other content."""
    NOT_INVERTIBLE = "not_invertible"
    """A VOID of an event that a meter counts in a way that cannot be taken back."""
    LOST = "lost"
    """Records that retention deleted before they were folded; a person accepted their loss."""


UNNUMBERED: Final = frozenset({Reason.INVALID_IDENTITY, Reason.EXPIRED_PRODUCER})
"""Reasons that keep a record's number from being noted: as often as it comes, it is refused."""


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


def expired_producer(event: MeterEvent) -> Refusal:
    """What is said to a record whose producer is `dedup.expired`."""
    return Refusal(
        Reason.EXPIRED_PRODUCER,
        f"producer: {event.producer!r:.80} was silent for more than 90 days; its numbers are not"
        " judged any more",
    )


def counts(event: MeterEvent, meter: Meter) -> bool:
    """Whether a definition counts this usage event: its time, its filter and its value say so.

    Raises `InvalidQuantity` as `amount_of` does.
    """
    return (
        meter.reads(event.time)
        and all(condition.holds(event.attributes) for condition in meter.where)
        and amount_of(event, meter) is not None
    )


def amount_of(event: MeterEvent, meter: Meter) -> Amount | None:
    """What a meter reads from an event, or None where that is absent and nothing is counted.

    Nothing of a counting meter: the event itself is what counts. Of a unique meter 1, or 0 where
    the event takes its text out. Raises `InvalidQuantity` when an attribute is there and is not a
    plain decimal.
    """
    if meter.aggregate is Aggregate.COUNT:
        return Amount(0, 0)
    if meter.aggregate is Aggregate.UNIQUE:
        return None if text_of(event, meter) is None else Amount(int(_adds(event, meter)), 0)
    name = meter.value_attribute
    if name is None:
        return Amount(event.quantity, event.scale)
    text = event.attributes.get(name)
    return None if text is None else parse_amount(text, field=f"attributes.{name}")


def text_of(event: MeterEvent, meter: Meter) -> str | None:
    """The text that a unique meter tells apart; None where it is absent."""
    name = meter.value_attribute
    return event.subject if name is None else event.attributes.get(name)


def _adds(event: MeterEvent, meter: Meter) -> bool:
    return meter.operation is None or event.attributes.get(meter.operation) != REMOVE


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
    if event.key is not None:
        check_text(event.key, field="key", bytes_max=ID_BYTES_MAX)


def _refusal_of_any(event: MeterEvent, append_time: int, catalogue: Catalogue) -> Refusal | None:
    """What usage, VOIDs and session boundaries have in common: kind, tenant and time."""
    if event.kind is EventKind.UNKNOWN:
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
    if time < catalogue.accept_from:
        return f"time: {time} µs is before {catalogue.accept_from} µs; earlier events are refused"
    if time > append_time + FUTURE_MAX:
        return f"time: {time} µs is more than an hour ahead of the log's time {append_time} µs"
    return None


def _session_refusal(event: MeterEvent, catalogue: Catalogue) -> Refusal | None:
    if not any(_may_tell(event, meter) for meter in catalogue.session_meters(event.type)):
        return Refusal(
            Reason.UNKNOWN_TYPE, f"no session meter reads type {event.type!r:.80} at its time"
        )
    try:
        if event.session is not None:
            check_text(event.session, field="session", bytes_max=ID_BYTES_MAX)
        elif event.subject:
            check_text(event.subject, field="subject", bytes_max=ID_BYTES_MAX)
    except InvalidEvent as problem:
        return Refusal(Reason.INVALID_SESSION, str(problem))
    return None


def _may_tell(event: MeterEvent, meter: Meter) -> bool:
    """Whether a session that this definition reads may have such a boundary.

    The start decides which definition reads a session; its end may come when another one is in
    force, or none.
    """
    if event.kind is EventKind.SESSION_START:
        return meter.reads(event.time)
    return meter.since <= event.time


def _usage_refusal(event: MeterEvent, catalogue: Catalogue) -> Refusal | None:
    """Of USAGE and VOID alike: a VOID repeats the event that it takes back."""
    meters = [meter for meter in catalogue.usage_meters(event.type) if meter.reads(event.time)]
    if not meters:
        return Refusal(Reason.UNKNOWN_TYPE, f"no meter reads type {event.type!r:.80} at its time")
    if not 0 <= event.scale <= SCALE_MAX:
        return Refusal(
            Reason.INVALID_QUANTITY, f"scale: {event.scale} is not 0 to {SCALE_MAX} decimal places"
        )
    try:
        for meter in meters:
            amount_of(event, meter)
    except InvalidQuantity as problem:
        return Refusal(Reason.INVALID_QUANTITY, str(problem))
    return _void_refusal(event, meters) if event.kind is EventKind.VOID else None


def _void_refusal(event: MeterEvent, meters: list[Meter]) -> Refusal | None:
    if event.key is None:
        return Refusal(
            Reason.INVALID_KEY, "key: is absent; send the key of the event that is taken back"
        )
    for meter in meters:
        if meter.aggregate not in INVERTIBLE and counts(event, meter):
            return Refusal(
                Reason.NOT_INVERTIBLE,
                f"meter {meter.name!r:.80} counts it as {meter.aggregate}: nothing can be taken"
                " out of that; send an event that corrects the figure",
            )
    return None

"""One event as our own JSON has it, into an `Offer`; and what all formats of events share.

What can be judged without the door is judged here: unknown members, types of members, the time's
text, and whether the principal may speak for the tenant. Sizes and texts are the door's to judge.
This is run for each event at the full rate, so plain values and few calls.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from functools import lru_cache
from typing import Any, Final, NoReturn

from meterstream_schemas.errors import InvalidEvent
from meterstream_schemas.events import EventKind
from meterstream_services.gateway.port import Offer
from meterstream_services.keys.principal import Principal

KINDS: Final[Mapping[str, EventKind]] = {
    "usage": EventKind.USAGE,
    "session_start": EventKind.SESSION_START,
    "session_heartbeat": EventKind.SESSION_HEARTBEAT,
    "session_end": EventKind.SESSION_END,
    "void": EventKind.VOID,
}
MEMBERS: Final = (
    "type", "tenant", "quantity", "time", "session", "subject", "attributes", "key", "kind",
)  # fmt: skip

_KNOWN: Final = frozenset(MEMBERS)
_USAGE: Final = EventKind.USAGE
_new: Final = tuple.__new__
"""Makes an offer at a third of what its own name costs, which fills in what is left out."""
_AMOUNTS: Final = frozenset({int, Decimal, str})
_TEXT_ONLY: Final = frozenset({str})
_TIME: Final = re.compile(
    r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d(?::\d\d)?)(?:[.,](\d{1,30}))?([Zz]|[+-]\d\d:?\d\d)", re.ASCII
)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_EXPONENT_MAX: Final = 64
_JSON_NAMES: Final[Mapping[type, str]] = {
    dict: "an object",
    list: "an array",
    str: "a text",
    int: "a number",
    Decimal: "a number",
    bool: "true or false",
    type(None): "null",
}


class ForeignTenant(InvalidEvent):
    """An event for a ``tenant`` that the key is not bound to."""

    def __init__(self, tenant: str) -> None:
        super().__init__("tenant", f"this key is not for {tenant[:128]!r}; use one that is")
        self.tenant = tenant


def native_offer(item: object, principal: Principal, spare_key: str | None = None) -> Offer:
    """The offer that a JSON object means. ``spare_key`` is its key where it has none.

    Raises `InvalidEvent`, of which `ForeignTenant` is one.
    """
    if type(item) is not dict:
        raise InvalidEvent("event", f"{json_name(item)} is no event; send an object")
    event: dict[str, Any] = item
    if not event.keys() <= _KNOWN:
        _refuse_unknown(event)
    get = event.get
    word, key, time = get("kind"), get("key"), get("time")
    session, subject, attributes = get("session"), get("subject"), get("attributes")
    kind = _USAGE if word is None else event_kind(word)
    if key is not None and type(key) is not str:
        optional_text(key, "key")
    if kind is EventKind.VOID and (key is None or time is None):
        raise InvalidEvent(
            "key" if key is None else "time",
            "is missing; a void repeats its event: same key, same time, same content",
        )
    event_type, tenant, quantity = get("type"), get("tenant"), get("quantity", 1)
    # What is there most often is told apart without a call; all else is judged by the rules below.
    return _new(
        Offer,
        (
            event_type if type(event_type) is str else required_text(event_type, "type"),
            tenant
            if type(tenant) is str and principal.tenants is None
            else tenant_for(tenant, principal),
            quantity if kind is _USAGE and type(quantity) in _AMOUNTS else quantity_of(event, kind),
            None if time is None else microseconds(time),
            kind,
            None if session is None else optional_text(session, "session"),
            None if subject is None else optional_text(subject, "subject"),
            None if attributes is None else _texts(attributes),
            spare_key if key is None else key,
        ),
    )


def tenant_for(named: object, principal: Principal) -> str:
    """The tenant of an event: the one it names, else the key's only one. Raises `InvalidEvent`."""
    if named is None:
        if principal.sole_tenant is None:
            raise InvalidEvent("tenant", "is missing; name who used it")
        return principal.sole_tenant
    tenant = required_text(named, "tenant")
    if not principal.may_use(tenant):
        raise ForeignTenant(tenant)
    return tenant


def event_kind(word: object) -> EventKind:
    """A kind by the word that callers use; usage without one. Raises `InvalidEvent`."""
    if word is None:
        return EventKind.USAGE
    found = KINDS.get(word) if type(word) is str else None
    if found is None:
        shown = repr(word[:40]) if type(word) is str else json_name(word)
        raise InvalidEvent("kind", f"{shown} is no kind of event; use one of {', '.join(KINDS)}")
    return found


def quantity_of(event: Mapping[str, Any], kind: EventKind) -> int | Decimal | str:
    """How much: 1 unless said, and 0 for what begins, keeps and ends a session."""
    if kind is EventKind.USAGE or kind is EventKind.VOID:
        quantity = event.get("quantity", 1)
        if type(quantity) in _AMOUNTS:
            return quantity  # type: ignore[no-any-return]  # its type was just asked for
        raise InvalidEvent(
            "quantity", f"{json_name(quantity)} is no amount; pass a number or its text"
        )
    if event.get("session") is None and event.get("subject") is None:
        raise InvalidEvent("session", "is missing; pass the session's id, or a subject")
    quantity = event.get("quantity")
    if quantity is not None and scalar_text(quantity) != "0":
        raise InvalidEvent("quantity", "means nothing for a session; leave it out")
    return 0


def microseconds(value: object) -> int | None:
    """A time as callers write it: ISO 8601 with an offset, or integer microseconds UTC.

    What is finer than a microsecond is cut off. Raises `InvalidEvent`.
    """
    if value is None:
        return None
    if type(value) is int:
        return value
    if type(value) is not str:
        raise InvalidEvent(
            "time", f"{json_name(value)} is no time; pass ISO 8601 text or integer microseconds UTC"
        )
    match = _TIME.fullmatch(value)
    if match is None:
        raise InvalidEvent(
            "time",
            f"{value[:40]!r} is no ISO 8601 time with an offset, such as 2026-11-21T10:00:00Z",
        )
    date, clock, fraction, offset = match.groups()
    try:
        second = _second(date, clock, offset)
    except (ValueError, OverflowError) as problem:
        raise InvalidEvent("time", f"{value[:40]!r} is no time: {problem}") from None
    return second if fraction is None else second + int(fraction[:6].ljust(6, "0"))


@lru_cache(maxsize=4096)
def _second(date: str, clock: str, offset: str) -> int:
    """Microseconds UTC of a whole second. Events of a moment share it."""
    moment = datetime.fromisoformat(f"{date}T{clock}{'+00:00' if offset in 'Zz' else offset}")
    passed = moment - _EPOCH
    return (passed.days * 86_400 + passed.seconds) * 1_000_000


def required_text(value: object, field: str) -> str:
    """A text that must be there. Raises `InvalidEvent`."""
    if type(value) is str:
        return value
    if value is None:
        raise InvalidEvent(field, "is missing; pass a text")
    raise InvalidEvent(field, f"{json_name(value)} is not text; pass a text")


def optional_text(value: object, field: str) -> str | None:
    """A text, or None. Raises `InvalidEvent`."""
    if value is None or type(value) is str:
        return value
    raise InvalidEvent(field, f"{json_name(value)} is not text; pass a text")


def scalar_text(value: object) -> str | None:
    """A JSON scalar as exact text; None for what is none of text, number, true and false.

    A number keeps its digits; only an exponent beyond any amount stays an exponent.
    """
    if type(value) is str:
        return value
    if type(value) is bool:
        return "true" if value else "false"
    if type(value) is int:
        return str(value)
    if type(value) is Decimal:
        plain = abs(value.adjusted()) <= _EXPONENT_MAX
        return format(value, "f") if plain else str(value)
    return None


def json_name(value: object) -> str:
    """What a value is, in the words of JSON."""
    return _JSON_NAMES.get(type(value), "this")


def _texts(attributes: object) -> dict[str, str]:
    if type(attributes) is not dict:
        raise InvalidEvent("attributes", f"{json_name(attributes)} are no attributes; pass {{}}")
    members: dict[str, Any] = attributes
    if _TEXT_ONLY.issuperset(map(type, members.values())):
        return members
    exact: dict[str, str] = {}
    for name, value in members.items():
        text = scalar_text(value)
        if text is not None:
            exact[name] = text
        elif value is not None:
            raise InvalidEvent(
                f"attributes.{name[:64]}", f"{json_name(value)} is not text; pass a text"
            )
    return exact


def _refuse_unknown(event: Mapping[str, object]) -> NoReturn:
    unknown = sorted(set(event) - _KNOWN)
    shown = ", ".join(repr(name[:64]) for name in unknown[:5])
    raise InvalidEvent(unknown[0][:64], f"not known here: {shown}; known are {', '.join(MEMBERS)}")

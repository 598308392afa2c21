"""From the arguments of ``track`` to an event that can be sent again safely.

**Keys.** With ``ts`` an event is what it says: its key is ``evt_`` and 32 digits of the SHA-256 of
account, metric, customer, resource, time in microseconds, quantity and meta, so the same call made
again, anywhere, is the same event. The published derivation (16 digits, without quantity and meta)
takes two different events of one moment for one. Without ``ts`` each call is an event of its own,
with a random key. Two equal events of one given moment need keys of their own.

**Time.** It is part of what a key stands for: a key that comes again with other content, another
time included, is a conflict. `RecentKeys` remembers the times of keys, so that a call repeated with
its key and without ``ts`` is a repeat and no conflict.
"""

from __future__ import annotations

import hashlib
import json
import os
import time as clock
from collections import OrderedDict
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from enum import Enum
from typing import Final, NamedTuple

from meterstream.compat.forks import ForkLock
from meterstream.compat.plain import attributes_of, shown
from meterstream.compat.stripemeter_values import StripeMeterError
from meterstream_schemas.events import QUANTITY_MAX, SCALE_MAX

TYPE: Final = "stripemeter.usage"
KEYS_REMEMBERED: Final = 10_000
_QUANTITY_BEYOND: Final = QUANTITY_MAX + 1
_FIELDS: Final = frozenset(
    {"metric", "customer_ref", "quantity", "meta", "resource_id", "ts", "idempotency_key"}
)
_IGNORED: Final = frozenset({"tenant_id", "source"})
"""What the published client puts into its events by itself."""


class Event(NamedTuple):
    """One event of a customer, ready to be recorded."""

    customer: str
    resource: str | None
    quantity: int | Decimal
    time: int
    attributes: dict[str, str]
    key: str
    digest: int
    """Of everything but the time, in this process."""
    time_given: bool


class Standing(Enum):
    """What is known of a key."""

    NEW = "new"
    PENDING = "sent, without an outcome"
    ARRIVED = "in the log"
    CONFLICT = "sent with other content"


def event_of(account: str, told: Mapping[str, object]) -> Event:
    """The event that arguments, or an entry of a batch, describe. Raises `StripeMeterError`."""
    unknown = sorted(str(name) for name in told if name not in _FIELDS | _IGNORED)
    if unknown:
        raise _wrong(f"{unknown[0]} is not a field of an event; leave it out")
    metric, customer = _text(told, "metric"), _text(told, "customer_ref")
    resource = told.get("resource_id")
    if resource is not None and (not isinstance(resource, str) or not resource):
        raise _wrong(f"resource_id: {shown(resource)} is not text; pass a str")
    meta = told.get("meta")
    if meta is not None and not isinstance(meta, Mapping):
        raise _wrong(f"meta: {type(meta).__name__} is not a mapping; pass a dict")
    quantity = _quantity(told.get("quantity"))
    moment = told.get("ts")
    microseconds = clock.time_ns() // 1000 if moment is None else _microseconds(moment)
    attributes = {"metric": metric, **attributes_of(meta, prefix="meta.")[0]}
    if account:
        attributes = {"account": account, **attributes}
    key = told.get("idempotency_key")
    if key is not None and (not isinstance(key, str) or not key):
        raise _wrong(f"idempotency_key: {shown(key)} is not text; pass a str")
    content = (account, metric, customer, resource, quantity, *sorted(attributes.items()))
    if key is None:
        key = f"evt_{os.urandom(16).hex() if moment is None else _derived(content, microseconds)}"
    return Event(
        customer, resource, quantity, microseconds, attributes, key, hash(content),
        time_given=moment is not None,
    )  # fmt: skip


class RecentKeys:
    """The keys of late, at most `KEYS_REMEMBERED`; the oldest are forgotten. Safe from threads."""

    def __init__(self) -> None:
        self._lock: Final = ForkLock()
        self._known: Final[OrderedDict[tuple[str, str], tuple[int, int, bool]]] = OrderedDict()

    def meet(self, event: Event) -> tuple[Standing, Event]:
        """What is known of an event's key, and the event with the time that it was sent with."""
        place = (event.customer, event.key)
        with self._lock:
            known = self._known.get(place)
            if known is None:
                self._known[place] = (event.digest, event.time, False)
                if len(self._known) > KEYS_REMEMBERED:
                    self._known.popitem(last=False)
                return Standing.NEW, event
        digest, time, arrived = known
        if digest != event.digest or (event.time_given and event.time != time):
            return Standing.CONFLICT, event
        return Standing.ARRIVED if arrived else Standing.PENDING, event._replace(time=time)

    def arrived(self, event: Event) -> None:
        """The event is in the log."""
        with self._lock:
            self._known[event.customer, event.key] = (event.digest, event.time, True)

    def refused(self, event: Event) -> None:
        """The event was not taken, so its key stands for nothing."""
        with self._lock:
            self._known.pop((event.customer, event.key), None)


def _derived(content: tuple[object, ...], microseconds: int) -> str:
    """32 digits that are the same wherever the same event is described."""
    account, metric, customer, resource, quantity, *attributes = content
    text = json.dumps(
        [account, metric, customer, resource or "default", microseconds,
         _plain_decimal(quantity), attributes],
        separators=(",", ":"),
    )  # fmt: skip
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _plain_decimal(amount: object) -> str:
    """Digits without an exponent and without zeros at the end; never rounded."""
    text = format(Decimal(str(amount)), "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def _text(told: Mapping[str, object], name: str) -> str:
    value = told.get(name)
    if not isinstance(value, str) or not value:
        raise _wrong(f"{name}: {shown(value)} is not text; pass a str that is not empty")
    return value


def _quantity(value: object) -> int | Decimal:
    """A positive finite number, exact: a float stands for the decimal that it is written as."""
    if isinstance(value, bool) or not isinstance(value, int | float | str | Decimal):
        raise _wrong(f"quantity: {type(value).__name__} is not a number; pass an int or a Decimal")
    if isinstance(value, int):
        exact: int | Decimal = int(value)
    else:
        try:
            exact = Decimal(repr(float(value)) if isinstance(value, float) else value)
        except ArithmeticError:
            raise _wrong(f"quantity: {shown(value)} is not a number") from None
    if (isinstance(exact, Decimal) and not exact.is_finite()) or exact <= 0:
        raise _wrong(f"quantity: {shown(value)} is not positive and finite")
    if exact >= _QUANTITY_BEYOND or Decimal(exact).adjusted() < -SCALE_MAX:
        raise _wrong(f"quantity: {shown(value)} is beyond what can be counted exactly")
    return exact


def _microseconds(moment: object) -> int:
    """Aware datetimes and ISO texts; without a zone they are UTC, as the published client's are."""
    try:
        when = datetime.fromisoformat(moment) if isinstance(moment, str) else moment
        if not isinstance(when, datetime):
            raise _wrong(f"ts: {type(moment).__name__} is not a time; pass a datetime")
        aware = when.replace(tzinfo=UTC) if when.tzinfo is None else when.astimezone(UTC)
    except (ValueError, OverflowError):
        raise _wrong(f"ts: {shown(moment)} is not an ISO 8601 time") from None
    seconds = int(aware.replace(microsecond=0).timestamp())
    return seconds * 1_000_000 + aware.microsecond


def _wrong(message: str) -> StripeMeterError:
    return StripeMeterError(message, 400)

"""Which keys were used of late, and for what: so that a repeat to the same process is known as one.

Bounded memory, and nothing on disk: the worker's keys are the truth (DESIGN section 10), and what
is forgotten here is found there. A key is under way until the log has its event; then it is 40
bytes beside its name.
"""

from __future__ import annotations

import marshal
import struct
from hashlib import blake2b
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

from meterstream_aggregator.intake import CONTENT_BYTES
from meterstream_schemas.events import EventKind
from meterstream_schemas.quantity import parse_amount
from meterstream_services.gateway.port import Offer

if TYPE_CHECKING:
    from meterstream_services.gateway.waiting import Request

Waiter: TypeAlias = "tuple[Request, int]"
"""A call, and the place of the offer in it."""

KEYS_REMEMBERED_MAX: Final = 200_000
"""Keys remembered at most, the latest used: about 50 MB."""

_KEPT: Final = struct.Struct(f"<{CONTENT_BYTES}sqIq")
_EMPTY_HASH: Final = blake2b(digest_size=CONTENT_BYTES)
"""To be copied: a quarter of what making one costs."""
_MARSHAL_PLAIN: Final = 2
"""The last format whose bytes depend on values alone, not on which of them are one object."""
BOUNDARIES: Final = frozenset(
    {EventKind.SESSION_START, EventKind.SESSION_HEARTBEAT, EventKind.SESSION_END}
)
"""Kinds without an amount."""
CODES: Final = {kind: code for code, kind in enumerate(EventKind)}
"""Kinds as the SDK takes them."""
USAGE: Final = EventKind.USAGE
"""By a name of its own: an enum's attributes and hashes cost a third of a microsecond each."""
USAGE_CODE: Final = CODES[USAGE]
_CONTENT_CODES: Final = {**CODES, EventKind.VOID: CODES[EventKind.USAGE]}


class Kept(NamedTuple):
    """What is known of a key whose event the log has."""

    digest: bytes
    time: int
    partition: int
    offset: int


class Underway:
    """A key whose event has a number and no outcome yet. ``waiters`` want to know it."""

    __slots__ = ("digest", "keys", "name", "number", "time", "waiters")

    def __init__(  # noqa: PLR0917 - by position: keywords cost, once an event
        self, keys: Keys, name: str, number: int, digest: bytes, time: int, waiter: Waiter
    ) -> None:
        self.keys = keys
        self.name = name
        self.number = number
        self.digest = digest
        self.time = time
        self.waiters = [waiter]


class Keys:
    """Keys by name, in two generations: the older is forgotten when the younger is full."""

    def __init__(self, keys_max: int = KEYS_REMEMBERED_MAX) -> None:
        self._size: Final = max(1, keys_max // 2)
        self._young: dict[str, bytes | Underway] = {}
        self._old: dict[str, bytes | Underway] = {}

    def __len__(self) -> int:
        return len(self._young) + len(self._old)

    def find(self, name: str) -> Kept | Underway | None:
        """What is known of a key."""
        found = self._young.get(name)
        if found is None:
            found = self._old.pop(name, None)
            if found is None:
                return None
            self._put(name, found)
        return Kept(*_KEPT.unpack(found)) if type(found) is bytes else found  # type: ignore[return-value]  # what is no bytes is under way

    def begin(self, name: str, number: int, digest: bytes, time: int, waiter: Waiter) -> Underway:
        """A key's event was numbered."""
        underway = Underway(self, name, number, digest, time, waiter)
        if len(self._young) >= self._size:
            self._old, self._young = self._young, {}
        self._young[name] = underway
        return underway

    def keep(self, underway: Underway, partition: int, offset: int) -> None:
        """The log has a key's event."""
        kept = _KEPT.pack(underway.digest, underway.time, partition, offset)
        young, name = self._young, underway.name
        if young.get(name) is underway:
            young[name] = kept
        elif self._old.get(name) is underway:
            self._old[name] = kept

    def forget(self, underway: Underway) -> None:
        """A key's event came to nothing: the key is free."""
        for generation in (self._young, self._old):
            if generation.get(underway.name) is underway:
                del generation[underway.name]

    def _put(self, name: str, what: bytes | Underway) -> None:
        if len(self._young) >= self._size:
            self._old, self._young = self._young, {}
        self._young[name] = what


def name_of(tenant: str, key: str) -> str:
    """One text for both. Neither can hold the separator: whatever has it was refused."""
    return f"{tenant}\0{key}"


_Plain: TypeAlias = "str | int | tuple[str, str] | None"


def digest_of(offer: Offer, time: int) -> bytes:
    """Equal for offers of equal content, as `meterstream_aggregator.intake.content_hash` has it.

    For an offer that passed the checks of the SDK. Several times as fast as that function, whose
    argument it has not: an event on the wire. A property test holds the two together.
    """
    event_type, _, quantity, _, kind, session, subject, attributes, _ = offer
    code = USAGE_CODE if kind is USAGE else _CONTENT_CODES[kind]
    if kind is not USAGE and kind in BOUNDARIES:
        amount, scale = 0, 0
    elif type(quantity) is int:
        amount, scale = quantity, 0
    else:
        amount, scale = parse_amount(quantity)
    content: tuple[_Plain, ...]
    if attributes:
        items = sorted(attributes.items())
        content = (code, event_type, time, amount, scale, session, subject, *items)
    else:
        content = (code, event_type, time, amount, scale, session, subject)
    content_hash = _EMPTY_HASH.copy()
    content_hash.update(marshal.dumps(content, _MARSHAL_PLAIN))
    return content_hash.digest()

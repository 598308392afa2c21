"""Which keys were used of late, and for what: so that a repeat to the same process is known as one.

Bounded memory, and nothing on disk: the worker's keys are the truth (DESIGN section 10), and what
is forgotten here is found there. A key is under way until the log has its event; then it is 32
bytes beside its name. Of offers that were numbered at once, a key under way is no more than its
waiter, whose request has the rest.

Equal content is known by Python's own hash of its bytes: 64 bits with a secret of the process,
which nobody can aim at, and which never leaves the process.
"""

from __future__ import annotations

import marshal
import struct
from functools import lru_cache
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

from meterstream.encoding import NO_ATTRIBUTES, attributes_map, long, text
from meterstream_schemas.events import EventKind
from meterstream_schemas.quantity import parse_amount
from meterstream_services.gateway.port import Offer

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from meterstream.encoding import Entry
    from meterstream_services.gateway.waiting import Request

Waiter: TypeAlias = "tuple[Request, int]"
"""A call, and the place of the offer in it."""

KEYS_REMEMBERED_MAX: Final = 200_000
"""Keys remembered at most, the latest used: about 50 MB."""

_HEADS_CACHED: Final = 4_096
_FRAGMENTS_CACHED: Final = 256
_KEPT: Final = struct.Struct("<qqIq")
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

    digest: int
    time: int
    partition: int
    offset: int


class Underway:
    """A key whose event has a number and no outcome yet. ``waiters`` want to know it."""

    __slots__ = ("digest", "keys", "name", "number", "time", "waiters")

    def __init__(  # noqa: PLR0917 - by position: keywords cost, once an event
        self, keys: Keys, name: str, number: int, digest: int, time: int, waiter: Waiter
    ) -> None:
        self.keys = keys
        self.name = name
        self.number = number
        self.digest = digest
        self.time = time
        self.waiters = [waiter]

    @classmethod
    def of(cls, keys: Keys, name: str, waiter: Waiter) -> Underway:
        """Of an offer that was numbered with others at once."""
        request, place = waiter
        entry = request.entries[place]
        made = cls(keys, name, request.numbers[place], digest_of_entry(entry), entry[4], waiter)
        if request.fates[place] is not None:  # It does not wait any more.
            made.waiters = []
        return made


class Keys:
    """Keys by name, in two generations: the older is forgotten when the younger is full."""

    def __init__(self, keys_max: int = KEYS_REMEMBERED_MAX) -> None:
        self._size: Final = max(1, keys_max // 2)
        self._young: dict[str, bytes | Waiter | Underway] = {}
        self._old: dict[str, bytes | Waiter | Underway] = {}

    def __len__(self) -> int:
        return len(self._young) + len(self._old)

    def find(self, name: str) -> Kept | Underway | None:
        """What is known of a key. One under way is told its outcome only after `share`."""
        found = self._young.get(name)
        if found is None:
            found = self._old.pop(name, None)
            if found is None:
                return None
            self._put(name, found)
        if isinstance(found, Underway):
            return found
        if isinstance(found, bytes):
            return Kept(*_KEPT.unpack(found))
        return Underway.of(self, name, found)

    def share(self, underway: Underway) -> None:
        """A key that was found under way is to be known by more than its first waiter."""
        self._young[underway.name] = underway

    def are_new(self, names: Sequence[str]) -> bool:
        """Whether nothing is known of any of these keys, no two are one, and there is room."""
        return (
            len(names) <= self._size
            and len(set(names)) == len(names)
            and self._young.keys().isdisjoint(names)
            and self._old.keys().isdisjoint(names)
        )

    def begin_many(self, names: Sequence[str], waiters: Sequence[Waiter]) -> None:
        """The events of keys that `are_new` were numbered at once."""
        if len(self._young) + len(names) > self._size:
            self._old, self._young = self._young, {}
        self._young.update(zip(names, waiters, strict=True))

    def keep_many(self, arrived: Iterable[tuple[Waiter, int, int]]) -> None:
        """The log has events of `begin_many`, each in a partition at an offset."""
        young, old, pack, dumps = self._young, self._old, _KEPT.pack, marshal.dumps
        for waiter, partition, offset in arrived:
            request, place = waiter
            assert request.names is not None
            name, entry = request.names[place], request.entries[place]
            # As `digest_of_entry`, in place: a call costs, once an event.
            digest = hash((dumps(entry[4:9], _MARSHAL_PLAIN), entry[9], entry[0]))
            kept = pack(digest, entry[4], partition, offset)
            if young.get(name) is waiter:
                young[name] = kept
            elif old.get(name) is waiter:
                old[name] = kept

    def begin(self, name: str, number: int, digest: int, time: int, waiter: Waiter) -> Underway:
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

    def _put(self, name: str, what: bytes | Waiter | Underway) -> None:
        if len(self._young) >= self._size:
            self._old, self._young = self._young, {}
        self._young[name] = what


def name_of(tenant: str, key: str) -> str:
    """One text for both. Neither can hold the separator: whatever has it was refused."""
    return f"{tenant}\0{key}"


def digest_of(offer: Offer, time: int) -> int:
    """Equal for offers of one tenant and equal content, as the worker's `content_hash` has it.

    For an offer that passed the checks of the SDK. A property test holds the two together.
    """
    event_type, tenant, quantity, _, kind, session, subject, attributes, _ = offer
    code = USAGE_CODE if kind is USAGE else _CONTENT_CODES[kind]
    if kind is not USAGE and kind in BOUNDARIES:
        amount, scale = 0, 0
    elif type(quantity) is int:
        amount, scale = quantity, 0
    else:
        amount, scale = parse_amount(quantity)
    fragment = _fragment(tuple(sorted(attributes.items()))) if attributes else NO_ATTRIBUTES
    facts = (time, amount, scale, session, subject)
    head = _head(code, tenant, event_type)
    return hash((marshal.dumps(facts, _MARSHAL_PLAIN), fragment, head))


@lru_cache(_HEADS_CACHED)
def _head(code: int, tenant: str, event_type: str) -> bytes:
    return long(code) + text(tenant) + text(event_type)


@lru_cache(_FRAGMENTS_CACHED)
def _fragment(items: tuple[tuple[str, str], ...]) -> bytes:
    return attributes_map(dict(items))


def digest_of_entry(entry: Entry) -> int:
    """As `digest_of`, of an entry of usage that `meterstream.columns` made."""
    return hash((marshal.dumps(entry[4:9], _MARSHAL_PLAIN), entry[9], entry[0]))

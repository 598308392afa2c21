"""Sums of equal calls over a short while: many calls of a hot counter become one event.

Calls are equal when type, tenant, subject, session, attributes and interval are. The event's
quantity is their exact sum, its attribute ``events`` their exact number, and its time that of the
first. A meter that counts events has to sum ``attributes.events`` instead. What a sum cannot
stand for is refused with it: a time or a key of one call.

Intervals begin at whole UTC minutes and end at the next one at the latest, so a sum belongs to one
minute, and to every window that is made of minutes. The interval's sums are recorded by the
background thread when it is over, and by flush and close; a sum that would leave 64 bits is
recorded before.

A process that is killed loses up to one interval, and no number tells: numbers are spent when sums
are recorded. Where each call must be accounted for, do not coalesce.

How it stays exact without a lock that an interrupted caller could hold:

1. a call appends to its key's queue, one step of the interpreter, and looks afterwards whether the
   key was closed meanwhile; if so it empties the queue itself;
2. queues are emptied under a lock per key, by the background thread, by flush and close, and by a
   caller whose queue grew very long. Only flush and close wait for that lock, within their time;
3. a key that is idle, or whose meter closes, is closed first and emptied afterwards. So whatever
   (1) appends is seen by (1), by (3), or by whoever holds the lock when (1) finds it taken.

An exception that a signal handler throws amid `flush` or `close` can lose the call in hand.
"""

from __future__ import annotations

from collections import deque
from contextlib import suppress
from itertools import chain
from math import inf
from time import monotonic, time_ns
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from meterstream import threads
from meterstream.encoding import USAGE
from meterstream.intake import exact_text
from meterstream.numbering import Tallies
from meterstream.summing import Key
from meterstream_schemas.checks import check_attributes
from meterstream_schemas.errors import InvalidEvent
from meterstream_schemas.events import (
    ATTRIBUTES_MAX,
    ID_BYTES_MAX,
    QUANTITY_MAX,
    QUANTITY_MIN,
    TENANT_BYTES_MAX,
    TYPE_BYTES_MAX,
)
from meterstream_schemas.quantity import parse_amount, to_decimal

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from decimal import Decimal

    from meterstream.incarnation import Incarnation
    from meterstream.summing import Sum

KEYS_MAX: Final = 10_000
"""Keys that are held at once. A call beyond is recorded by itself, with ``events`` 1."""
ATTRIBUTES_BYTES_MAX: Final = 1_024
"""Calls with longer attributes are recorded by themselves, too."""
SECONDS_MAX: Final = 60
EVENTS: Final = "events"

_DIRECT: Final = "direct"
RING_EVERY: Final = 4_096
QUEUE_MAX: Final = 65_536
_LEAST_REST_SECONDS: Final = 0.02


class Coalesced(NamedTuple):
    """How coalescing is used."""

    keys: int
    """Keys that are held now."""
    direct: int
    """Calls recorded by themselves: there were too many keys, or the attributes were too long."""


class Sums:
    """All sums of one incarnation. A `meterstream.incarnation.Chore`. Safe from any thread."""

    def __init__(self, incarnation: Incarnation) -> None:
        self.incarnation: Final = incarnation
        self._intake: Final = incarnation.intake
        self._keys: Final[dict[tuple[Any, ...], Key]] = {}
        self._pressing: Final[deque[Key]] = deque()
        self._direct: Final = Tallies((_DIRECT,))
        self._due_at = inf

    def find(  # noqa: PLR0917 - by position: calls and keywords cost
        self,
        seconds: float,
        event_type: object,
        tenant: object,
        session: object,
        subject: object,
        attributes: Any,  # noqa: ANN401 - whatever the host passed
    ) -> Key | None:
        """The key of such calls; None when they are to be recorded by themselves.

        Raises `InvalidEvent`, and whatever an argument's own methods raise.
        """
        try:
            told = attributes
            if type(attributes) is dict:
                told = frozenset(attributes.items()) or None
            return self._keys[seconds, event_type, tenant, session, subject, told]
        except (KeyError, TypeError):
            return self._make(seconds, event_type, tenant, session, subject, attributes)

    def add(  # noqa: PLR0917 - see find
        self,
        seconds: float,
        event_type: object,
        tenant: object,
        quantity: object,
        session: object,
        subject: object,
        attributes: Any,  # noqa: ANN401 - see find
    ) -> bool:
        """One call. Answers as ``record`` does, and raises as `find` does."""
        key = self.find(seconds, event_type, tenant, session, subject, attributes)
        if key is not None:
            return self.put(key, quantity)
        amount = parse_amount(quantity)
        self._direct.add(_DIRECT)
        said = (event_type, tenant, session, subject, {**(attributes or {}), EVENTS: "1"})
        return self._record(said, to_decimal(*amount), None)

    def put(self, key: Key, quantity: object) -> bool:
        """One call of a known key."""
        queue = key.queue
        if type(quantity) is int and QUANTITY_MIN <= quantity <= QUANTITY_MAX:
            queue.append((time_ns(), quantity, 0))
        else:
            amount, scale = parse_amount(quantity)
            queue.append((time_ns(), amount, scale))
        return self.crowded(key, len(queue))

    def crowded(self, key: Key, waiting: int) -> bool:
        """See to it that a queue is emptied: at once, soon, or in its time."""
        if not key.open:
            return self._work(key, everything=True, wait_seconds=0)
        if not waiting % RING_EVERY:
            self._press(key)
        if waiting > QUEUE_MAX:
            self._work(key, everything=False, wait_seconds=0)
        return True

    def due(self, now: float) -> float:
        """See `meterstream.incarnation.Chore`."""
        pressing: set[Key] = set()
        while self._pressing:
            pressing.add(self._pressing.popleft())
        for key in pressing:
            self._work_quietly(key, everything=False, wait_seconds=0)
        if now >= self._due_at:
            kinds: dict[int, Key] = {}
            for key in tuple(self._keys.values()):
                self._look_after(key)
                kinds[key.interval] = key
            self._due_at = _first_end(kinds.values(), now)
        elif pressing:
            self._due_at = min(self._due_at, _first_end(pressing, now))
        return self._due_at

    def drain(self, patience_seconds: float) -> None:
        """See `meterstream.incarnation.Chore`."""
        patience = monotonic() + patience_seconds
        for key in tuple(self._keys.values()):
            if self._is_closed():
                key.open = False
            wait_seconds = max(0.0, patience - monotonic())
            self._work_quietly(key, everything=True, wait_seconds=wait_seconds)

    def status(self) -> Coalesced:
        """How many keys there are, and how many calls did not fit."""
        return Coalesced(len(self._keys), self._direct[_DIRECT])

    def _make(  # noqa: PLR0917 - see find
        self,
        seconds: object,
        event_type: object,
        tenant: object,
        session: object,
        subject: object,
        attributes: Any,  # noqa: ANN401 - see find
    ) -> Key | None:
        interval = _checked_interval(seconds)
        exact_type = exact_text(event_type, field="type", bytes_max=TYPE_BYTES_MAX)
        if tenant is None:
            raise InvalidEvent(
                "tenant", "is missing; pass tenant=... or use meter.context(tenant=...)"
            )
        exact_tenant = exact_text(tenant, field="tenant", bytes_max=TENANT_BYTES_MAX)
        if session is not None:
            session = exact_text(session, field="session", bytes_max=ID_BYTES_MAX)
        if subject is not None:
            subject = exact_text(subject, field="subject", bytes_max=ID_BYTES_MAX)
        exact = {} if attributes is None else _checked_attributes(attributes)
        name = (
            *(seconds, exact_type, exact_tenant, session, subject),
            frozenset(exact.items()) or None,
        )
        known = self._keys.get(name)
        if known is not None:
            return known
        size = sum(len(name.encode()) + len(value.encode()) for name, value in exact.items())
        if len(self._keys) >= KEYS_MAX or size > ATTRIBUTES_BYTES_MAX or self._is_closed():
            return None
        made = Key(name, interval, (exact_type, exact_tenant, session, subject, exact))
        key = self._keys.setdefault(name, made)
        if self._is_closed():  # Looked at again: close may not have seen this key.
            key.open = False
        self._press(key)
        return key

    def _is_closed(self) -> bool:
        return self._intake.closed

    def _press(self, key: Key) -> None:
        self._pressing.append(key)
        self.incarnation.wake()

    def _look_after(self, key: Key) -> None:
        """What is due; and a key that nobody used since the last look is closed."""
        idle = not key.queue and not key.sums
        if idle and key.idle:
            key.open = False
            self._keys.pop(key.name, None)
        key.idle = idle
        self._work_quietly(key, everything=not key.open, wait_seconds=0)

    def _work_quietly(self, key: Key, *, everything: bool, wait_seconds: float) -> None:
        with suppress(Exception):  # In strict; counted already, there is nobody to raise to.
            self._work(key, everything=everything, wait_seconds=wait_seconds)

    def _work(self, key: Key, *, everything: bool, wait_seconds: float) -> bool:
        """Empty the queue and record the sums that are due, or all. Whether all were taken."""
        taken, problem = True, None
        me = threads.get_ident()
        while key.holder != me and threads.acquire_for_host(key.lock, wait_seconds):
            try:
                key.holder = me
                all_of_it = everything or not key.open
                for held in chain(key.fold(), key.due(everything=all_of_it)):
                    try:
                        taken = self._record_sum(key, held) and taken
                    except Exception as raised:  # noqa: BLE001 - in strict; the others go first
                        problem = raised
            finally:
                key.holder = None
                key.lock.release()
            if key.open or not (key.queue or key.sums):
                break  # Else somebody found the lock taken, and left a call of a closed key to us.
        if problem is not None:
            raise problem
        return taken

    def _record_sum(self, key: Key, held: Sum) -> bool:
        *said, attributes = key.said
        quantity = to_decimal(held.total, held.scale) if held.scale else held.total
        told = {**attributes, EVENTS: str(held.count)}
        return self._record((*said, told), quantity, held.first // 1000)

    def _record(self, said: tuple[Any, ...], quantity: Decimal | int, time: int | None) -> bool:
        event_type, tenant, session, subject, attributes = said
        try:
            number = self._intake.take(
                USAGE, event_type, tenant, quantity, time, session, subject, attributes, None
            )
            return number > 0
        except Exception as problem:  # noqa: BLE001 - nothing may reach the host
            return self.incarnation.refused(problem, event_type)


def sums_of(incarnation: Incarnation) -> Sums:
    """The sums of an incarnation; made at first use. Two made at once both do their work."""
    for chore in incarnation.chores:
        if isinstance(chore, Sums):
            return chore
    sums = Sums(incarnation)
    incarnation.chores.append(sums)
    return sums


def check_single(time: object, key: object) -> None:
    """Refuse what belongs to one call and not to a sum. Raises `InvalidEvent`."""
    if time is not None:
        raise InvalidEvent(
            "time", "cannot be given with coalesce, whose sums have the time of their first call"
        )
    if key is not None:
        raise InvalidEvent("key", "cannot be given with coalesce, whose sums are many calls")


def _first_end(keys: Iterable[Key], now: float) -> float:
    """When the first interval of these keys ends, on the monotonic clock."""
    at = time_ns()
    rests = ((key.window(at)[1] - at) / 10**9 for key in keys)
    return now + max(min(rests, default=inf), _LEAST_REST_SECONDS)


def _checked_interval(seconds: object) -> int:
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        raise InvalidEvent("coalesce", f"{type(seconds).__name__} is not a number of seconds")
    if not 0.001 <= seconds <= SECONDS_MAX:
        raise InvalidEvent(
            "coalesce", f"{seconds!r} is not within 0.001 and {SECONDS_MAX}; pass seconds"
        )
    return int(seconds * 10**9)


def _checked_attributes(attributes: object) -> Mapping[str, str]:
    exact = dict(check_attributes(attributes))
    if EVENTS in exact:
        raise InvalidEvent(
            "attributes.events", "is told by coalesce itself; use another name for this attribute"
        )
    if len(exact) >= ATTRIBUTES_MAX:
        raise InvalidEvent(
            "attributes", f"{len(exact)} of them; with coalesce at most {ATTRIBUTES_MAX - 1}"
        )
    return exact

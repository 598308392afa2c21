"""What the door does with offers before it waits: known keys, checks, numbers.

Belongs to one event loop, waits for nothing and does no I/O; steps 1 to 3 of
`meterstream_services.gateway.door`. All offers go into the intake of one meter, and no other
thread puts events there, so its room is known before a number is spent.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from itertools import repeat
from typing import TYPE_CHECKING, Final, TypeAlias

from meterstream.caches import TwoGenerations
from meterstream.columns import Columns, take_columns
from meterstream.encoding import LANE, SEQUENCE
from meterstream.intake import Intake
from meterstream_schemas.errors import InvalidEvent
from meterstream_schemas.events import EVENT_BYTES_MAX, EventKind
from meterstream_schemas.placement import lane_of
from meterstream_services.gateway.port import Fate, Offer, Ruling
from meterstream_services.gateway.remembering import (
    BOUNDARIES,
    CODES,
    KEYS_REMEMBERED_MAX,
    USAGE,
    USAGE_CODE,
    Kept,
    Keys,
    Underway,
    Waiter,
    digest_of,
    name_of,
)
from meterstream_services.gateway.waiting import UNAVAILABLE, Request

if TYPE_CHECKING:
    from meterstream.incarnation import Incarnation

WAITING_EVENTS_MAX: Final = 100_000
"""Events that calls wait for at most; more are unavailable at once."""
_log: Final = logging.getLogger("meterstream.gateway")

LANE_BITS: Final = 8
"""A number here is the sequence and, in its lowest bits, the lane."""
_MANY: Final = 4
"""From so many offers on, columns are cheaper."""
_NONE: Final = {type(None)}
_TENANTS_CACHED: Final = 65_536
_SLOTS_MAX: Final = 1 + EVENT_BYTES_MAX // 1_024
"""Of the meter's buffer, for one event with attributes."""

Awaited: TypeAlias = "Waiter | Underway"


class Offering:
    """Takes offers into an incarnation. ``waiting``: what calls wait for, by number."""

    def __init__(self, incarnation: Incarnation, *, keys_max: int = KEYS_REMEMBERED_MAX) -> None:
        self.closed = False
        self.waiting: Final[dict[int, Awaited]] = {}
        self.keys: Final = Keys(keys_max)
        self.voids: Final = Keys(keys_max)
        self._incarnation: Final = incarnation
        self._intake: Final = incarnation.intake
        self._lanes: Final = TwoGenerations[str, int](_TENANTS_CACHED)
        self._checking: Final = _checking_intake()

    def offered(self, offers: Sequence[Offer]) -> Request:
        """Number what can be numbered. The answer has fates, and numbers that are waited for."""
        request = Request(len(offers))
        room = self._room(len(offers))
        if len(offers) < _MANY or not self._at_once(request, offers, room):
            self._one_by_one(request, offers, room)
        return request

    def _at_once(self, request: Request, offers: Sequence[Offer], room: int) -> bool:
        """Number all as columns. False, and nothing is done: one of them needs more than that."""
        times: Sequence[int | None]
        types, tenants, quantities, times, kinds, sessions, subjects, attributes, keys = zip(
            *offers, strict=False
        )
        if kinds.count(USAGE) < len(offers) or len(offers) > room:
            return False
        names: list[str] | None = None
        if set(map(type, keys)) != _NONE:
            names = [f"{tenant}\0{key}" for tenant, key in zip(tenants, keys, strict=False)]
            if not self.keys.are_new(names):
                return False
        if None in times:
            now = time.time_ns() // 1000
            times = [now if at is None else at for at in times]
        columns = Columns(types, tenants, quantities, times, sessions, subjects, attributes, keys)
        entries = take_columns(self._intake, USAGE_CODE, columns)
        if entries is None:
            return False
        request.entries, request.names, request.left = entries, names, len(entries)
        request.numbers = [entry[SEQUENCE] << LANE_BITS | entry[LANE] for entry in entries]
        waiters = list(zip(repeat(request), range(len(entries)), strict=False))
        self.waiting.update(zip(request.numbers, waiters, strict=False))
        if names is not None:
            self.keys.begin_many(names, waiters)
        if self._intake.drowsy:
            self._incarnation.wake()
        return True

    def _one_by_one(self, request: Request, offers: Sequence[Offer], room: int) -> None:
        fates, numbers, waiting = request.fates, request.numbers, self.waiting
        take, find, begin = self._intake.take, self.keys.find, self.keys.begin
        lanes = self._lanes.young
        now = time.time_ns() // 1000
        # The meter's thread is woken once, behind the last: it wants the interpreter, as this does.
        intake = self._intake
        if was_drowsy := intake.drowsy:
            intake.drowsy = False
        for place, offer in enumerate(offers):
            event_type, tenant, quantity, at, kind, session, subject, attributes, key = offer
            room -= _SLOTS_MAX if attributes else 1
            name = None if key is None else name_of(tenant, key)
            if room < 0 or kind is not USAGE or (name is not None and find(name) is not None):
                fates[place] = self._with_care(request, place, offer, now, has_room=room >= 0)
                continue
            if at is None:
                at = now
            try:
                sequence = take(
                    USAGE_CODE, event_type, tenant, quantity, at, session, subject, attributes, key
                )
            except Exception as problem:  # noqa: BLE001 - whatever an offer holds, it is refused
                fates[place] = _refused(problem)
                continue
            lane = lanes.get(tenant)
            number = sequence << LANE_BITS | (self._lane(tenant) if lane is None else lane)
            numbers[place] = number
            request.left += 1
            waiter = (request, place)
            waiting[number] = (
                waiter if name is None else begin(name, number, digest_of(offer, at), at, waiter)
            )
        if was_drowsy:
            self._incarnation.wake()

    def _room(self, offers: int) -> int:
        """How many slots of the buffer may be filled now. An event beyond it would be a hole."""
        too_many = len(self.waiting) + offers > WAITING_EVENTS_MAX
        if self.closed or too_many or self._incarnation.is_stuck:
            return 0
        return self._intake.room

    def _with_care(  # noqa: PLR0911 - one line a rule, in their order
        self, request: Request, place: int, offer: Offer, now: int, *, has_room: bool
    ) -> Fate | None:
        """As `offered` for one offer, in its order: known key, no room, number."""
        if offer.kind not in CODES or offer.kind in {EventKind.MARK, EventKind.UNKNOWN}:
            why = f"{offer.kind!s:.40} cannot be offered"
            return Fate(Ruling.REFUSED, field="kind", reason=why)
        flaw = self._checked(offer)
        if flaw is not None:
            return flaw
        keys = self.voids if offer.kind is EventKind.VOID else self.keys
        name = None if offer.key is None else name_of(offer.tenant, offer.key)
        known = None if name is None else keys.find(name)
        if offer.kind is EventKind.VOID:
            original = None if name is None else self.keys.find(name)
            flaw = _flaw_of_void(offer, original or known)
            if flaw is not None:
                return flaw
            if original is not None:
                if offer.time is None:
                    offer = offer._replace(time=original.time)
                if _is_other(offer, original):
                    return Fate(Ruling.CONFLICT)
        if known is not None:
            return self._repeated(request, place, offer, known)
        if not has_room:
            return UNAVAILABLE
        self._number(request, place, offer, now if offer.time is None else offer.time, keys)
        return None

    def _number(self, request: Request, place: int, offer: Offer, at: int, keys: Keys) -> None:
        """Number an offer that was checked."""
        event_type, tenant, quantity, _, kind, session, subject, attributes, key = offer
        if kind in BOUNDARIES:
            quantity = 0
        sequence = self._intake.take(
            CODES[kind], event_type, tenant, quantity, at, session, subject, attributes, key
        )
        number = sequence << LANE_BITS | self._lane(tenant)
        request.numbers[place] = number
        request.left += 1
        waiter = (request, place)
        self.waiting[number] = (
            waiter
            if key is None
            else keys.begin(name_of(tenant, key), number, digest_of(offer, at), at, waiter)
        )

    def _repeated(
        self, request: Request, place: int, offer: Offer, known: Kept | Underway
    ) -> Fate | None:
        """The key was used before."""
        if _is_other(offer, known):
            return Fate(Ruling.CONFLICT)
        if isinstance(known, Kept):
            return Fate(Ruling.DUPLICATE, known.partition, known.offset)
        request.numbers[place] = known.number
        request.left += 1
        known.waiters.append((request, place))
        known.keys.share(known)
        self.waiting[known.number] = known
        return None

    def _checked(self, offer: Offer) -> Fate | None:
        """What is wrong with an offer, which is not numbered for that."""
        event_type, tenant, quantity, at, kind, session, subject, attributes, key = offer
        if kind in BOUNDARIES:
            quantity = 0
        try:
            self._checking.take(
                CODES[kind], event_type, tenant, quantity, at, session, subject, attributes, key
            )
        except Exception as problem:  # noqa: BLE001 - whatever an offer holds, it is refused
            return _refused(problem)
        return None

    def _lane(self, tenant: str) -> int:
        lane = self._lanes.young.get(tenant)
        if lane is None:
            lane = self._lanes.older(tenant)
            if lane is None:
                lane = lane_of(tenant)
                self._lanes.put(tenant, lane)
        return lane


def _is_other(offer: Offer, known: Kept | Underway) -> bool:
    return digest_of(offer, known.time if offer.time is None else offer.time) != known.digest


def _flaw_of_void(offer: Offer, original: Kept | Underway | None) -> Fate | None:
    """A VOID repeats an event: under its key, and at its time."""
    if offer.key is None:
        why = "is missing; pass the key of the event that is taken back"
        return Fate(Ruling.REFUSED, field="key", reason=why)
    if offer.time is None and original is None:
        why = "is missing; pass the time of the event that is taken back"
        return Fate(Ruling.REFUSED, field="time", reason=why)
    return None


def _refused(problem: Exception) -> Fate:
    if isinstance(problem, InvalidEvent):
        return Fate(Ruling.REFUSED, field=problem.field, reason=problem.problem)
    # No route gives such an offer: a fault of ours must not look like the caller's alone.
    _log.error("an offer is refused for a fault that is not its own", exc_info=problem)
    return Fate(Ruling.REFUSED, reason=f"cannot be read: {type(problem).__name__}")


def _checking_intake() -> Intake:
    """Checks what it is given, and keeps none of it: it is full."""
    intake = Intake(
        capacity=1, overflow="drop_newest", block_seconds=0, strict=False, wake=lambda: None
    )
    intake.buffer.append(None)
    return intake

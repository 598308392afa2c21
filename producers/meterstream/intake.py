"""From the arguments of ``record`` to a numbered entry in the buffer: the caller's side.

Runs in whatever thread, signal handler or finalizer the host calls from, so nothing here takes a
lock, waits (unless the policy is ``block``) or does I/O. Steps, in order: (1) check every
argument; (2) spend the number; (3) append, or apply the overflow policy. What fails in (1) has no
number; what fails in (3) leaves a number that the aggregator will report as missing.

Memory is bounded by slots: the buffer has ``capacity`` of them, an event takes one, and one more
for each KiB of attributes. A slot is about 240 bytes with attributes that events share, and never
more than 2.25 KiB (``benchmarks/offline.py``).
"""

from __future__ import annotations

import time as clock
from collections import deque
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Final, Literal, TypeAlias, cast

from meterstream.caches import TwoGenerations
from meterstream.complaints import describe
from meterstream.encoding import NO_ATTRIBUTES, Entry, Series, attributes_map
from meterstream.errors import BufferFull, MeterClosed
from meterstream.numbering import Numbering, Tallies
from meterstream.threads import get_ident
from meterstream.waking import Gate
from meterstream_schemas.checks import check_attributes, check_text, check_time, check_value
from meterstream_schemas.errors import InvalidEvent
from meterstream_schemas.events import (
    ATTRIBUTE_NAME_BYTES_MAX,
    ATTRIBUTE_VALUE_BYTES_MAX,
    ATTRIBUTES_MAX,
    EVENT_BYTES_MAX,
    ID_BYTES_MAX,
    QUANTITY_MAX,
    QUANTITY_MIN,
    TENANT_BYTES_MAX,
    TIME_MAX_MICROSECONDS,
    TYPE_BYTES_MAX,
)
from meterstream_schemas.placement import lane_of
from meterstream_schemas.quantity import parse_amount

Overflow: TypeAlias = Literal["drop_newest", "block", "raise"]

SERIES_CACHED: Final = 8_192
FRAGMENTS_CACHED: Final = 4_096
FRAGMENT_CACHED_BYTES_MAX: Final = 512
_ATTRIBUTES_BYTES_MAX: Final = EVENT_BYTES_MAX - 1_384
"""Everything else of an event fits into 1,384 bytes, whatever it is."""
SLOT_BYTES: Final = 1_024
"""Attributes that take no slot of their own."""
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_BLOCK_STEP_SECONDS: Final = 0.002

INVALID: Final = "invalid"
BUFFER_FULL: Final = "buffer_full"
CLOSED: Final = "closed"


class Barrier:
    """Stands in the buffer behind what was recorded before; reached when all that is settled.

    ``on_disk``: reached already when all that is on disk. ``told`` is called in the background
    thread then, or at its end, and must neither wait nor raise.
    """

    def __init__(self, *, on_disk: bool = False, told: Callable[[], None] | None = None) -> None:
        self.on_disk: Final = on_disk
        self.reached: Final = Gate()
        self.ticket = 0
        self.settled = False
        self._told: Final = told

    def open(self, *, settled: bool) -> None:
        """Let everybody pass who waits here, with the news whether all before it is settled."""
        self.settled = settled
        self.reached.open()
        if self._told is not None:
            self._told()


class Claims:
    """Stands in the buffer until the highest numbers of some lanes are to be told as marks."""

    def __init__(self, highest: Mapping[int, int], *, closing: bool) -> None:
        self.highest: Final = highest
        self.closing: Final = closing


Item: TypeAlias = "Entry | Barrier | Claims | None"
"""What stands in the buffer; None fills the further slots of a large entry."""


class Intake:
    """The caller's side of one incarnation. ``take`` is safe from any thread and reentrant."""

    def __init__(
        self,
        *,
        capacity: int,
        overflow: Overflow,
        block_seconds: float,
        strict: bool,
        wake: Callable[[], None],
    ) -> None:
        self.numbering: Final = Numbering()
        self.dropped: Final = Tallies((INVALID, BUFFER_FULL, CLOSED))
        self.buffer: Final[deque[Item]] = deque()
        self.drowsy = True
        """The background thread sleeps, or does not exist, and wants to be woken."""
        self.background: int | None = None
        """Identity of the background thread, which must never wait for itself."""
        self._wake: Final = wake
        self._capacity: Final = capacity
        self._room = capacity
        self._overflow: Final = overflow
        self._block_seconds: Final = block_seconds
        self._strict: Final = strict
        self.series: Final = TwoGenerations[tuple[object, object, object], Series](SERIES_CACHED)
        self.fragments: Final = TwoGenerations[tuple[object, ...], bytes](FRAGMENTS_CACHED)
        self.ordered: Final = TwoGenerations[tuple[object, ...], bytes](FRAGMENTS_CACHED)
        """As `fragments`, with attributes in the order of their names; of `meterstream.columns`."""

    def take(  # noqa: C901, PLR0912, PLR0917 - in one piece, by position: calls and keywords cost
        self,
        kind: int,
        event_type: object,
        tenant: object,
        quantity: object,
        time: object,
        session: object,
        subject: object,
        attributes: object,
        key: object,
    ) -> int:
        """Check, number and append; the number in the tenant's lane. 0: dropped, and counted.

        Raises `InvalidEvent` for a wrong argument, which has no number then; `BufferFull` under
        the policy ``raise``; and whatever an argument's own methods raise.
        """
        # 1. Check.
        try:
            series = self.series.young[kind, event_type, tenant]
        except Exception:  # noqa: BLE001 - it is not there, or a stranger's __hash__ or __eq__ raised
            series = self.find_series(kind, event_type, tenant)
        if type(quantity) is int and QUANTITY_MIN <= quantity <= QUANTITY_MAX:
            amount, scale = quantity, 0
        else:
            amount, scale = parse_amount(quantity)
        if time is None:
            microseconds = clock.time_ns() // 1000
        elif type(time) is int and 0 <= time < TIME_MAX_MICROSECONDS:
            microseconds = time
        else:
            microseconds = microseconds_of(time)
        if session is not None:
            session = exact_text(session, field="session", bytes_max=ID_BYTES_MAX)
        if subject is not None:
            subject = exact_text(subject, field="subject", bytes_max=ID_BYTES_MAX)
        if key is not None:
            key = exact_text(key, field="key", bytes_max=ID_BYTES_MAX)
        if attributes is None:
            fragment = NO_ATTRIBUTES
        elif type(attributes) is dict and len(attributes) <= ATTRIBUTES_MAX:
            try:
                fragment = self.fragments.young[tuple(attributes.items())]
            except Exception:  # noqa: BLE001 - it is not there, or a stranger's __hash__ or __eq__ raised
                fragment = self.find_fragment(attributes)
        else:
            fragment = self.find_fragment(attributes)

        # 2. Spend the number.
        number = series.take()
        told = (microseconds, amount, scale, session, subject, fragment, number, key)

        # 3. Append.
        if len(self.buffer) >= self._room and not self._make_room():
            return 0
        self.buffer.append(series.common + told)
        if len(fragment) > SLOT_BYTES:
            self.buffer.extend([None] * (len(fragment) // SLOT_BYTES))
        if self.drowsy:
            self._wake()
        return number

    @property
    def room(self) -> int:
        """How many slots are left: none for a closed one. Exact for the only thread that takes."""
        return max(0, self._room - len(self.buffer))

    def close(self) -> None:
        """Take nothing any more. What comes still spends numbers, as visible holes."""
        self._room = 0

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._room == 0

    def taken(self) -> int:
        """Numbered events that were not dropped."""
        dropped = self.dropped[BUFFER_FULL] + self.dropped[CLOSED]
        return max(0, self.numbering.spent() - dropped)

    def find_series(self, kind: int, event_type: object, tenant: object) -> Series:
        """A series that may not be in the younger generation. Raises `InvalidEvent`."""
        exact_type = exact_text(event_type, field="type", bytes_max=TYPE_BYTES_MAX)
        if tenant is None:
            raise InvalidEvent(
                "tenant", "is missing; pass tenant=... or use meter.context(tenant=...)"
            )
        exact_tenant = exact_text(tenant, field="tenant", bytes_max=TENANT_BYTES_MAX)
        key = (kind, exact_type, exact_tenant)
        series = self.series.older(key)
        if series is None:
            lane = lane_of(exact_tenant)
            series = Series(
                kind=kind,
                event_type=exact_type,
                tenant=exact_tenant,
                lane=lane,
                producer=self.numbering.producer,
                take=self.numbering.taker(lane),
            )
            self.series.put(key, series)
        return series

    def find_fragment(self, attributes: object) -> bytes:
        """The encoded form of attributes that may not be in the younger generation.

        Raises `InvalidEvent`.
        """
        if type(attributes) is not dict:
            attributes = _plain_dict(attributes)
        if len(attributes) > ATTRIBUTES_MAX:
            check_attributes(attributes)  # Says so.
        exact: dict[str, str] = {}
        for name, value in tuple(attributes.items()):  # Another thread may change it.
            exact_name = exact_text(name, field="attributes", bytes_max=ATTRIBUTE_NAME_BYTES_MAX)
            exact[exact_name] = _exact_value(exact_name, value)
        key = tuple(exact.items())
        fragment = self.fragments.older(key) or attributes_map(exact)
        if len(fragment) > _ATTRIBUTES_BYTES_MAX:
            raise InvalidEvent(
                "attributes",
                f"are {len(fragment)} bytes together; at most {_ATTRIBUTES_BYTES_MAX} are kept",
            )
        if len(fragment) <= FRAGMENT_CACHED_BYTES_MAX:
            self.fragments.put(key, fragment)
        return fragment

    def _make_room(self) -> bool:
        """The buffer is full, or closed: apply the policy. True: there is room now."""
        if not self.closed and self._overflow == "block" and get_ident() != self.background:
            deadline = clock.monotonic() + self._block_seconds
            while clock.monotonic() < deadline and not self.closed:
                if self.drowsy:
                    self._wake()
                clock.sleep(_BLOCK_STEP_SECONDS)
                if len(self.buffer) < self._room:
                    return True
        if self.closed:
            self.dropped.add(CLOSED)
            if self._strict:
                raise MeterClosed
            return False
        self.dropped.add(BUFFER_FULL)
        if self.drowsy:
            self._wake()
        if self._strict or self._overflow == "raise":
            raise BufferFull(self._capacity)
        return False


def microseconds_of(time: object) -> int:
    """A time as a caller may pass it, in microseconds UTC. Raises `InvalidEvent`."""
    if type(time) is int:
        return check_time(time)
    if issubclass(type(time), datetime):
        time = cast("datetime", time)
        try:
            has_zone = time.tzinfo is not None and time.utcoffset() is not None
            microseconds = (time - _EPOCH) // _MICROSECOND if has_zone else 0
        except Exception as problem:
            raise InvalidEvent(
                "time", f"its zone fails ({describe(problem)}); pass datetime.now(UTC)"
            ) from problem
        if not has_zone:
            raise InvalidEvent(
                "time",
                f"{time.isoformat()} has no zone; pass an aware datetime, say datetime.now(UTC)",
            )
        return check_time(microseconds)
    raise InvalidEvent(
        "time",
        f"{type(time).__name__} is not a time; pass an aware datetime or int microseconds UTC",
    )


def exact_text(value: object, *, field: str, bytes_max: int) -> str:
    """A checked text of the exact type ``str``, whatever subclass it was. Raises `InvalidEvent`."""
    if type(value) is str:
        if 0 < len(value) <= bytes_max and value.isascii() and value.isprintable():
            return value
        return check_text(value, field=field, bytes_max=bytes_max)
    if issubclass(type(value), str):
        return check_text(_plain_text(value), field=field, bytes_max=bytes_max)
    raise InvalidEvent(field, f"{type(value).__name__} is not text; pass a str")


def _exact_value(name: str, value: object) -> str:
    if not issubclass(type(value), str):
        raise InvalidEvent(f"attributes.{name}", f"{type(value).__name__} is not text; pass a str")
    exact = value if type(value) is str else _plain_text(value)
    return check_value(exact, field=f"attributes.{name}", bytes_max=ATTRIBUTE_VALUE_BYTES_MAX)


def _plain_dict(attributes: object) -> dict[object, object]:
    if not issubclass(type(attributes), Mapping):
        raise InvalidEvent(
            "attributes", f"{type(attributes).__name__} is not a mapping; pass a dict"
        )
    mapping = cast("Mapping[object, object]", attributes)
    return dict(islice(mapping.items(), ATTRIBUTES_MAX + 1))


def _plain_text(value: object) -> str:
    """A subclass of ``str`` as plain text, whatever methods it brings."""
    return str.__str__(cast("str", value))

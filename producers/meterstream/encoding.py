"""An entry of the buffer to the bytes of its record: cached fragments and varints from tables.

The result equals ``meterstream_schemas.codec.encode`` of the same event byte for byte; a property
test holds the two together. Avro's body, in order, and where each part comes from::

    header             per schema id          once
    kind tenant type   per series             built when the series is first seen
    time               varint                 two table look-ups and a cached upper part
    quantity scale     varint, varint         tables for small amounts
    session subject    null or text
    attributes         map                    encoded by the caller, cached
    producer lane      per series
    sequence           varint                 tables
    key                null or text
"""

from __future__ import annotations

from functools import cache
from itertools import repeat
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

from meterstream_schemas.events import SCALE_MAX, EventKind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

USAGE: Final = list(EventKind).index(EventKind.USAGE)
SESSION_START: Final = list(EventKind).index(EventKind.SESSION_START)
SESSION_HEARTBEAT: Final = list(EventKind).index(EventKind.SESSION_HEARTBEAT)
SESSION_END: Final = list(EventKind).index(EventKind.SESSION_END)
VOID: Final = list(EventKind).index(EventKind.VOID)
MARK: Final = list(EventKind).index(EventKind.MARK)

_NULL: Final = b"\x00"
_TEXT: Final = b"\x02"
_GROUP_BITS: Final = 14
_GROUP: Final = (1 << _GROUP_BITS) - 1
NO_ATTRIBUTES: Final = b"\x00"
FEW: Final = 8
"""Fewer are as cheap one by one as in columns, or cheaper."""


class Series:
    """What all events of one kind, type and tenant share: their fragments and their numbers."""

    __slots__ = ("common", "take")

    def __init__(
        self,
        *,
        kind: int,
        event_type: str,
        tenant: str,
        lane: int,
        producer: str,
        take: Callable[[], int],
    ) -> None:
        self.take = take
        head = long(kind) + text(tenant) + text(event_type)
        tail = text(producer) + long(lane)
        self.common = (head, tail, tenant.encode(), lane)
        """The first four values of every entry."""


Entry: TypeAlias = tuple[
    bytes, bytes, bytes, int, int, int, int, str | None, str | None, bytes, int, str | None
]
"""One numbered event: head, tail and tenant key of its series, lane, time, quantity, scale,
session, subject, attributes as an Avro map, sequence, key.

A plain tuple of plain values: anything better costs as much to build as all the rest, and the
garbage collector stops looking at such a tuple after the first time.
"""

TENANT_KEY: Final = 2
LANE: Final = 3
SEQUENCE: Final = 10
"""Places in an entry that others than the encoder look at."""


class _Tables(NamedTuple):
    whole: tuple[bytes, ...]
    part: tuple[bytes, ...]


class Encoder:
    """Entries to records: ``header``, then the Avro body. Belongs to one thread."""

    def __init__(self, header: bytes) -> None:
        self._header: Final = header
        self._whole, self._part = _tables()
        self._scales: Final = tuple(long(scale) for scale in range(SCALE_MAX + 1))
        self._time_upper = 0
        self._time_upper_bytes = b""

    def encode(self, entry: Entry) -> bytes:
        """The record of an entry that passed the door's checks."""
        head, tail, _, _, time, quantity, scale, session, subject, attributes, sequence, key = entry
        whole = self._whole
        zigzag = time << 1
        upper = zigzag >> 28
        if upper != self._time_upper:
            self._time_upper_bytes = _varint(upper)
            self._time_upper = upper
        return b"".join(
            (
                self._header,
                head,
                self._part[zigzag & _GROUP] + self._part[(zigzag >> _GROUP_BITS) & _GROUP]
                if upper
                else _varint(zigzag),
                self._time_upper_bytes if upper else b"",
                whole[quantity << 1] if 0 <= quantity < 8192 else long(quantity),
                self._scales[scale],
                _NULL if session is None else _TEXT + text(session),
                _NULL if subject is None else _TEXT + text(subject),
                attributes,
                tail,
                whole[sequence << 1] if sequence < 8192 else self._long_sequence(sequence),
                _NULL if key is None else _TEXT + text(key),
            )
        )

    def encode_all(self, entries: Sequence[Entry]) -> list[bytes]:
        """The records of entries, each as `encode` makes it: by columns, which is cheaper."""
        if len(entries) < FEW:
            return list(map(self.encode, entries))
        (
            heads, tails, _, _, times, quantities, scales, sessions, subjects, attributes,
            sequences, keys,
        ) = zip(*entries, strict=False)  # fmt: skip
        whole = self._whole
        columns: tuple[Iterable[bytes], ...] = (
            repeat(self._header),
            heads,
            self._times(times),
            [whole[one << 1] if 0 <= one < 8192 else long(one) for one in quantities],
            [self._scales[scale] for scale in scales],
            _texts_or_null(sessions),
            _texts_or_null(subjects),
            attributes,
            tails,
            [whole[one << 1] if one < 8192 else self._long_sequence(one) for one in sequences],
            _texts_or_null(keys),
        )
        return list(map(b"".join, zip(*columns, strict=False)))

    def _times(self, times: Sequence[int]) -> list[bytes]:
        distinct = list(set(times))
        if 4 * len(distinct) < len(times):  # As of requests that say none.
            known = dict(zip(distinct, self._times(distinct), strict=True))
            return [known[time] for time in times]
        upper = min(times) >> 27
        if not upper or upper != max(times) >> 27:  # Once in two minutes.
            return [_varint(time << 1) for time in times]
        part, end = self._part, _varint(upper)
        return [part[time << 1 & _GROUP] + part[time >> 13 & _GROUP] + end for time in times]

    def _long_sequence(self, sequence: int) -> bytes:
        upper = sequence >> 13
        more = self._whole[upper] if upper <= _GROUP else _varint(upper)
        return self._part[(sequence << 1) & _GROUP] + more


def mark(producer: str, lane: int, highest: int, *, time: int, attributes: bytes) -> Entry:
    """The entry that says which numbers a lane has used. It spends none itself."""
    head = long(MARK) + 2 * text("")
    tail = text(producer) + long(lane)
    return (head, tail, b"", lane, time, 0, 0, None, None, attributes, highest, None)


def attributes_map(attributes: Mapping[str, str]) -> bytes:
    """Checked attributes as an Avro map of one block."""
    if not attributes:
        return NO_ATTRIBUTES
    parts = [long(len(attributes))]
    for name, value in attributes.items():
        parts.append(text(name))
        parts.append(text(value))
    parts.append(NO_ATTRIBUTES)
    return b"".join(parts)


def text(value: str) -> bytes:
    """A string: its length in UTF-8 bytes, then those bytes."""
    data = value.encode()
    size = len(data)
    return (_LENGTHS[size] if size < len(_LENGTHS) else _varint(size << 1)) + data


def long(value: int) -> bytes:
    """A signed integer of 64 bits at most."""
    return _varint((value << 1) ^ (value >> 63))


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def _texts_or_null(column: Sequence[str | None]) -> Iterable[bytes]:
    if column.count(None) == len(column):
        return repeat(_NULL)
    heads, longest = _TEXT_HEADS, len(_TEXT_HEADS)
    return [
        _NULL
        if one is None
        else heads[len(one)] + one.encode()
        if len(one) < longest and one.isascii()
        else _TEXT + text(one)
        for one in column
    ]


_LENGTHS: Final = tuple(bytes((size << 1,)) for size in range(64))
_TEXT_HEADS: Final = tuple(_TEXT + length for length in _LENGTHS)
"""Of texts of so many bytes that may be null."""


@cache
def _tables() -> _Tables:
    """Two groups of seven bits at once, ended or continued. 1.5 MB, built in 10 ms when used."""
    return _Tables(
        whole=tuple(_varint(value) for value in range(1 << _GROUP_BITS)),
        part=tuple(
            bytes((value & 127 | 128, value >> 7 | 128)) for value in range(1 << _GROUP_BITS)
        ),
    )

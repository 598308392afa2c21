"""The bytes of a spool's segments, and the search for what is intact in them.

See `meterstream.spool` for the format and the why.
"""

from __future__ import annotations

import errno
from itertools import count, repeat
from operator import add
from struct import Struct
from typing import TYPE_CHECKING, Final, NamedTuple

from crc32c import crc32c

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_MAGIC: Final = b"MSSPOOL"
_VERSION: Final = 1
_HEADER: Final = Struct("<7sB16sQQQB11x")
_HEAD: Final = Struct("<4sIQ")
_CHECK: Final = Struct("<I")
HEADER_BYTES: Final = _HEADER.size + _CHECK.size
_HEAD_BYTES: Final = _HEAD.size
_CHECK_BYTES: Final = _CHECK.size
RECORD_BYTES: Final = _HEAD_BYTES + _CHECK_BYTES
"""What a record takes beyond its payload."""
SEGMENT_BYTES_MAX: Final = 2**30
"""More is never written to one segment, nor read from one."""
_INTACT: Final = 0x48674BC7
"""The CRC32C of any bytes that end with their own CRC32C, lowest byte first."""
_INDEX_MAX: Final = 2**64 - 1
_SEARCH_MAX: Final = 4
"""How often over, in sizes of the segment, a search for intact records may compute checksums."""


class Bounds(NamedTuple):
    """What a spool was told; every segment's header repeats it for whoever adopts it."""

    bytes_max: int
    segment_bytes: int
    fsync: bool


class Header(NamedTuple):
    """Whose records a segment has, from which index on, and within which bounds."""

    producer: str
    first: int
    bounds: Bounds


def marker_of(producer: str) -> bytes:
    """Four bytes that begin every record of this producer, and hardly anything else."""
    return _CHECK.pack(crc32c(_MAGIC + bytes.fromhex(producer)))


def encode(marker: bytes, first: int, payloads: Sequence[bytes]) -> list[bytes]:
    """The records of ``payloads``, numbered from ``first``."""
    heads = map(_HEAD.pack, repeat(marker), map(len, payloads), count(first))
    records = list(map(add, heads, payloads))
    return list(map(add, records, map(_CHECK.pack, map(crc32c, records))))


def size_of_records(payloads: Sequence[bytes]) -> int:
    """The bytes that these payloads take in a segment."""
    return sum(map(len, payloads)) + RECORD_BYTES * len(payloads)


def header_bytes(header: Header) -> bytes:
    """The first bytes of a segment."""
    body = _HEADER.pack(
        _MAGIC, _VERSION, bytes.fromhex(header.producer), header.first, *header.bounds
    )
    return body + _CHECK.pack(crc32c(body))


def read_header(data: bytes) -> Header | None:
    """What a segment's header says; None when it is damaged.

    OSError when it is intact and of a version that is not known here.
    """
    if len(data) < HEADER_BYTES or crc32c(data[:HEADER_BYTES]) != _INTACT:
        return None
    magic, version, producer, first, bytes_max, segment_bytes, fsync = _HEADER.unpack_from(data)
    if magic != _MAGIC:
        return None
    if version != _VERSION:
        raise OSError(errno.ENOTSUP, f"the spool has version {version}, this is for {_VERSION}")
    return Header(producer.hex(), first, Bounds(bytes_max, segment_bytes, bool(fsync)))


def payloads_at(
    data: bytes, starts: Iterable[int], marker: bytes, indexes: Iterable[int]
) -> tuple[list[tuple[int, bytes]], list[int]]:
    """The records that should stand there, and the indexes of those that are damaged."""
    intact: list[tuple[int, bytes]] = []
    damaged: list[int] = []
    head, checksum, highest = _HEAD.unpack_from, crc32c, len(data) - RECORD_BYTES
    for start, index in zip(starts, indexes, strict=True):
        if start <= highest:
            found, length, at = head(data, start)
            record = data[start : start + length + RECORD_BYTES]
            right = at == index and found == marker and len(record) == length + RECORD_BYTES
            if right and checksum(record) == _INTACT:
                intact.append((index, record[_HEAD_BYTES:-_CHECK_BYTES]))
                continue
        damaged.append(index)
    return intact, damaged


class Search:
    """Finds intact records in the bytes of a segment, in linear time whatever they are.

    Records with indexes from ``before`` on do not count.
    """

    def __init__(self, data: bytes, marker: bytes, before: int | None) -> None:
        self._data: Final = data
        self._marker: Final = marker
        self._highest: Final = _INDEX_MAX if before is None else before - 1
        self._budget = _SEARCH_MAX * len(data)

    def run(self, position: int, index: int) -> list[int]:
        """Where records end that follow each other without a gap, the first of them ``index``."""
        ends: list[int] = []
        data, marker, size, head = self._data, self._marker, len(self._data), _HEAD.unpack_from
        while position + RECORD_BYTES <= size and index <= self._highest:
            found, length, at = head(data, position)
            end = position + length + RECORD_BYTES
            if at != index or found != marker or crc32c(data[position:end]) != _INTACT:
                break
            if end > size:
                break
            ends.append(end)
            position = end
            index += 1
        return ends

    def next(self, position: int, index: int) -> tuple[int, int] | None:
        """Start and index of the next intact record behind ``position``.

        Indexes have no holes, so what is skipped cannot have held more of them than fit into it.
        """
        data, start = self._data, position
        while self._budget > 0 and (start := data.find(self._marker, start + 1)) >= 0:
            if start + RECORD_BYTES > len(data):
                return None
            _, length, at = _HEAD.unpack_from(data, start)
            end = start + length + RECORD_BYTES
            highest = min(index + (start - position) // RECORD_BYTES, self._highest)
            if index <= at <= highest and end <= len(data):
                self._budget -= end - start
                if crc32c(data[start:end]) == _INTACT:
                    return start, at
        return None

    def tail(self, position: int, index: int) -> int:
        """How many of the bytes from ``position`` on are damage, and no write that broke off.

        A write that broke off is the last; when the next segment begins behind ``index``, there
        was more.
        """
        rest = self._data[position:]
        if self._highest < _INDEX_MAX:
            return len(rest) if index <= self._highest else 0
        if rest[: len(self._marker)] != self._marker[: len(rest)]:
            return len(rest)
        if len(rest) < _HEAD_BYTES:
            return 0
        _, length, _ = _HEAD.unpack_from(rest)
        return len(rest) if length + RECORD_BYTES <= len(rest) else 0

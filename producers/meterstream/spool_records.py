"""The bytes of a spool's segments, and the search for what is intact in them.

See `meterstream.spool` for the format and the why.
"""

from __future__ import annotations

import errno
from struct import Struct
from typing import TYPE_CHECKING, Final, NamedTuple

from crc32c import crc32c

if TYPE_CHECKING:
    from collections.abc import Sequence

_MAGIC: Final = b"MSSPOOL"
_VERSION: Final = 1
_HEADER: Final = Struct(">7sB16sQQQB11x")
_HEAD: Final = Struct(">4sIQ")
_CHECK: Final = Struct(">I")
HEADER_BYTES: Final = _HEADER.size + _CHECK.size
HEAD_BYTES: Final = _HEAD.size
CHECK_BYTES: Final = _CHECK.size
RECORD_BYTES: Final = HEAD_BYTES + CHECK_BYTES
"""What a record takes beyond its payload."""
SEGMENT_BYTES_MAX: Final = 2**30
"""More is never written to one segment, nor read from one."""
_SEARCH_MAX: Final = 4
"""How often over, in sizes of the segment, a search for intact records may compute checksums."""


class Bounds(NamedTuple):
    """What a spool was told; every segment's header repeats it for whoever adopts it."""

    bytes_max: int
    segment_bytes: int
    fsync: bool


class Recovered(NamedTuple):
    """What a segment's header said, if it is intact, and the bytes skipped as damage."""

    bounds: Bounds | None
    corrupt_bytes: int


def marker_of(producer: str) -> bytes:
    """Four bytes that begin every record of this producer, and hardly anything else."""
    return _CHECK.pack(crc32c(_MAGIC + bytes.fromhex(producer)))


def encode(marker: bytes, first: int, payloads: Sequence[bytes]) -> list[bytes]:
    """The records of ``payloads``, numbered from ``first``."""
    records: list[bytes] = []
    add, head, check, checksum = records.append, _HEAD.pack, _CHECK.pack, crc32c
    index = first
    for payload in payloads:
        record = head(marker, len(payload), index) + payload
        add(record + check(checksum(record)))
        index += 1
    return records


def size_of_records(payloads: Sequence[bytes]) -> int:
    """The bytes that these payloads take in a segment."""
    return sum(map(len, payloads)) + RECORD_BYTES * len(payloads)


def header(producer: str, first: int, bounds: Bounds) -> bytes:
    """The first bytes of a segment."""
    told = (bounds.bytes_max, bounds.segment_bytes, bounds.fsync)
    body = _HEADER.pack(_MAGIC, _VERSION, bytes.fromhex(producer), first, *told)
    return body + _CHECK.pack(crc32c(body))


def read_header(data: bytes, producer: str, first: int) -> Bounds | None:
    """What a segment's header says; None when it is damaged or another spool's.

    OSError when it is intact and of a version that is not known here.
    """
    if len(data) < HEADER_BYTES:
        return None
    magic, version, owner, begin, bytes_max, segment_bytes, fsync = _HEADER.unpack_from(data)
    (check,) = _CHECK.unpack_from(data, _HEADER.size)
    if magic != _MAGIC or crc32c(data[: _HEADER.size]) != check:
        return None
    if version != _VERSION:
        raise OSError(errno.ENOTSUP, f"the spool has version {version}, this is for {_VERSION}")
    if owner.hex() != producer or begin != first:
        return None
    return Bounds(bytes_max, segment_bytes, bool(fsync))


def record_end(data: bytes, start: int, marker: bytes, lowest: int, highest: int) -> int:
    """Where the intact record at ``start`` ends, given the indexes that may stand there; else 0."""
    end = _claimed_end(data, start, marker, lowest, highest)
    return end if end and _is_intact(data, start, end) else 0


def _claimed_end(data: bytes, start: int, marker: bytes, lowest: int, highest: int) -> int:
    """Where the record ends by its own words; 0 when it cannot be one. Costs the same for all."""
    if start + RECORD_BYTES > len(data):
        return 0
    found, length, index = _HEAD.unpack_from(data, start)
    end: int = start + RECORD_BYTES + length
    return end if found == marker and lowest <= index <= highest and end <= len(data) else 0


def _is_intact(data: bytes, start: int, end: int) -> bool:
    end -= CHECK_BYTES
    return bool(crc32c(data[start:end]) == _CHECK.unpack_from(data, end)[0])


class Search:
    """Finds intact records in the bytes of a segment, in linear time whatever they are."""

    def __init__(self, data: bytes, marker: bytes, before: int | None) -> None:
        self._data: Final = data
        self._marker: Final = marker
        self._before: Final = before
        self._budget = _SEARCH_MAX * len(data)

    def next(self, position: int, index: int) -> tuple[int, int, int]:
        """Start, index and end of the next intact record; the end is 0 when there is none.

        Indexes have no holes, so what was skipped cannot have held more of them than fit into it.
        """
        data, marker = self._data, self._marker
        limit = self._before - 1 if self._before is not None else 2**64 - 1
        if end := record_end(data, position, marker, index, min(index, limit)):
            return position, index, end
        start = position
        while self._budget >= 0 and (start := data.find(marker, start + 1)) >= 0:
            highest = min(index + (start - position) // RECORD_BYTES, limit)
            end = _claimed_end(data, start, marker, index, highest)
            self._budget -= end and end - start
            if end and _is_intact(data, start, end):
                return start, _HEAD.unpack_from(data, start)[2], end
        return position, 0, 0

    def tail(self, position: int) -> int:
        """How many of the bytes from ``position`` on are damage, and no write that broke off."""
        rest = self._data[position:]
        if rest[: len(self._marker)] != self._marker[: len(rest)]:
            return len(rest)
        if len(rest) < HEAD_BYTES:
            return 0
        _, length, index = _HEAD.unpack_from(rest)
        superseded = self._before is not None and index >= self._before
        return 0 if superseded or length + RECORD_BYTES > len(rest) else len(rest)

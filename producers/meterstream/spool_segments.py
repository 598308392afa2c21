"""One segment of a spool: its bytes, its records in memory; see `meterstream.spool` for the why."""

from __future__ import annotations

import errno
import os
from array import array
from contextlib import suppress
from itertools import accumulate, compress, count, islice
from operator import and_
from typing import TYPE_CHECKING, Final

from meterstream.spool_directory import segment_name
from meterstream.spool_records import (
    HEADER_BYTES,
    SEGMENT_BYTES_MAX,
    Bounds,
    Header,
    Search,
    header_bytes,
    marker_of,
    payloads_at,
    read_header,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from meterstream.spool_directory import Directory


class Segment:
    """The records from ``first`` on in one file.

    ``_waiting`` has a 1 for every record that is readable and not acknowledged. ``_places`` has the
    start of every record and one end more; a lost record has no extent of its own but what could
    not be read there. Places are kept while the file is open, so that a spool of gigabytes takes
    one byte of memory for an entry and not five.
    """

    def __init__(self, directory: Directory, first: int) -> None:
        self._directory: Final = directory
        self.first: Final = first
        self.name: Final = segment_name(first)
        self.size = 0
        self.pending = 0
        self.spoiled = False
        """Whether bytes may stand behind its end that do not count."""
        self.unread: tuple[int | None, int] | None = None
        """Before recovery: the next segment's first index, and what is acknowledged already."""
        self._places = array("I", [HEADER_BYTES])
        self._waiting: Final = bytearray()
        self._descriptor = -1

    @property
    def end(self) -> int:
        """The index behind its last record; before recovery, where the next segment begins."""
        if self.unread and self.unread[0]:
            return self.unread[0]
        return self.first + len(self._waiting)

    def create(self, producer: str, bounds: Bounds) -> None:
        """Make its file, with nothing but a header. OSError; then it is gone, or the next is."""
        self._directory.unlink(self.name)
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL
        descriptor = self._directory.open(self.name, flags)
        if descriptor is None:
            raise OSError(errno.ENOENT, "no segment can be made in", str(self._directory.path))
        self._descriptor = descriptor
        try:
            _write(descriptor, header_bytes(Header(producer, self.first, bounds)), 0)
            if bounds.fsync:
                self._directory.sync()
        except OSError:
            self.close()
            self._directory.unlink(self.name)
            raise
        self.size = HEADER_BYTES

    def append(self, records: Sequence[bytes], *, fsync: bool) -> None:
        """Write all at the end. OSError; then nothing of them counts."""
        if not os.fstat(self._descriptor).st_nlink:
            raise OSError(errno.ENOENT, "somebody deleted it", self.name)
        data = b"".join(records)
        try:
            _write(self._descriptor, data, self.size)
            if fsync:
                self._sync()
        except OSError:
            begin, self.size = self.size, self.size + len(data)
            self._cut(begin)
            raise
        self._add(islice(accumulate(map(len, records), initial=self.size), 1, None))
        self.size += len(data)

    def _sync(self) -> None:
        """Reach the disk. What failed once is never tried again: the system may have dropped it."""
        try:
            os.fdatasync(self._descriptor)
        except OSError:
            self.spoiled = True
            raise

    def acknowledge(self, indexes: Sequence[int]) -> None:
        """Count records as done: its own, in ascending order, each once."""
        waiting, first = self._waiting, self.first
        begin, end = indexes[0] - first, indexes[-1] - first + 1
        before = waiting.count(1, begin, end)
        if end - begin == len(indexes):
            waiting[begin:end] = bytes(end - begin)
        else:
            for index in indexes:
                waiting[index - first] = 0
        self.pending -= before - waiting.count(1, begin, end)

    def first_pending(self) -> int:
        """The lowest index that waits; ``end`` when none does."""
        if self.unread:
            return max(self.first, self.unread[1] + 1)
        place = self._waiting.find(1)
        return self.end if place < 0 else self.first + place

    def read(
        self, marker: bytes, after: int, count_max: int
    ) -> tuple[list[tuple[int, bytes]], list[int]]:
        """Waiting records behind ``after``, in order, and the indexes of those found damaged."""
        start = self._waiting.find(1, max(after + 1 - self.first, 0))
        if start < 0:
            return [], []
        with memoryview(self._waiting) as every, every[start:] as flags:
            wanted = list(islice(compress(count(start), flags), count_max))
        begin = self._places[start]
        data = self._bytes(begin, self._places[wanted[-1] + 1])
        starts = [self._places[place] - begin for place in wanted]
        return payloads_at(data, starts, marker, [self.first + place for place in wanted])

    def extent(self, index: int) -> int:
        """The bytes that a record takes, its payload and all."""
        place = index - self.first
        return self._places[place + 1] - self._places[place]

    def _bytes(self, begin: int, end: int) -> bytes:
        if not self._open():
            return b""
        pieces: list[bytes] = []
        while begin < end and (piece := os.pread(self._descriptor, end - begin, begin)):
            pieces.append(piece)
            begin += len(piece)
        return b"".join(pieces)

    def _open(self) -> bool:
        if self._descriptor < 0:
            descriptor = self._directory.open(self.name, os.O_RDWR)
            self._descriptor = -1 if descriptor is None else descriptor
        return self._descriptor >= 0

    def find(self, before: int | None, acknowledged: int) -> None:
        """Stand for a file that is there; until `recover`, every index waits that may be in it."""
        self.unread = (before, acknowledged)
        self.spoiled = True
        self.size = self._directory.size_of(self.name)
        self.pending = max(self.end - self.first_pending(), 0)

    def header(self) -> Header | None:
        """What its header says; None when it is damaged. OSError: it is of a later version."""
        found = read_header(self._bytes(0, HEADER_BYTES))
        self.close()
        return found

    def recover(self, producer: str) -> int:
        """Find its records, unless their places are known; returns how many bytes are damage.

        OSError when the disk does not answer; then it is as before.
        """
        if self._places and not self.unread:
            return 0
        before, acknowledged = self.unread or (self.end, 0)
        on_disk = os.fstat(self._descriptor).st_size if self._open() else 0
        data = self._bytes(0, min(on_disk, SEGMENT_BYTES_MAX))
        corrupt = 0
        if len(data) >= HEADER_BYTES and not read_header(data):
            corrupt = HEADER_BYTES
        waited = b"" if self.unread else bytes(self._waiting)
        pending = self.pending if waited else -1
        self._waiting.clear()
        self._places = array("I", [HEADER_BYTES])
        self.unread, self.spoiled = None, False
        corrupt += self._find_records(data, marker_of(producer), before)
        self.size = on_disk
        self._cut(max(self._places[-1], HEADER_BYTES))
        known = len(self._waiting)
        done = min(max(acknowledged + 1 - self.first, 0), known)
        self._keep(waited or bytes(done).ljust(known, b"\1"))
        return 0 if self.pending == pending else corrupt  # Damage that was known was counted.

    def _keep(self, waited: bytes) -> None:
        """Let nothing wait but what did before. Records lost from the end have no extent."""
        lost = max(len(waited) - len(self._waiting), 0)
        self._places.extend(self._places[-1:] * lost)
        self._waiting.extend(bytes(lost))
        self._waiting[:] = bytes(map(and_, self._waiting, waited))
        self.pending = self._waiting.count(1)

    def _find_records(self, data: bytes, marker: bytes, before: int | None) -> int:
        position, corrupt = HEADER_BYTES, 0
        search = Search(data, marker, before)
        while position < len(data):
            if ends := search.run(position, self.end):
                self._add(ends)
                position = ends[-1]
            elif found := search.next(position, self.end):
                start, index = found
                corrupt += start - position
                lost = index - self.end
                self._places.extend([position] * lost)
                self._places[-1] = start
                self._waiting.extend(bytes(lost))
                position = start
            else:
                return corrupt + search.tail(position, self.end)
        return corrupt

    def _add(self, ends: Iterable[int]) -> None:
        known = len(self._waiting)
        self._places.extend(ends)
        added = len(self._places) - 1 - known
        self._waiting.extend(b"\1" * added)
        self.pending += added

    def _cut(self, size: int) -> None:
        """Take away what stands behind the last record that counts."""
        if size < self.size:
            try:
                os.ftruncate(self._descriptor, size)
            except OSError:
                self.spoiled = True
            else:
                self.size = size

    def close(self) -> None:
        """Close the file and forget places; reading opens it again and finds them."""
        del self._places[:]
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            with suppress(OSError):
                os.close(descriptor)


def _write(descriptor: int, data: bytes, position: int) -> None:
    written = os.pwrite(descriptor, data, position)
    if written == len(data):
        return
    rest = memoryview(data)
    while written < len(data):
        more = os.pwrite(descriptor, rest[written:], position + written)
        if not more:
            raise OSError(errno.EIO, "the disk takes no bytes")
        written += more

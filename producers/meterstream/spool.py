"""The spool: an append-only log of byte payloads on disk that outlives the process.

Constraints
    One producer incarnation writes it, from one thread. What `append` returned survives
    ``kill -9``; with ``fsync`` it survives a loss of power too. It is bounded in bytes and in
    files. Whatever the disk holds after a crash, a fault or an editor, nothing is read from it that
    was not given to `append`, and everything intact is. The host pays for it in its background
    thread only, so a group of payloads costs one write, and recovery is linear in what is there.

Bytes
    ``<root>/<producer>/`` (mode 0700; the producer is 32 hexadecimal digits) holds files (0600)::

        <first index, 20 digits>.segment   header, then records
        progress                           two slots

        header    64   "MSSPOOL" | version u8 | producer 16 | first index u64 | bytes_max u64
                       | segment_bytes u64 | fsync u8 | 11 zeros | CRC32C of these 60 bytes u32
        record  20+n   marker 4 | n u32 | index u64 | payload n | CRC32C of all before it u32
        slot      16   index up to which everything is acknowledged u64 | CRC32C of
                       "progress", the producer's 16 bytes and this index u32 | 4 zeros

    Integers have their lowest byte first; then the CRC32C over a record and its checksum is the
    same number for all that are intact. The marker is the CRC32C of "MSSPOOL" and the producer's
    16 bytes: what a search through damage looks for. Indexes start at 1 and have no holes. A
    segment takes another group until it has ``segment_bytes``, so a group is never divided and
    every full segment has at least that size: there are bytes_max // segment_bytes + 1 at most.

Recovery (`Spool.adopt`)
    1. Lock the directory. A segment with the intact header of another is set aside as ".foreign".
       The last one is read at once, others when it is their turn, so that no adopter stands still
       for long; one that the progress calls acknowledged is never read.
    2. A record counts when its marker, its checksum and its index are right. The index has to
       follow the one before it; after skipped bytes, by no more than records fit into them. Where
       no record counts, search for the next marker. A search computes checksums of at most four
       times the segment, so hostile contents cost time in proportion to their size.
    3. A record whose index is not below the next segment's first does not count: its `append`
       failed, could not be undone, and the index was used again in that next segment.
    4. Bytes behind the last record that counts are cut off. They are damage, and counted, unless
       they are those of rule 3, or, in the last segment, the beginning of a record that a crash
       broke off.
    5. New records go to a new segment.

Reasons
    ``flock`` of the directory, and not ``lockf``: POSIX locks belong to a process and a file. They
    vanish when the process closes any other descriptor of that file, and do not exclude a second
    spool in one process. ``flock`` belongs to the open file and ends with the last process that
    has it. The directory needs no lock file whose removal would race with whoever waits for it;
    it can be removed while someone opens it, so what is locked is compared with what has the name.
    NFS has no such lock for directories: `create` fails there.

    A write that failed is undone by truncation. When that fails too, or ``fdatasync`` failed (its
    bytes may be gone from memory, and a second call would say that all is well), the segment takes
    nothing more, and the next one begins with the same index: rule 3. A segment that follows such
    a one, or one that was not read yet, is not deleted before it.

    The checksum covers the index, so no record can stand in for another. Progress has two slots
    that are written in turns: a torn one leaves the other. It is never synced; the worst of an old
    one is that something is sent again, which has the same number.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from contextlib import suppress
from itertools import zip_longest
from operator import attrgetter
from typing import TYPE_CHECKING, Final, Self, TypeAlias

from meterstream.spool_directory import Directory, first_of, is_producer, left_behind, size_of
from meterstream.spool_progress import PROGRESS_BYTES, Progress
from meterstream.spool_records import (
    HEADER_BYTES,
    SEGMENT_BYTES_MAX,
    Bounds,
    encode,
    marker_of,
    size_of_records,
)
from meterstream.spool_segments import Segment

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

__all__ = ["Spool", "SpoolFull", "left_behind", "size_of"]

Payload: TypeAlias = bytes
"""What is appended. `Spool.bytes` takes the type's own name inside the class."""
_first_of: Final = attrgetter("first")


class SpoolFull(Exception):
    """A group did not fit within the bounds; nothing of it was appended."""

    def __init__(self, group_bytes: int, held_bytes: int, bytes_max: int) -> None:
        super().__init__(
            f"{group_bytes} bytes do not fit into the spool: it holds {held_bytes} of {bytes_max}; "
            "wait until the broker takes some, or raise the spool's bound"
        )
        self.bytes_max = bytes_max


class Spool:
    """One producer's payloads on disk, with the lock held. For one thread."""

    def __init__(self, directory: Directory, bounds: Bounds) -> None:
        self.producer: Final = directory.path.name
        self.last = 0
        self.corrupt_bytes = 0
        self._directory: Final = directory
        self._bounds = bounds
        self._marker: Final = marker_of(self.producer)
        self._segments: list[Segment] = []
        self._active: Segment | None = None
        self._reading: Segment | None = None
        self._progress = Progress(directory, self.producer)

    @classmethod
    def create(
        cls,
        root: Path,
        producer: str,
        *,
        bytes_max: int,
        segment_bytes: int = 4 * 2**20,
        fsync: bool = False,
    ) -> Self:
        """Make the spool of a new incarnation. OSError when its directory cannot be made.

        ``bytes_max`` bounds everything in the directory; a segment is full with a quarter of it,
        if that is less. With ``fsync``, what `append` returned is on the disk, not only with the
        system.
        """
        if not is_producer(producer):
            raise ValueError(f"a producer has 32 hexadecimal digits, not {producer!r}")
        if bytes_max < 0 or not 0 < segment_bytes <= SEGMENT_BYTES_MAX:
            raise ValueError(
                f"bytes_max ({bytes_max}) has to be positive, and segment_bytes "
                f"({segment_bytes}) between 1 and {SEGMENT_BYTES_MAX}"
            )
        directory = Directory.create(root / producer, fsync=fsync)
        segment_bytes = min(segment_bytes, max(bytes_max // 4, 1))
        return cls(directory, Bounds(bytes_max, segment_bytes, fsync))

    @classmethod
    def adopt(cls, directory: Path) -> Self | None:
        """Open what a dead process left; None when a living one holds it, or it is gone.

        Until entries are read, ``pending`` counts what damage may have taken. OSError when it
        cannot be read or written, or is of a later version; then nothing was changed.
        """
        if not is_producer(directory.name):
            return None
        held = Directory.take(directory)
        if held is None:
            return None
        try:
            spool = cls(held, Bounds(0, SEGMENT_BYTES_MAX, fsync=False))
            spool._recover()
        except BaseException:
            held.release()
            raise
        return spool

    @property
    def pending(self) -> int:
        """How many entries are not acknowledged."""
        return sum(segment.pending for segment in self._segments)

    @property
    def bytes(self) -> int:
        """The size of all its files."""
        return self._segment_bytes() + self._progress.size

    @property
    def files(self) -> int:
        """How many files it has."""
        return len(self._segments) + bool(self._progress.size)

    def append(self, payloads: Sequence[Payload]) -> int:
        """Write a group with one write; returns the index of its first, 1 for the very first.

        SpoolFull or OSError; then nothing of the group is in the spool.
        """
        first = self.last + 1
        if not payloads:
            return first
        segment = self._segment_for(size_of_records(payloads))
        try:
            segment.append(encode(self._marker, first, payloads), fsync=self._bounds.fsync)
        except OSError:
            if segment.spoiled:
                self._retire(segment)
            raise
        self.last += len(payloads)
        return first

    def read(self, after: int, count_max: int) -> list[tuple[int, Payload]]:
        """At most so many entries that are not acknowledged, behind index ``after``, in order.

        One that became damaged on the disk is left out, counted in ``corrupt_bytes`` and never
        asked for again. OSError when the disk does not answer.
        """
        found: list[tuple[int, Payload]] = []
        position = 0
        while position < len(self._segments) and len(found) < count_max:
            segment = self._segments[position]
            missing = count_max - len(found)
            if segment.end > after + 1 and segment.pending:
                intact, damaged = self._readable(segment).read(self._marker, after, missing)
                found += intact
                if damaged:
                    self.corrupt_bytes += sum(map(segment.extent, damaged))
                    segment.acknowledge(damaged)
                    after = max(damaged[-1], found[-1][0] if found else 0)
                    continue
            position += 1
        return found

    def acknowledge(self, indexes: Iterable[int]) -> None:
        """Let go of entries, in any order. Deletes segments that nobody waits for any more."""
        ordered = sorted(set(indexes))
        place, emptied = 0, False
        while place < len(ordered):
            segment = self._segment_of(ordered[place])
            if segment is None:
                place += 1
                continue
            following = bisect_left(ordered, segment.end, place)
            segment.acknowledge(ordered[place:following])
            emptied |= not segment.pending
            place = following
        if emptied:
            self._sweep()

    def save_progress(self) -> None:
        """Write down how far everything is acknowledged, for whoever adopts this. Never raises."""
        waiting = (segment.first_pending() for segment in self._segments if segment.pending)
        self._progress.save(next(waiting, self.last + 1) - 1)

    def close(self) -> None:
        """Let go of lock and files. With nothing pending, the directory is removed. Repeatable."""
        if self._directory.closed:
            return
        if self.pending:
            self.save_progress()
        else:
            self._active = None
            self._sweep()
            with suppress(OSError):
                self._directory.remove()
        self._close_files()
        self._directory.release()

    def abandon(self) -> None:
        """In the child of a fork: close what was inherited, and leave the lock to the parent."""
        self._close_files()
        self._directory.abandon()

    def _segment_bytes(self) -> int:
        return sum(segment.size for segment in self._segments)

    def _segment_for(self, group_bytes: int) -> Segment:
        """The segment that takes so many bytes more, a new one if need be."""
        active, bounds = self._active, self._bounds
        if active and (
            active.size >= bounds.segment_bytes
            or active.size + group_bytes > SEGMENT_BYTES_MAX
            or not (active.pending or self._has_room(group_bytes))
        ):
            self._retire(active)
        if not self._has_room(group_bytes):
            raise SpoolFull(group_bytes, self.bytes, bounds.bytes_max)
        return self._active or self._begin()

    def _has_room(self, group_bytes: int) -> bool:
        bounds = self._bounds
        held = self._segment_bytes() + PROGRESS_BYTES + group_bytes
        if self._active is None:
            held += HEADER_BYTES
            if len(self._segments) > bounds.bytes_max // bounds.segment_bytes:
                return False
        return held <= bounds.bytes_max and HEADER_BYTES + group_bytes <= SEGMENT_BYTES_MAX

    def _begin(self) -> Segment:
        segment = Segment(self._directory, self.last + 1)
        # One of the same name has no record that counts, and is overwritten now.
        self._segments = [kept for kept in self._segments if kept.first < segment.first]
        segment.create(self.producer, self._bounds)
        self._segments.append(segment)
        self._active = segment
        return segment

    def _retire(self, segment: Segment) -> None:
        """Let a segment take nothing more."""
        self._active = None
        segment.close()
        self._sweep()

    def _sweep(self) -> None:
        """Delete segments that nobody waits for, but for the active one and rule 3's."""
        kept: list[Segment] = []
        for segment in self._segments:
            needed = segment.pending or segment is self._active or (kept and kept[-1].spoiled)
            if needed or not self._directory.unlink(segment.name):
                kept.append(segment)
            else:
                segment.close()
        self._segments = kept

    def _segment_of(self, index: int) -> Segment | None:
        place = bisect_right(self._segments, index, key=_first_of) - 1
        if place < 0 or index >= self._segments[place].end:
            return None
        segment = self._segments[place]
        if segment.unread:
            with suppress(OSError):
                self._readable(segment)
        return segment if not segment.unread and index < segment.end else None

    def _readable(self, segment: Segment) -> Segment:
        """Recover it if need be. At most two files are open: what is written and what is read."""
        if self._reading not in (None, segment, self._active):
            self._reading.close()
        self._reading = segment
        self.corrupt_bytes += segment.recover(self.producer)
        return segment

    def _close_files(self) -> None:
        self._active = None
        for segment in self._segments:
            segment.close()

    def _recover(self) -> None:
        """Find out which segments there are; only the last is searched for records now."""
        acknowledged = self.last = self._progress.load()
        for name in self._directory.segment_names():
            segment = Segment(self._directory, first_of(name))
            header = segment.header()
            if header is None or (header.producer, header.first) == (self.producer, segment.first):
                self._bounds = header.bounds if header else self._bounds
                self._segments.append(segment)
            else:
                self._directory.set_aside(name)
        for segment, following in zip_longest(self._segments, self._segments[1:]):
            segment.find(following.first if following else None, acknowledged)
        if self._segments:
            self.last = max(self.last, self._readable(self._segments[-1]).end - 1)
        self._sweep()

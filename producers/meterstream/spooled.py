"""What a meter with ``durability="spool"`` or ``"fsync"`` keeps on disk until the log has it.

The background thread stores every group of entries before it sends them, so what `Meter.record`
took is on disk some milliseconds later and survives the process. `meterstream.spool` says how the
bytes lie there; this module says what they are::

    lane u16, sequence u64, bytes of tenant u16, bytes of key + 1 u16 (0: no key)
    tenant, key, Avro body without the schema's header

A mark has no tenant. Beside the segments stands ``route.json``: the topic, and the number of its
partitions from the moment one of the entries may have been sent. Whoever sends them again must
put them into the same partitions, since there their numbers are known.

When the disk refuses, entries go on without it as long as there is a connection, and wait in
memory otherwise: less durable, told in ``status().last_error``, and not lost for that reason.
"""

from __future__ import annotations

import errno
import struct
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from meterstream import processes
from meterstream.encoding import LANE, NO_ATTRIBUTES, SEQUENCE, TENANT_KEY
from meterstream.spool_route import write_route

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from meterstream.complaints import Complaints
    from meterstream.durability import SpoolPolicy
    from meterstream.encoding import Entry
    from meterstream.flight import Flight
    from meterstream.grouping import Group
    from meterstream.spool import Spool

_HEAD: Final = struct.Struct("<HQHH")
_RETRY_SECONDS: Final = 1.0
_PROGRESS_SECONDS: Final = 1.0
_RESERVE_BYTES_MAX: Final = 18 << 20
"""More than a thousand of the largest events need."""
_RESERVE_PART: Final = 8


class _Run:
    """Tickets and indexes that go up together."""

    __slots__ = ("count", "index", "left", "ticket")

    def __init__(self, ticket: int, index: int, count: int) -> None:
        self.ticket = ticket
        self.index = index
        self.count = count
        self.left = count


class Spooled:
    """The spool of one incarnation. Belongs to the background thread; counts may be read by any."""

    def __init__(self, policy: SpoolPolicy, producer: str, complaints: Complaints) -> None:
        self.pending = 0
        """Entries on disk without an outcome."""
        self.stored_through = 0
        """The highest ticket that is on disk, or did not need to be."""
        self.lost: Final[list[int]] = []
        """Tickets of entries that the disk does not give back, for whoever empties this list."""
        self._policy: Final = policy
        self._producer: Final = producer
        self._complaints: Final = complaints
        self._spool: Spool | None = None
        self._runs: Final[list[_Run]] = []
        self._read_through = 0
        self._retry_at = 0.0
        self._full_at: int | None = None
        self._others = 0
        self._others_at = 0.0
        self._progress_at = 0.0
        self._route: tuple[int | None] | None = None
        """What was written down of it."""
        self._route_at = 0.0

    @property
    def size(self) -> int:
        """Bytes on disk."""
        return 0 if self._spool is None else self._spool.bytes

    @property
    def size_max(self) -> int:
        """Bytes that all spools of the directory may have together."""
        return self._policy.bytes_max

    @property
    def is_near_bound(self) -> bool:
        """Whether what waits for the disk already may be all that it has room for."""
        reserve = min(_RESERVE_BYTES_MAX, self.size_max // _RESERVE_PART)
        return self.size + self._others > self.size_max - reserve

    @property
    def has_backlog(self) -> bool:
        """Whether entries lie on disk that were not put in flight."""
        return self._spool is not None and self._read_through < self._spool.last

    def hurry(self) -> None:
        """Ask the disk at once: there may be no later attempt."""
        self._retry_at = 0.0

    def store(self, group: Group, now: float) -> bool:
        """Write a group in one piece. False: the disk refuses, and none of it is there."""
        if now < self._retry_at:
            return False
        # Imported here: who keeps events in memory needs neither files nor checksums.
        from meterstream.spool import SpoolFull  # noqa: PLC0415 - see above

        try:
            if self._is_full(now):
                return False
            spool = self._opened()
            first = spool.append(payloads(group.entries, group.bodies))
        except SpoolFull:
            self._full_at = self.size
            self._tell_full()
            return False
        except OSError as problem:
            self._retry_at = now + _RETRY_SECONDS
            self._complaints.error(
                "spool", f"the spool {self._policy.root} takes nothing, memory does: {problem}"
            )
            held = self._spool
            if problem.errno == errno.ENOENT and held is not None and not held.pending:
                self._start_over()
            return False
        self._full_at = None
        self._note_run(group.first, first, len(group))
        self.stored_through = group.first + len(group) - 1
        self.pending = spool.pending
        return True

    def passed(self, count: int) -> None:
        """The first ``count`` entries stored last are in flight already; they need no reading."""
        self._read_through += count

    def refill(self, flight: Flight, partition_of_lane: tuple[int, ...], header: bytes) -> int:
        """Put entries in flight that lie on disk, in order; how many."""
        spool = self._spool
        if spool is None or not self.has_backlog or flight.room <= 0:
            return 0
        try:
            entries = spool.read(self._read_through, min(flight.room, 1_000))
        except OSError as problem:
            self._complaints.error("spool", f"{self._directory} does not answer: {problem}")
            return 0
        for index, data in entries:
            entry, body = restored(data)
            self._skip(index)
            flight.put(self._ticket(index), entry, partition_of_lane[entry[LANE]], header + body)
            self._read_through = index
        if not entries:
            self._skip(spool.last + 1)
        return len(entries)

    def _skip(self, index: int) -> None:
        """Entries have no holes: what was not read before ``index`` is damaged."""
        self.lost.extend(map(self._ticket, range(self._read_through + 1, index)))
        self._read_through = index - 1

    def acknowledge(self, tickets: list[int]) -> None:
        """These have an outcome. Empties the list."""
        spool = self._spool
        if spool is None or not tickets:
            tickets.clear()
            return
        tickets.sort()
        runs, place, indexes = self._runs, 0, list[int]()
        oldest = runs[0] if runs else None
        if oldest and oldest.ticket <= tickets[0] and tickets[-1] < oldest.ticket + oldest.count:
            indexes = [oldest.index - oldest.ticket + ticket for ticket in tickets]
            oldest.left -= len(indexes)
            tickets.clear()
        for ticket in tickets:
            while place + 1 < len(runs) and runs[place + 1].ticket <= ticket:
                place += 1
            run = runs[place] if runs else None
            if run is not None and 0 <= ticket - run.ticket < run.count:
                run.left -= 1
                indexes.append(run.index + ticket - run.ticket)
        tickets.clear()
        while len(runs) > 1 and not runs[0].left:
            del runs[0]
        spool.acknowledge(indexes)
        self.pending = spool.pending

    def keep_route(self, partitions: int, now: float) -> bool:
        """Remember how many partitions entries are spread over, before the first is sent."""
        if self._route == (partitions,):
            return True
        if now < self._route_at:
            return False
        try:
            self._opened()
            write_route(self._directory, self._policy, partitions)
        except OSError as problem:
            self._route_at = now + _RETRY_SECONDS
            self._complaints.error("spool", f"the spool {self._directory} is not usable: {problem}")
            return False
        self._route = (partitions,)
        return True

    def on_time(self, now: float) -> None:
        """Now and then, write down what has an outcome."""
        if self._spool is not None and now >= self._progress_at:
            self._progress_at = now + _PROGRESS_SECONDS
            with suppress(OSError):  # It only spares a later process some work.
                self._spool.save_progress()

    def close(self) -> None:
        """Let go of the spool. What is pending stays for the next process."""
        spool, self._spool = self._spool, None
        if spool is not None:
            close(spool)

    def abandon(self) -> None:
        """The process is the child of a fork: the spool is the parent's."""
        spool, self._spool = self._spool, None
        if spool is not None:
            spool.abandon()

    @property
    def _directory(self) -> Path:
        return self._policy.root / self._producer

    def _opened(self) -> Spool:
        if self._spool is None:
            from meterstream.spool import Spool  # noqa: PLC0415 - see store

            # A child of a fork in between would hold the lock as long as it lives.
            with processes.no_fork():
                self._spool = Spool.create(
                    self._policy.root,
                    self._producer,
                    bytes_max=self._policy.bytes_max,
                    segment_bytes=self._policy.segment_bytes,
                    fsync=self._policy.fsync,
                )
        if self._route is None:
            write_route(self._directory, self._policy, None)
            self._route = (None,)
        return self._spool

    def _is_full(self, now: float) -> bool:
        """Whether the directory as a whole is at its bound, to a second, or this spool still is."""
        from meterstream.spool import size_of  # noqa: PLC0415 - see store

        if self._full_at is not None and self.size >= self._full_at:
            return True
        if now >= self._others_at:
            self._others_at = now + _RETRY_SECONDS
            self._others = max(0, size_of(self._policy.root) - self.size)
        if self.size + self._others < self._policy.bytes_max:
            return False
        self._tell_full()
        return True

    def _tell_full(self) -> None:
        self._complaints.error(
            "spool",
            f"the spool {self._policy.root} is full ({self.size} bytes of this process and "
            f"{self._others} of others, of {self._policy.bytes_max}): events wait in memory; "
            "is the broker away?",
        )

    def _start_over(self) -> None:
        """Somebody deleted the directory, and nothing of it is awaited: make it again."""
        self.close()
        self._runs.clear()
        self._read_through = 0
        self._route = None

    def _note_run(self, ticket: int, index: int, count: int) -> None:
        last = self._runs[-1] if self._runs else None
        if (
            last is not None
            and last.ticket + last.count == ticket
            and last.index + last.count == index
        ):
            last.count += count
            last.left += count
        else:
            self._runs.append(_Run(ticket, index, count))

    def _ticket(self, index: int) -> int:
        run = next(run for run in reversed(self._runs) if run.index <= index)
        return run.ticket + index - run.index


def payloads(entries: Sequence[Entry], bodies: Sequence[bytes]) -> list[bytes]:
    """What the spool keeps of entries."""
    tenants = [entry[TENANT_KEY] for entry in entries]
    lanes, sequences = [entry[LANE] for entry in entries], [entry[SEQUENCE] for entry in entries]
    texts = [entry[-1] for entry in entries]
    keys = [b"" if text is None else text.encode() for text in texts]
    sizes = [0 if text is None else len(key) + 1 for text, key in zip(texts, keys, strict=True)]
    heads = map(_HEAD.pack, lanes, sequences, map(len, tenants), sizes)
    return list(map(b"".join, zip(heads, tenants, keys, bodies, strict=True)))


def restored(data: bytes) -> tuple[Entry, bytes]:
    """An entry with what its outcome needs, nothing else in it, and the body of its record."""
    lane, sequence, tenant_bytes, key_bytes = _HEAD.unpack_from(data)
    key_at = _HEAD.size + tenant_bytes
    body_at = key_at + max(0, key_bytes - 1)
    key = data[key_at:body_at].decode() if key_bytes else None
    tenant = data[_HEAD.size : key_at]
    entry = (b"", b"", tenant, lane, 0, 0, 0, None, None, NO_ATTRIBUTES, sequence, key)
    return entry, data[body_at:]


def is_mark(entry: Entry) -> bool:
    """Whether an entry is nobody's event."""
    return not entry[TENANT_KEY]


def close(spool: Spool) -> None:
    """Let go of a spool, and leave nothing behind when all of it has an outcome."""
    with suppress(OSError):
        spool.save_progress()
    with suppress(OSError):
        spool.close()

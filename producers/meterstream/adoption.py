"""The events that dead processes left in the spool directory, sent under their own numbers.

One spool at a time. Nothing doubles: whatever had arrived already is known to the aggregator by
producer, lane and sequence, as long as it goes to the same partition as before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from meterstream import processes
from meterstream.complaints import describe
from meterstream.encoding import LANE
from meterstream.flight import Flight
from meterstream.settlement import Settlement
from meterstream.spool_route import read_route, write_route
from meterstream.spooled import close, is_mark, restored
from meterstream_schemas.placement import partition_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from meterstream.complaints import Complaints
    from meterstream.durability import SpoolPolicy
    from meterstream.spool import Spool
    from meterstream.status import Outcome
    from meterstream.transport import Report

LOOK_SECONDS: Final = 30.0
AGAIN_SECONDS: Final = 300.0
"""How long a spool is left alone that could not be adopted."""
_NEVER: Final = float("inf")
_BASE: Final = 1 << 48
_IN_FLIGHT_MAX: Final = 5_000
_AT_ONCE: Final = 1_000
"""Read in one round, so that live events need not wait long."""


def is_adopted(ticket: int) -> bool:
    """Whether a ticket is of an adopted entry."""
    return ticket >= _BASE


class _Adopted:
    """One dead process's spool on its way."""

    def __init__(self, spool: Spool, directory: Path, partitions: int, carrier: Settlement) -> None:
        self.spool: Final = spool
        self.directory: Final = directory
        self.partitions: Final = partitions
        self.settlement: Final = carrier
        self.read_through = 0
        self.damage_told = 0


class Adoption:
    """Looks for what dead processes left and carries it. Belongs to the background thread."""

    def __init__(
        self,
        policy: SpoolPolicy,
        complaints: Complaints,
        on_outcome: Callable[[Outcome], object] | None,
    ) -> None:
        self._policy: Final = policy
        self._complaints: Final = complaints
        self._on_outcome: Final = on_outcome
        self._look_at = 0.0
        self._begun = 0
        self._not_before: Final[dict[Path, float]] = {}
        """When to look again at spools that are there and not for us, or not now."""
        self._current: _Adopted | None = None
        self._flight = Flight(base=_BASE)
        self._delivered = 0

    @property
    def delivered(self) -> int:
        """Events of dead processes that are in the log now."""
        return self._delivered

    @property
    def flight(self) -> Flight:
        """What is under way of the present spool."""
        return self._flight

    def load(self, now: float, partitions: int, header: bytes) -> int:
        """Look for a spool when it is time, and put entries of the present one in flight."""
        current = self._current or self._look(now, partitions)
        if current is None:
            return 0
        current.settlement.send_due_again(now)
        room = min(_AT_ONCE, max(0, _IN_FLIGHT_MAX - len(self._flight)))
        try:
            loaded = self._read(current, room, header) if room else 0
        except Exception as problem:  # noqa: BLE001 - live events and other spools must go on
            self._let_go(current)
            self._postpone(current.directory, now, problem)
            self._look_at = 0.0
            return 1
        if not len(self._flight):
            self._finish(current)
            return 1  # There may be another: without a sleep in between.
        return loaded

    def apply(self, reports: list[Report], now: float) -> bool:
        """See `meterstream.settlement.Settlement.apply`."""
        current = self._current
        if current is None:
            return False
        before = current.settlement.acknowledged
        arrived = current.settlement.apply(reports, now)
        # Before anything leaves the disk: who sees that it is gone sees this too.
        self._delivered += current.settlement.acknowledged - before
        settled = current.settlement.settled
        if settled:
            current.spool.acknowledge([ticket - self._flight.base for ticket in settled])
            settled.clear()
        return arrived

    def send_all_again(self) -> None:
        """The transport forgot what it had."""
        if self._current is not None:
            self._current.settlement.send_all_again()

    def close(self) -> None:
        """Let go; what has no outcome stays for the next process."""
        if self._current is not None:
            self._let_go(self._current)

    def abandon(self) -> None:
        """The process is the child of a fork: the spool is the parent's."""
        current, self._current = self._current, None
        if current is not None:
            current.spool.abandon()

    def _look(self, now: float, partitions: int) -> _Adopted | None:
        """Take over the next spool that a dead process left, when it is time to look."""
        if now < self._look_at:
            return None
        self._look_at = now + LOOK_SECONDS
        # Imported here: who keeps events in memory needs neither files nor checksums.
        from meterstream.spool import Spool, left_behind  # noqa: PLC0415 - see above

        for directory in left_behind(self._policy.root):
            if now < self._not_before.get(directory, 0.0):
                continue
            topic, known = read_route(directory)
            if topic is not None and topic != self._policy.topic:
                self._not_before[directory] = _NEVER
                self._complaints.warn(
                    "adoption", f"{directory} holds events for another topic, {topic!r}: left there"
                )
                continue
            try:
                # A child of a fork in between would hold the lock as long as it lives.
                with processes.no_fork():
                    spool = Spool.adopt(directory)  # None: somebody else was faster.
                    if spool is not None:
                        self._take_over(spool, directory, partitions if known is None else known)
                if self._current is not None and known is None:
                    write_route(directory, self._policy, partitions)
            except Exception as problem:  # noqa: BLE001 - the others must still be adopted
                self.close()
                self._postpone(directory, now, problem)
            if self._current is not None:
                return self._current
        return None

    def _read(self, current: _Adopted, count_max: int, header: bytes) -> int:
        """Put entries in flight; how many."""
        entries = current.spool.read(current.read_through, count_max)
        for index, data in entries:
            entry, body = restored(data)
            ticket = self._flight.base + index
            partition = partition_of(entry[LANE], current.partitions)
            self._flight.put(ticket, entry, partition, header + body)
            if is_mark(entry):
                current.settlement.expect_mark(ticket)
            current.read_through = index
        self._tell_damage(current)
        return len(entries)

    def _tell_damage(self, current: _Adopted) -> None:
        damage = current.spool.corrupt_bytes
        if damage > current.damage_told:
            current.damage_told = damage
            self._complaints.error(
                "adoption",
                f"{current.directory}: {damage} bytes cannot be read and are skipped; "
                "their events are missing numbers to the aggregator",
            )

    def _postpone(self, directory: Path, now: float, problem: Exception) -> None:
        """Leave a spool to others, or for later."""
        self._not_before[directory] = now + AGAIN_SECONDS
        self._complaints.error(
            "adoption", f"{directory} cannot be adopted, its events stay there: {describe(problem)}"
        )

    def _take_over(self, spool: Spool, directory: Path, partitions: int) -> None:
        self._begun += 1
        self._flight = Flight(base=self._begun * _BASE, keep_contents=self._on_outcome is not None)
        settlement = Settlement(
            producer=spool.producer,
            flight=self._flight,
            complaints=self._complaints,
            on_outcome=self._on_outcome,
            collect=True,
        )
        self._current = _Adopted(spool, directory, partitions, settlement)
        self._tell_damage(self._current)

    def _finish(self, current: _Adopted) -> None:
        """Nothing of it is under way or waits."""
        if not current.spool.pending:
            # It may be there still, where nothing can be deleted: it must not be sent for ever.
            self._not_before[current.directory] = _NEVER
        self._let_go(current)
        if not current.directory.exists():
            self._not_before.pop(current.directory, None)
        self._look_at = 0.0  # There may be another.

    def _let_go(self, current: _Adopted) -> None:
        self._current = None
        self._flight = Flight(base=self._begun * _BASE)
        close(current.spool)

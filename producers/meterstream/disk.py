"""From the buffer to disk, into flight and to an outcome: a carrier that survives the process."""

from __future__ import annotations

import time as clock
from typing import TYPE_CHECKING, Final

from meterstream.adoption import Adoption, is_adopted
from meterstream.carrying import Carrier, send_from
from meterstream.complaints import describe
from meterstream.encoding import LANE, Encoder
from meterstream.grouping import Group
from meterstream.intake import Barrier, Claims
from meterstream.spooled import Spooled

if TYPE_CHECKING:
    from collections.abc import Callable

    from meterstream.complaints import Complaints
    from meterstream.connection import Connection
    from meterstream.durability import SpoolPolicy
    from meterstream.encoding import Entry
    from meterstream.intake import Intake
    from meterstream.marking import Marks
    from meterstream.status import Outcome
    from meterstream.transport import Report, Transport

_GROUP: Final = 1_000
_GATHER_SECONDS: Final = 0.004
"""From one group to the next, unless it is full or somebody waits: each costs as much as hundreds
of entries in it."""
_DISK_SECONDS: Final = 0.01
"""How soon to look again when the disk refused: acknowledgements make room."""


class DiskCarrier(Carrier):
    """Entries are written to disk in groups before they are in flight, connected or not.

    What finds no room in flight is read back later. When the disk refuses, entries go without it
    as long as there is a connection; otherwise a group of them, and the buffer, wait.
    """

    def __init__(
        self,
        *,
        intake: Intake,
        connection: Connection,
        marks: Marks,
        complaints: Complaints,
        on_outcome: Callable[[Outcome], object] | None,
        spool: SpoolPolicy,
    ) -> None:
        super().__init__(
            intake=intake,
            connection=connection,
            marks=marks,
            complaints=complaints,
            on_outcome=on_outcome,
            collect=True,
        )
        self.spooled: Final = Spooled(spool, intake.numbering.producer, complaints)
        self.adoption: Final = Adoption(spool, complaints, on_outcome)
        self.is_refused = False
        """The disk did not take the last group."""
        self.is_stuck = False
        """Nor could any of it be sent: it waits in memory."""
        self._group: Final = Group()
        self._gather_until = 0.0
        self._unstored_through = 0
        """The last ticket that went without the disk."""
        self._bodies: Final = Encoder(b"")

    @property
    def is_idle(self) -> bool:
        """Whether nothing of this incarnation is left to send or to wait for."""
        return super().is_idle and not self._group and not self.spooled.has_backlog

    @property
    def on_disk(self) -> int:
        """Events on disk without an outcome."""
        return max(0, self.spooled.pending - self.settlement.marks_open)

    @property
    def awaits_reports(self) -> bool:
        """Whether the transport holds something."""
        return len(self.flight) > 0 or len(self.adoption.flight) > 0

    def store(self, now: float) -> bool:
        """Write a group to disk; put it straight into flight where nothing waits before it."""
        group = self._group
        if not group:  # One that the disk refused goes first.
            if self._gathers(now):
                return False
            self._collect()
        if not group:
            return False
        self._gather_until = now + _GATHER_SECONDS
        may_pass = self._connection.is_open and not self.spooled.has_backlog
        if self.spooled.store(group, now):
            if may_pass:
                self.spooled.passed(self._launch())
            group.clear()
            self._tell_stored()
            self.is_refused = self.is_stuck = False
            return True
        launched = self._launch() if may_pass else 0  # Without the disk rather than not at all.
        self.is_refused, self.is_stuck = True, not launched
        if launched:
            group.drop(launched)
            self._unstored_through = group.first - 1
        return launched > 0

    def load(self, now: float) -> int:
        """Entries from disk into flight: this incarnation's first, then what others left."""
        partitions = self._connection.partitions
        assert partitions is not None
        self.spooled.keep_route(partitions, now)
        self.settlement.send_due_again(now)
        loaded = self.spooled.refill(
            self.flight, self._connection.partition_of_lane, self._connection.header
        )
        for ticket in self.spooled.lost:
            self.settlement.lose(ticket, "its place on disk cannot be read any more")
        self.spooled.lost.clear()
        return loaded + self.adoption.load(now, partitions, self._connection.header)

    def send(self, transport: Transport) -> int:
        """See `Carrier.send`."""
        return send_from(self.flight, transport) + send_from(self.adoption.flight, transport)

    def apply(self, reports: list[Report], now: float) -> bool:
        """Settle what the reports are about, in memory and on disk. Whether anything arrived."""
        adopted = [report for report in reports if is_adopted(report[0])]
        arrived = False
        if adopted:
            arrived = self.adoption.apply(adopted, now)
            reports = [report for report in reports if not is_adopted(report[0])]
        arrived = self.settlement.apply(reports, now) or arrived
        if self.settlement.settled:
            self.spooled.acknowledge(self.settlement.settled)
        return arrived

    def send_all_again(self) -> None:
        """The transport forgot what it had."""
        super().send_all_again()
        self.adoption.send_all_again()

    def on_time(self, now: float) -> None:
        """Now and then, write down what has an outcome."""
        self.spooled.on_time(now)

    def poll_seconds(self, seconds: float) -> float:
        """See `Carrier.poll_seconds`. What gathers in the buffer waits no longer than it must."""
        return min(seconds, _GATHER_SECONDS) if self._intake.buffer else seconds

    def sleep_seconds(self, seconds: float, *, is_open: bool) -> tuple[float, bool]:
        """See `Carrier.sleep_seconds`. New events are wanted, unless the disk refuses them."""
        if not self._group:
            if not self._intake.buffer:
                return seconds, True
            return min(seconds, _GATHER_SECONDS), False
        return (min(seconds, _DISK_SECONDS) if is_open else seconds), False

    def end(self) -> int:
        """Write what still waits to disk and let go of it. How many events stay there."""
        try:
            self.spooled.hurry()
            self._collect()
            while self._group and self.spooled.store(self._group, clock.monotonic()):
                self._group.clear()
                self._collect()
        except Exception as problem:  # noqa: BLE001 - the rest of the end must happen
            self._complaints.error("spool", f"not everything is on disk: {describe(problem)}")
        self._tell_stored()
        kept = self.on_disk
        self.spooled.close()
        self.adoption.close()
        return kept

    def abandon(self) -> None:
        """The process is the child of a fork: the files are the parent's."""
        self.spooled.abandon()
        self.adoption.abandon()

    def _gathers(self, now: float) -> bool:
        """Whether what is in the buffer waits a moment for more."""
        buffer = self._intake.buffer
        waits = now < self._gather_until and 0 < len(buffer) < _GROUP
        return waits and type(buffer[-1]) is not Barrier

    def _collect(self) -> None:
        """Fill the group from the buffer, encoded and with tickets."""
        buffer = self._intake.buffer
        count = min(_GROUP - len(self._group), len(buffer))
        entries: list[Entry] = []
        for item in [buffer.popleft() for _ in range(count)]:
            if type(item) is tuple:
                entries.append(item)
                continue
            self._add(entries)
            entries = []
            if type(item) is Barrier:
                self.barriers.place(item)
                if not self._group:
                    self._tell_stored()
            elif type(item) is Claims:
                for entry in self._marks.entries(item):
                    self.settlement.expect_mark(self.flight.last_ticket + 1)
                    self._add([entry])
        self._add(entries)

    def _add(self, entries: list[Entry]) -> None:
        """Encode them, and give each a ticket."""
        if not entries:
            return
        try:
            bodies = self._bodies.encode_all(entries)
        except Exception:  # noqa: BLE001 - one must not take the others along
            entries, bodies = self._each(entries)
        self._group.add(self.flight.next_tickets(len(entries)), entries, bodies)

    def _each(self, entries: list[Entry]) -> tuple[list[Entry], list[bytes]]:
        """Those that can be encoded; the others are lost."""
        kept: list[Entry] = []
        bodies: list[bytes] = []
        for entry in entries:
            try:
                body = self._bodies.encode(entry)
            except Exception as problem:  # noqa: BLE001 - one must not take the others along
                self.settlement.fail(entry, 0, describe(problem))
                continue
            kept.append(entry)
            bodies.append(body)
        return kept, bodies

    def _tell_stored(self) -> None:
        """Let those pass who wait for the disk alone."""
        if self.flight.settled_through() >= self._unstored_through:
            self.barriers.stored(self.spooled.stored_through)

    def _launch(self) -> int:
        """Put the group's first entries straight into flight, as far as there is room; how many."""
        group, partitions = self._group, self._connection.partition_of_lane
        count = min(len(group), max(0, self.flight.room))
        header, entries = self._connection.header, group.entries[:count]
        self.flight.put_all(
            group.first,
            entries,
            [partitions[entry[LANE]] for entry in entries],
            [header + body for body in group.bodies[:count]],
        )
        return count

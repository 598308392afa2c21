"""The one background thread of an incarnation: encodes, stores, sends, learns what became of it.

Each round, in order:

1. with a spool, write what waits in the buffer to disk, in one group;
2. connect, when there is no connection, and wait between attempts;
3. put entries in flight: from the buffer, or with a spool as they were written, and from the disk
   what did not find room before; then what dead processes left behind;
4. hand parcels in flight to the transport, as many as it takes;
5. poll reports: an offset settles an entry, a refusal for good settles it as failed, anything else
   sends it again under the same number;
6. release barriers (``flush``) that everything before them has passed;
7. do what time asks for: heartbeats, marks, log lines;
8. sleep until there is work, when nothing is in flight.

The thread ends when it is told to stop, after the closing marks have an outcome or the deadline
is over. Nothing an entry, a callback or a transport does ends it before.
"""

from __future__ import annotations

import time as clock
from typing import TYPE_CHECKING, Final

from meterstream import threads
from meterstream.carrying import Carrier
from meterstream.complaints import describe
from meterstream.connection import Connection
from meterstream.errors import TransportBroken
from meterstream.flight import Ages
from meterstream.marking import Marks
from meterstream.waking import Alarm, Gate

if TYPE_CHECKING:
    from collections.abc import Callable

    from meterstream.complaints import Complaints
    from meterstream.disk import DiskCarrier
    from meterstream.durability import SpoolPolicy
    from meterstream.intake import Intake
    from meterstream.status import Outcome
    from meterstream.transport import Transport

_POLL_SECONDS: Final = 0.01
_SLEEP_SECONDS_MAX: Final = 1.0


class Sender:
    """What the background thread runs. Only ``run`` changes it; other threads may read counts."""

    def __init__(
        self,
        *,
        intake: Intake,
        transport: Transport,
        schema_id: Callable[[], int],
        complaints: Complaints,
        mark_seconds: float,
        beat: Callable[[float], float],
        on_outcome: Callable[[Outcome], object] | None,
        spool: SpoolPolicy | None,
    ) -> None:
        self.rebuilt = 0
        self.ages: Final = Ages()
        self.ended: Final = Gate()
        self.stopped = False
        self.connection: Final = Connection(
            transport=transport,
            schema_id=schema_id,
            complaints=complaints,
            waiting_place="in the buffer" if spool is None else "on disk",
        )
        self.disk: DiskCarrier | None = None
        """The carrier, when it is one with a spool."""
        self._marks: Final = Marks(intake, mark_seconds)
        if spool is None:
            self.carrier = Carrier(
                intake=intake,
                connection=self.connection,
                marks=self._marks,
                complaints=complaints,
                on_outcome=on_outcome,
            )
        else:
            # Imported here: most hosts keep events in memory and need no files.
            from meterstream.disk import DiskCarrier  # noqa: PLC0415 - see above

            self.carrier = self.disk = DiskCarrier(
                intake=intake,
                connection=self.connection,
                marks=self._marks,
                complaints=complaints,
                on_outcome=on_outcome,
                spool=spool,
            )
        self.settlement: Final = self.carrier.settlement
        self._intake: Final = intake
        self._transport: Final = transport
        self._complaints: Final = complaints
        self._beat: Final = beat
        self._alarm: Final = Alarm()
        self._stop_at: float | None = None
        self._closing_claimed = False
        self._told = False

    def wake(self) -> None:
        """End the thread's sleep. Safe from any thread and from signal handlers; does not block."""
        self._intake.drowsy = False
        self._alarm.ring()

    def stop(self, *, deadline: float) -> None:
        """Finish what was taken, say so with closing marks, and end by ``deadline`` (monotonic)."""
        self._stop_at = deadline
        self.connection.hurry()
        self.wake()

    def abandon(self) -> None:
        """The process is the child of a fork: leave the parent's files alone."""
        self.carrier.abandon()

    def run(self) -> None:
        """Rounds until told to stop."""
        self._intake.background = threads.get_ident()
        while not self._is_done():
            try:
                self._round()
            except Exception as problem:  # noqa: BLE001 - the host's thread of last resort
                self._complaints.error(
                    "internal", f"the SDK met a fault of its own: {describe(problem)}"
                )
                threads.sleep(_POLL_SECONDS)
        self._end()

    def _round(self) -> None:
        now = clock.monotonic()
        stored = self.carrier.store(now)
        carried = self.connection.open(now, stop_at=self._stop_at) and self._carry(now)
        self.carrier.barriers.release()
        next_due = self._on_time(now)
        if not stored and not carried:
            self._rest(now, next_due)

    def _carry(self, now: float) -> bool:
        """Whether anything moved."""
        carrier = self.carrier
        try:
            loaded = carrier.load(now)
            sent = carrier.send(self._transport)
            is_busy = loaded or sent or not carrier.awaits_reports
            reports = self._transport.poll(0 if is_busy else carrier.poll_seconds(_POLL_SECONDS))
        except TransportBroken as problem:
            self.rebuilt += 1
            self._complaints.warn("broken", f"the client is built anew, nothing is lost: {problem}")
            carrier.send_all_again()
            self.connection.lost()
            return False
        if carrier.apply(reports, now):
            self.connection.proved()
        return bool(loaded or sent or reports)

    def _on_time(self, now: float) -> float:
        """Do what is due and return when the next thing is."""
        trouble = self._transport.trouble()
        if trouble is not None:
            self._complaints.warn("connect", trouble)
        self._complaints.log_due(now)
        flight = self.carrier.flight
        self.ages.note(
            taken=flight.last_ticket + len(self._intake.buffer),
            settled=flight.settled_through(),
            now=now,
        )
        self.carrier.on_time(now)
        self._marks.on_time(now)
        return min(self._marks.next_at, self._beat(now))

    def _rest(self, now: float, next_due: float) -> None:
        is_open = self.connection.is_open
        if is_open and self.carrier.awaits_reports:
            return  # The transport's poll waited already.
        until = next_due if is_open else min(next_due, self.connection.retry_at)
        seconds, may_be_woken = self.carrier.sleep_seconds(
            min(max(0.0, until - now), _SLEEP_SECONDS_MAX), is_open=is_open
        )
        if not may_be_woken:  # But by stop().
            self._alarm.sleep(seconds)
            return
        self._intake.drowsy = True
        # Looked at again after drowsy is set: whoever appended before that did not ring.
        if not self._intake.buffer:
            self._alarm.sleep(seconds)
        self._intake.drowsy = False

    def _is_done(self) -> bool:
        if self._stop_at is None:
            return False
        if not self._closing_claimed:
            self._closing_claimed = True
            self._marks.close()
        return clock.monotonic() >= self._stop_at or self.carrier.is_idle

    def tell_unsettled(self) -> None:
        """Say how many events have no outcome at the end, once."""
        if self._told:
            return
        self._told = True
        disk = 0 if self.disk is None else self.disk.on_disk
        left = self._intake.taken() - self.settlement.acknowledged - self.settlement.failed - disk
        if left > 0 and self.connection.partitions is None:
            why = self.connection.trouble or "the broker did not answer in time"
            self._complaints.error("close", f"closed while {left} events were not sent: {why}")
        elif left > 0:
            self._complaints.error(
                "close",
                f"closed while {left} events had no outcome; they may or may not be counted",
            )
        self._complaints.log_due(clock.monotonic())

    def _end(self) -> None:
        self.carrier.end()
        self.tell_unsettled()
        self._transport.close()
        self.stopped = True
        self.carrier.barriers.give_up(self._intake.buffer)
        self.ended.open()

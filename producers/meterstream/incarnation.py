"""One producer incarnation: an id, its numbers, its buffer, its thread and its open sessions.

A meter has one at a time; a fork gives the child's meter another. The thread starts with the
first event.
"""

from __future__ import annotations

import time as clock
import weakref
from contextlib import suppress
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, Protocol, TypeAlias

from meterstream import threads
from meterstream.complaints import Complaints, describe
from meterstream.durability import check_number
from meterstream.errors import BufferFull, MeterClosed, MeterError, SettingsError
from meterstream.intake import INVALID, Barrier, Intake, Overflow
from meterstream.refusals import shown
from meterstream.sender import Sender
from meterstream.status import Outcome, Status

if TYPE_CHECKING:
    from collections.abc import Callable

    from meterstream.durability import SpoolPolicy
    from meterstream.session import Session
    from meterstream.settlement import Arrival
    from meterstream.transport import Transport

Goal: TypeAlias = Literal["log", "disk"]
"""How far events must have come for a flush."""

AWAY_SECONDS: Final = 3.0
"""How old an event without an outcome is when the log counts as away."""
SLOW_SECONDS: Final = 1.0
"""How old it is when the log is too slow for a spool that is nearly full."""
_END_GRACE_SECONDS: Final = 0.5
_DRAIN_SECONDS_MAX: Final = 1.0


class Policy(NamedTuple):
    """What a meter was told, in force for all its incarnations. See `meterstream.meter.Meter`."""

    transport: Transport
    schema_id: Callable[[], int]
    strict: bool
    buffer_events_max: int
    overflow: Overflow
    block_seconds: float
    heartbeat_seconds: float
    mark_seconds: float
    on_outcome: Callable[[Outcome], object] | None
    spool: SpoolPolicy | None


class Chore(Protocol):
    """Something that holds back events for a while, such as sums of a hot counter."""

    def due(self, now: float) -> float:
        """Record what is due and return when the next is; ``now`` is monotonic seconds.

        Called by the background thread, which must not wait in it.
        """
        ...

    def drain(self, patience_seconds: float) -> None:
        """Record everything that is held, now. Called from any thread, by flush and close.

        Waits for another thread that does so already at most so long: not at all for 0.
        """
        ...


class Incarnation:
    """Safe from any thread. Takes no lock that an interrupted caller could hold.

    ``started`` is called once, when there is a thread and so something to end.
    """

    def __init__(self, policy: Policy, *, started: Callable[[], None]) -> None:
        self._started: Final = started
        self._strict: Final = policy.strict
        self._heartbeat_seconds: Final = policy.heartbeat_seconds
        self._complaints: Final = Complaints()
        self._sessions: Final[dict[int, weakref.ref[Session]]] = {}
        self.chores: Final[list[Chore]] = []
        self._beat_at = clock.monotonic() + policy.heartbeat_seconds
        self._starting: Final = threads.allocate_lock()
        self._thread: int | None = None
        self.intake: Final = Intake(
            capacity=policy.buffer_events_max,
            overflow=policy.overflow,
            block_seconds=policy.block_seconds,
            strict=policy.strict,
            wake=self.wake,
        )
        self._sender: Final = Sender(
            intake=self.intake,
            transport=policy.transport,
            schema_id=policy.schema_id,
            complaints=self._complaints,
            mark_seconds=policy.mark_seconds,
            beat=self._beat,
            on_outcome=policy.on_outcome,
            spool=policy.spool,
        )

    @property
    def producer(self) -> str:
        """The id: 32 hexadecimal digits."""
        return self.intake.numbering.producer

    def refused(self, problem: Exception, event_type: object = None) -> bool:
        """Count and keep what was wrong with an event; raise it where that was asked for."""
        if isinstance(problem, BufferFull | MeterClosed):
            raise problem  # By policy, and counted already.
        self.intake.dropped.add(INVALID)
        of = "" if event_type is None else f"{shown(event_type)}: "
        self._complaints.error("invalid", f"an event was refused: {of}{describe(problem)}")
        self.wake()
        if self._strict:
            raise problem
        return False

    def flush(self, timeout: float, *, to: Goal = "log") -> bool:
        """See `meterstream.meter.Meter.flush`."""
        check_number("timeout", timeout)
        if to == "disk" and self._sender.disk is None:
            raise SettingsError("flush: durability 'memory' has no disk; choose 'spool'")
        self._drain(timeout)
        if not self.status().buffered:
            return True
        if self._is_background() or self._sender.stopped:
            return False
        barrier = Barrier(on_disk=to == "disk")
        self.intake.buffer.append(barrier)
        self.wake()
        if not self._sender.stopped:
            barrier.reached.wait(timeout)
        return barrier.settled

    @property
    def is_stuck(self) -> bool:
        """Whether what is recorded now would wait in memory: neither disk nor log take events.

        A client that is connected takes some, whether or not the broker is there: what it holds
        for `AWAY_SECONDS` says that it is not. A disk that is nearly full counts as full after
        `SLOW_SECONDS` already: what is on its way to it must find room there.
        """
        disk = self._sender.disk
        if disk is None or not (disk.is_refused or disk.spooled.is_near_bound):
            return False
        age_seconds = self._sender.ages.oldest_seconds(clock.monotonic())
        if disk.is_refused:
            return disk.is_stuck or age_seconds > AWAY_SECONDS
        return age_seconds > SLOW_SECONDS

    def listen(self, on_arrivals: Callable[[list[Arrival]], None]) -> None:
        """Tell what is in the log many at once, in place of an outcome for each. Before any event.

        Called in the background thread; must neither wait nor raise. Takes an ``on_outcome``, which
        is told of what fails, and of what dead processes left.
        """
        self._sender.settlement.on_arrivals = on_arrivals

    def tell_on_disk(self, told: Callable[[], None]) -> Barrier:
        """As `flush` to the disk, without waiting: ``told`` is called in the background thread.

        Then ``settled`` of what is returned says whether all that was recorded before is on disk,
        or has an outcome. ``told`` must neither wait nor raise. Takes a durability with a disk.
        """
        assert self._sender.disk is not None
        barrier = Barrier(on_disk=True, told=told)
        self.intake.buffer.append(barrier)
        self.wake()
        if self._sender.stopped:
            barrier.open(settled=False)
        return barrier

    def close(self, timeout: float) -> bool:
        """See `meterstream.meter.Meter.close`."""
        check_number("timeout", timeout)
        self._drain(timeout)
        self.intake.close()
        self._drain(timeout)  # Again: what a chore was given meanwhile is counted as dropped.
        if self._is_background():
            return False
        sender, deadline = self._sender, clock.monotonic() + max(0.0, timeout)
        if self._thread is None and not self.intake.numbering.spent():
            sender.stopped = True  # Nothing was ever taken: there is nothing to say.
        elif not sender.stopped:
            sender.stop(deadline=deadline)
            if self._start():
                sender.ended.wait(deadline - clock.monotonic() + _END_GRACE_SECONDS)
            else:
                sender.run()  # The interpreter starts no threads any more.
            if not sender.stopped:  # It is busy still, and the process may end before it does.
                with suppress(Exception):  # Nothing can be logged at the very end.
                    sender.tell_unsettled()
        return sender.stopped and not self.status().buffered

    def status(self) -> Status:
        """See `meterstream.meter.Meter.status`."""
        intake, sender, now = self.intake, self._sender, clock.monotonic()
        settlement, disk = sender.settlement, sender.disk
        acknowledged, failed = settlement.acknowledged, settlement.failed
        recorded = intake.taken()
        last_error, last_error_age_seconds = self._complaints.last(now)
        return Status(
            producer=self.producer,
            recorded=recorded,
            buffered=recorded - acknowledged - failed,
            spooled=0 if disk is None else disk.on_disk,
            spool_bytes=0 if disk is None else disk.spooled.size,
            spool_bytes_max=0 if disk is None else disk.spooled.size_max,
            adopted=0 if disk is None else disk.adoption.delivered,
            acknowledged=acknowledged,
            failed=failed,
            dropped=intake.dropped.nonzero(),
            resent=settlement.resent,
            ack_without_offset=settlement.ack_without_offset,
            rebuilt=sender.rebuilt,
            partitions=sender.connection.partitions,
            open_sessions=len(self._sessions),
            oldest_unacknowledged_seconds=sender.ages.oldest_seconds(now),
            last_error=last_error,
            last_error_age_seconds=last_error_age_seconds,
            closed=intake.closed,
        )

    def wake(self) -> None:
        """Let the background thread look, and begin when there is none. Does not block."""
        if self._start():
            self._sender.wake()

    def abandon(self) -> None:
        """The process is the child of a fork, and this incarnation its parent's."""
        self._sender.abandon()

    def follow(self, session: Session) -> None:
        """Send signs of life for a session as long as it is open and somebody refers to it."""
        identity, sessions = id(session), self._sessions
        sessions[identity] = weakref.ref(session, lambda _: sessions.pop(identity, None))

    def forget(self, session: Session) -> None:
        """Send no more signs of life."""
        self._sessions.pop(id(session), None)

    def _start(self) -> bool:
        """Whether the background thread runs; starts it when it does not."""
        if self._thread is None and self._starting.acquire(blocking=False):
            # A bare thread: `threading.Thread.start` takes locks that an interrupted host may hold.
            try:
                self._thread = threads.start_new_thread(self._sender.run, ())
            except RuntimeError as problem:
                self._starting.release()
                self._complaints.warn("thread", f"events wait in the buffer: {problem}")
            else:
                self._started()
        return self._thread is not None

    def _is_background(self) -> bool:
        return threads.get_ident() == self.intake.background

    def _beat(self, now: float) -> float:
        """Chores, and signs of life of all open sessions, when due. Returns when that is next."""
        if now >= self._beat_at:
            self._beat_at = now + self._heartbeat_seconds
            for reference in tuple(self._sessions.values()):
                session = reference()
                if session is not None:
                    with suppress(MeterError):  # Counted already; there is nobody to raise to.
                        session.heartbeat()
        return min([self._beat_at, *(chore.due(now) for chore in self.chores)])

    def _drain(self, timeout: float) -> None:
        patience_seconds = max(0.0, min(timeout, _DRAIN_SECONDS_MAX))
        for chore in tuple(self.chores):
            with suppress(MeterError):  # Counted already; flush and close tell by their answer.
                chore.drain(patience_seconds)

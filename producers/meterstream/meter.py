"""`Meter`: the one object a service talks to."""

from __future__ import annotations

import _thread
import time as clock
import weakref
from contextlib import suppress
from typing import TYPE_CHECKING, Final, Self, get_args

from meterstream import processes
from meterstream.complaints import Complaints, describe
from meterstream.encoding import SESSION_END, SESSION_HEARTBEAT, SESSION_START, USAGE
from meterstream.errors import BufferFull, MeterClosed, MeterError, SettingsError
from meterstream.intake import INVALID, Barrier, Intake, Overflow
from meterstream.kafka import KafkaTransport
from meterstream.schema_ids import schema_ids
from meterstream.sender import Sender
from meterstream.session import Session
from meterstream.settings import find_bootstrap_servers, find_registry_url, find_topic
from meterstream.status import Outcome, Status
from meterstream_schemas.errors import InvalidEvent

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime
    from decimal import Decimal
    from pathlib import Path
    from types import TracebackType

    from meterstream.transport import Transport

BUFFER_EVENTS_MAX: Final = 100_000
BLOCK_SECONDS: Final = 30.0
HEARTBEAT_SECONDS: Final = 30.0
MARK_SECONDS: Final = 30.0
CLOSE_SECONDS: Final = 5.0
_END_GRACE_SECONDS: Final = 0.5


class Meter:
    """Records what tenants use and sends it to Kafka from one background thread.

    Safe from any thread, from signal handlers and after forks. Nothing is connected, and no
    thread started, before the first event. Arguments win over ``METERSTREAM_*`` variables.

    - ``service``: names this client to the broker.
    - ``bootstrap_servers``, ``topic``, ``registry_url``: where events go. Without the first,
      ``data`` or ``METERSTREAM_DATA`` names a directory of ``meterstream up``.
    - ``strict``: wrong arguments and drops raise; by default they are counted in `status`.
    - ``buffer_events_max``: events that wait for the broker at most; see `meterstream.intake`.
    - ``overflow``: what happens to an event beyond that: ``drop_newest``, ``block`` for at most
      ``block_seconds`` and then drop, or ``raise`` `BufferFull`.
    - ``on_outcome``: called in the background thread with the `Outcome` of every event.
    - ``transport``: another way out than Kafka, such as `meterstream.memory.MemoryTransport`.
    - ``heartbeat_seconds``: between signs of life of open sessions; ``mark_seconds``: between
      announcements of the numbers used; ``close_seconds``: the deadline at exit of the process.
    - ``kafka_settings``: further librdkafka settings, such as ``security.protocol``.

    Raises `SettingsError` for settings that cannot be used.
    """

    def __init__(
        self,
        service: str = "",
        *,
        bootstrap_servers: str | None = None,
        topic: str | None = None,
        data: str | Path | None = None,
        registry_url: str | None = None,
        strict: bool = False,
        buffer_events_max: int = BUFFER_EVENTS_MAX,
        overflow: Overflow = "drop_newest",
        block_seconds: float = BLOCK_SECONDS,
        on_outcome: Callable[[Outcome], object] | None = None,
        transport: Transport | None = None,
        heartbeat_seconds: float = HEARTBEAT_SECONDS,
        mark_seconds: float = MARK_SECONDS,
        close_seconds: float = CLOSE_SECONDS,
        kafka_settings: Mapping[str, str | int | bool] | None = None,
    ) -> None:
        if overflow not in get_args(Overflow):
            raise SettingsError(f"overflow: {overflow!r} is none of {get_args(Overflow)}")
        _check_positive(
            buffer_events_max=buffer_events_max,
            heartbeat_seconds=heartbeat_seconds,
            mark_seconds=mark_seconds,
        )
        topic = find_topic(topic)
        self._strict: Final = strict
        self._buffer_events_max: Final = buffer_events_max
        self._overflow: Final[Overflow] = overflow
        self._block_seconds: Final = block_seconds
        self._on_outcome: Final = on_outcome
        self._heartbeat_seconds: Final = heartbeat_seconds
        self._mark_seconds: Final = mark_seconds
        self._close_seconds: Final = close_seconds
        self._schema_id: Final = schema_ids(find_registry_url(registry_url), topic)
        self._transport: Final[Transport] = transport or KafkaTransport(
            bootstrap_servers=lambda: find_bootstrap_servers(bootstrap_servers, data),
            topic=topic,
            client_id=service or "meterstream",
            settings=kafka_settings,
        )
        self._begin()
        processes.enroll(self)

    @property
    def producer(self) -> str:
        """This incarnation's id: 32 hexadecimal digits, new in every process and after a fork."""
        return self._intake.numbering.producer

    def record(
        self,
        type: str,  # noqa: A002 - the event's own field
        *,
        tenant: str,
        quantity: int | Decimal | str = 1,
        time: datetime | int | None = None,
        session: str | None = None,
        subject: str | None = None,
        attributes: Mapping[str, str] | None = None,
        key: str | None = None,
    ) -> bool:
        """Take one usage event. Does not wait, but under the policy ``block``; does no I/O.

        ``time`` is an aware datetime or microseconds UTC, now by default. ``key`` makes the call
        safe to repeat from another process: equal keys of a tenant count once.

        True: numbered and taken. False: refused or dropped, and counted in `status`; in ``strict``
        that raises `InvalidEvent`, `BufferFull` or `MeterClosed` instead.
        """
        try:
            return self._intake.take(
                USAGE, type, tenant, quantity, time, session, subject, attributes, key
            )
        except Exception as problem:  # noqa: BLE001 - nothing may reach the host
            return self._refused(problem)

    def session(
        self,
        type: str,  # noqa: A002 - the event's own field
        *,
        tenant: str,
        session: str | None = None,
        subject: str | None = None,
        attributes: Mapping[str, str] | None = None,
    ) -> Session:
        """A session for a ``with`` or ``async with`` block, with signs of life while it is open.

        ``session`` is its id; a random one by default. Nothing is sent before the block begins.
        """
        return Session(
            self, type, tenant=tenant, session=session, subject=subject, attributes=attributes
        )

    def session_start(
        self,
        type: str,  # noqa: A002 - the event's own field
        *,
        tenant: str,
        session: str,
        subject: str | None = None,
        attributes: Mapping[str, str] | None = None,
        time: datetime | int | None = None,
        key: str | None = None,
    ) -> bool:
        """Say that a session started. Its signs of life are the caller's. Returns as `record`."""
        return self._bound(SESSION_START, type, tenant, session, subject, attributes, time, key)

    def session_heartbeat(
        self,
        type: str,  # noqa: A002 - the event's own field
        *,
        tenant: str,
        session: str,
        subject: str | None = None,
        attributes: Mapping[str, str] | None = None,
        time: datetime | int | None = None,
        key: str | None = None,
    ) -> bool:
        """Say that a session is alive. Returns as `record`."""
        return self._bound(SESSION_HEARTBEAT, type, tenant, session, subject, attributes, time, key)

    def session_end(
        self,
        type: str,  # noqa: A002 - the event's own field
        *,
        tenant: str,
        session: str,
        subject: str | None = None,
        attributes: Mapping[str, str] | None = None,
        time: datetime | int | None = None,
        key: str | None = None,
    ) -> bool:
        """Say that a session ended. Returns as `record`."""
        return self._bound(SESSION_END, type, tenant, session, subject, attributes, time, key)

    def flush(self, timeout: float) -> bool:
        """Wait at most ``timeout`` seconds until all that was recorded before has an outcome.

        True when it has: an event is in the log, or the broker refused it for good. Not for use in
        an event loop, nor in ``on_outcome``, where it returns False at once.
        """
        barrier = Barrier()
        if self._is_background() or self._sender.stopped:
            return not self.status().buffered
        self._intake.buffer.append(barrier)
        self._wake()
        if not self._sender.stopped:
            barrier.reached.wait(timeout)
        return barrier.settled

    def status(self) -> Status:
        """How this meter is. Cheap (about 0.1 ms), never waits, safe from any thread."""
        intake, sender, now = self._intake, self._sender, clock.monotonic()
        acknowledged, failed = sender.acknowledged, sender.failed
        recorded = intake.taken()
        last_error, last_error_age_seconds = self._complaints.last(now)
        return Status(
            producer=self.producer,
            recorded=recorded,
            buffered=recorded - acknowledged - failed,
            acknowledged=acknowledged,
            failed=failed,
            dropped=intake.dropped.nonzero(),
            resent=sender.resent,
            ack_without_offset=sender.ack_without_offset,
            rebuilt=sender.rebuilt,
            partitions=sender.partitions,
            open_sessions=len(self._sessions),
            oldest_unacknowledged_seconds=sender.ages.oldest_seconds(now),
            last_error=last_error,
            last_error_age_seconds=last_error_age_seconds,
            closed=intake.closed,
        )

    def close(self, timeout: float = CLOSE_SECONDS) -> bool:
        """Take nothing more, send what was taken, and end; at most about ``timeout`` seconds.

        True when everything taken has an outcome. What has none then is reported by the aggregator
        as missing. Calling it again only waits again.
        """
        self._intake.close()
        if self._is_background():
            return False
        sender, deadline = self._sender, clock.monotonic() + max(0.0, timeout)
        if self._thread is None and not self._intake.numbering.spent():
            sender.stopped = True  # Nothing was ever taken: there is nothing to say.
        elif not sender.stopped:
            sender.stop(deadline=deadline)
            if self._start():
                self._wait_for_end(deadline)
            else:
                sender.run()  # The interpreter starts no threads any more.
        return sender.stopped and not self.status().buffered

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close(self._close_seconds)

    def __repr__(self) -> str:
        return f"<Meter {self.producer}{' closed' if self._intake.closed else ''}>"

    # What a session asks of its meter.

    def boundary(
        self,
        kind: int,
        type: str,  # noqa: A002 - the event's own field
        *,
        tenant: str,
        session: str,
        subject: str | None,
        attributes: Mapping[str, str] | None,
        time: int | None,
    ) -> bool:
        """See `meterstream.session.Boundaries`."""
        return self._bound(kind, type, tenant, session, subject, attributes, time, None)

    def follow(self, session: Session) -> None:
        """See `meterstream.session.Boundaries`. A session nobody refers to any more is forgotten."""
        identity, sessions = id(session), self._sessions
        sessions[identity] = weakref.ref(session, lambda _: sessions.pop(identity, None))

    def forget(self, session: Session) -> None:
        """See `meterstream.session.Boundaries`."""
        self._sessions.pop(id(session), None)

    # What the process tells.

    def after_fork(self) -> None:
        """In the child of a fork: begin anew, with nothing of the parent's."""
        closed = self._intake.closed
        self._transport.after_fork()
        self._begin()
        if closed:
            self._intake.close()

    def at_exit(self) -> None:
        """At the end of the process: close."""
        self.close(self._close_seconds)

    # One incarnation.

    def _begin(self) -> None:
        self._complaints = Complaints()
        self._sessions: dict[int, weakref.ref[Session]] = {}
        self._beat_at = clock.monotonic() + self._heartbeat_seconds
        self._starting = _thread.allocate_lock()
        self._thread: int | None = None
        self._intake = Intake(
            capacity=self._buffer_events_max,
            overflow=self._overflow,
            block_seconds=self._block_seconds,
            strict=self._strict,
            wake=self._wake,
        )
        self._sender = Sender(
            intake=self._intake,
            transport=self._transport,
            schema_id=self._schema_id,
            complaints=self._complaints,
            mark_seconds=self._mark_seconds,
            beat=self._beat,
            on_outcome=self._on_outcome,
        )

    def _wake(self) -> None:
        if self._start():
            self._sender.wake()

    def _start(self) -> bool:
        """Whether the background thread runs. Takes no lock that it could wait for."""
        if self._thread is None and self._starting.acquire(blocking=False):
            # A bare thread: `threading.Thread.start` takes locks that an interrupted host may hold.
            try:
                self._thread = _thread.start_new_thread(self._sender.run, ())
            except RuntimeError as problem:
                self._starting.release()
                self._complaints.warn("thread", f"events wait in the buffer: {problem}")
            else:
                processes.hook_multiprocessing()
        return self._thread is not None

    def _is_background(self) -> bool:
        return _thread.get_ident() == self._intake.background

    def _wait_for_end(self, deadline: float) -> None:
        self._sender.ended.wait(deadline - clock.monotonic() + _END_GRACE_SECONDS)

    def _beat(self, now: float) -> float:
        """Signs of life of all open sessions, when due. Returns when that is next."""
        if now >= self._beat_at:
            self._beat_at = now + self._heartbeat_seconds
            for reference in tuple(self._sessions.values()):
                session = reference()
                if session is not None:
                    with suppress(MeterError):  # Counted already; there is nobody to raise to.
                        session.heartbeat()
        return self._beat_at

    def _bound(
        self,
        kind: int,
        event_type: object,
        tenant: object,
        session: object,
        subject: object,
        attributes: object,
        time: object,
        key: object,
    ) -> bool:
        try:
            if session is None:
                raise InvalidEvent("session", "is missing; pass the session's id")
            return self._intake.take(
                kind, event_type, tenant, 0, time, session, subject, attributes, key
            )
        except Exception as problem:  # noqa: BLE001 - nothing may reach the host
            return self._refused(problem)

    def _refused(self, problem: Exception) -> bool:
        """Count and keep what was wrong; raise it where that was asked for."""
        if isinstance(problem, BufferFull | MeterClosed):
            raise problem
        self._intake.dropped.add(INVALID)
        self._complaints.error("invalid", f"an event was refused: {describe(problem)}")
        self._wake()
        if self._strict:
            raise problem
        return False


def _check_positive(**settings: float) -> None:
    for name, value in settings.items():
        if not value > 0:
            raise SettingsError(f"{name}: {value!r} is not positive")

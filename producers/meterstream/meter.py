"""`Meter`: the one object a service talks to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Self

from meterstream import processes
from meterstream.boundaries import Boundaries
from meterstream.building import (
    check_settings,
    choose_spool,
    choose_transport,
    load_what_hooks_forks,
)
from meterstream.context import AMBIENT, complete
from meterstream.conveniences import Conveniences
from meterstream.durability import SPOOL_BYTES_MAX
from meterstream.encoding import USAGE, VOID
from meterstream.incarnation import Incarnation, Policy
from meterstream.intake import exact_text
from meterstream.schema_ids import schema_ids
from meterstream.settings import find_registry_url, find_topic
from meterstream_schemas.events import ID_BYTES_MAX

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime
    from decimal import Decimal
    from pathlib import Path
    from types import TracebackType

    from meterstream.durability import Durability
    from meterstream.incarnation import Goal
    from meterstream.intake import Overflow
    from meterstream.status import Outcome, Status
    from meterstream.transport import Transport

BUFFER_EVENTS_MAX: Final = 100_000
BLOCK_SECONDS: Final = 30.0
HEARTBEAT_SECONDS: Final = 30.0
MARK_SECONDS: Final = 30.0
CLOSE_SECONDS: Final = 5.0


class Meter(Boundaries, Conveniences):
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
    - ``durability``: ``memory``; or ``spool``, on disk some milliseconds after the call, for the
      next process if this one dies; or ``fsync``, the same against a loss of power. ``spool`` is
      the directory, of at most ``spool_bytes_max`` in all; see `meterstream.spooled`.
    - ``gateway_url``, ``api_key``: events go over HTTP to a gateway in place of Kafka.
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
        durability: Durability | None = None,
        spool: str | Path | None = None,
        spool_bytes_max: int = SPOOL_BYTES_MAX,
        gateway_url: str | None = None,
        api_key: str | None = None,
        transport: Transport | None = None,
        heartbeat_seconds: float = HEARTBEAT_SECONDS,
        mark_seconds: float = MARK_SECONDS,
        close_seconds: float = CLOSE_SECONDS,
        kafka_settings: Mapping[str, str | int | bool] | None = None,
    ) -> None:
        check_settings(
            overflow=overflow,
            bootstrap_servers=bootstrap_servers,
            block_seconds=block_seconds,
            close_seconds=close_seconds,
            buffer_events_max=buffer_events_max,
            heartbeat_seconds=heartbeat_seconds,
            mark_seconds=mark_seconds,
        )
        topic = find_topic(topic)
        self._close_seconds: Final = close_seconds
        self._policy: Final = Policy(
            transport=transport
            or choose_transport(
                service=service,
                bootstrap_servers=bootstrap_servers,
                topic=topic,
                data=data,
                gateway_url=gateway_url,
                api_key=api_key,
                kafka_settings=kafka_settings,
            ),
            schema_id=schema_ids(find_registry_url(registry_url), topic),
            strict=strict,
            buffer_events_max=buffer_events_max,
            overflow=overflow,
            block_seconds=block_seconds,
            heartbeat_seconds=heartbeat_seconds,
            mark_seconds=mark_seconds,
            on_outcome=on_outcome,
            spool=choose_spool(durability, spool, spool_bytes_max, topic=topic, data=data),
        )
        load_what_hooks_forks()
        self._begin()
        processes.enroll(self)

    def current(self) -> Incarnation:
        """The incarnation that takes events now; a fork gives the child another."""
        return self._incarnation

    @property
    def producer(self) -> str:
        """The incarnation's id: 32 hexadecimal digits, new in every process and after a fork."""
        return self._incarnation.producer

    def record(
        self,
        type: str,  # noqa: A002 - the event's own field
        *,
        tenant: str | None = None,
        quantity: int | Decimal | str = 1,
        time: datetime | int | None = None,
        session: str | None = None,
        subject: str | None = None,
        attributes: Mapping[str, str] | None = None,
        key: str | None = None,
        coalesce: float | None = None,
    ) -> bool:
        """Take one usage event. Does not wait, but under the policy ``block``; does no I/O.

        ``time`` is an aware datetime or microseconds UTC, now by default. ``key`` makes the call
        safe to repeat from another process: equal keys of a tenant count once. Tenant, subject,
        session and attributes may come from `meterstream.context` in place of the call.
        ``coalesce``: seconds over which equal calls become one event; see `meterstream.coalescing`.

        True: numbered and taken. False: refused or dropped, and counted in `status`; in ``strict``
        that raises `InvalidEvent`, `BufferFull` or `MeterClosed` instead.
        """
        try:
            ambient = AMBIENT.get()
            if ambient is not None:
                tenant, subject, session, attributes = complete(
                    ambient, tenant, subject, session, attributes
                )
            if coalesce is not None:
                return self._coalesce(
                    coalesce, type, tenant, quantity, time, session, subject, attributes, key
                )
            number = self._intake.take(
                USAGE, type, tenant, quantity, time, session, subject, attributes, key
            )
            return number > 0
        except Exception as problem:  # noqa: BLE001 - nothing may reach the host
            return self._incarnation.refused(problem, type)

    def void(
        self,
        type: str,  # noqa: A002 - the event's own field
        *,
        key: str,
        time: datetime | int,
        tenant: str | None = None,
        quantity: int | Decimal | str = 1,
        session: str | None = None,
        subject: str | None = None,
        attributes: Mapping[str, str] | None = None,
    ) -> bool:
        """Take back a usage event that was recorded with this ``key``, by repeating its content.

        Everything must be as it was recorded, the time included; other content is a conflict and
        becomes a dead letter. It may be sent before the event itself. Answers as `record` does.
        """
        try:
            key = exact_text(key, field="key", bytes_max=ID_BYTES_MAX)
            ambient = AMBIENT.get()
            if ambient is not None:
                tenant, subject, session, attributes = complete(
                    ambient, tenant, subject, session, attributes
                )
            number = self._intake.take(
                VOID, type, tenant, quantity, time, session, subject, attributes, key
            )
            return number > 0
        except Exception as problem:  # noqa: BLE001 - nothing may reach the host
            return self._incarnation.refused(problem, type)

    def flush(self, timeout: float, *, to: Goal = "log") -> bool:
        """Wait at most ``timeout`` seconds until all that was recorded before has an outcome.

        True when it has: an event is in the log, or the broker refused it for good. With
        ``to="disk"`` being on disk is enough; that takes a ``durability`` that has one, or raises
        `SettingsError`. Not for use in an event loop, nor in ``on_outcome``, where it returns
        False at once.
        """
        return self._incarnation.flush(timeout, to=to)

    def status(self) -> Status:
        """How this meter is. Cheap (about 0.1 ms), never waits, safe from any thread."""
        return self._incarnation.status()

    def close(self, timeout: float = CLOSE_SECONDS) -> bool:
        """Take nothing more, send what was taken, and end; at most about ``timeout`` seconds.

        True when everything taken has an outcome. What has none then stays on disk with a
        ``durability`` that has one; else it is lost, and logged: the aggregator knows of it as far
        as a later number or a mark of this incarnation arrived. Calling it again only waits again.
        """
        settled = self._incarnation.close(timeout)
        processes.release(self)
        return settled

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

    # What the process tells.

    def after_fork(self) -> None:
        """In the child of a fork: begin anew, with nothing of the parent's."""
        closed = self._intake.closed
        self._policy.transport.after_fork()
        self._incarnation.abandon()
        self._begin()
        if closed:
            self._intake.close()

    def at_exit(self) -> None:
        """At the end of the process: close."""
        self.close(self._close_seconds)

    def _begin(self) -> None:
        self._incarnation = Incarnation(self._policy, started=lambda: processes.keep(self))
        self._intake = self._incarnation.intake

"""For a host's own tests: a meter that keeps what was recorded, and says what it lacks.

`RecordingMeter` is a whole meter, encoder and background thread included, over a transport in
memory: what its ``events`` show has been through everything that an event goes through on its way
to Kafka. Reading them waits for that thread, some milliseconds at most. Nothing here needs pytest;
with pytest, the fixtures of `meterstream.testing_plugin` are there without further ado.
"""

from __future__ import annotations

import threading
from collections import Counter, deque
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from meterstream import default
from meterstream.memory import MemoryTransport
from meterstream.meter import HEARTBEAT_SECONDS, Meter
from meterstream.testing_wanted import ANY, Wanted, complaint, told
from meterstream_schemas import codec, wire
from meterstream_schemas.events import EventKind

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping

    from meterstream.status import Outcome


__all__ = [
    "ANY",
    "EventKind",
    "RecordedEvent",
    "RecordedSession",
    "RecordingMeter",
    "as_default_meter",
]

_SECONDS_MAX: Final = 10.0
"""Nothing in memory takes so long; beyond it something is broken, and the test fails."""
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class RecordedEvent(NamedTuple):
    """An event as it would have gone to the log."""

    type: str
    tenant: str
    quantity: Decimal
    attributes: Mapping[str, str]
    session: str | None
    subject: str | None
    key: str | None
    time: datetime
    kind: EventKind


class RecordedSession(NamedTuple):
    """The boundaries of one session. ``start`` and ``end`` are None where none was recorded."""

    id: str | None
    type: str
    tenant: str
    subject: str | None
    attributes: Mapping[str, str]
    start: datetime | None
    end: datetime | None
    heartbeats: int


class RecordingMeter(Meter):
    """A meter that keeps what it records, in the order of the calls. Strict unless told otherwise.

    No ``METERSTREAM_*`` variable changes what it does, and it writes nothing anywhere. The child of
    a fork goes on with a copy.
    """

    def __init__(
        self,
        service: str = "test",
        *,
        strict: bool = True,
        heartbeat_seconds: float = HEARTBEAT_SECONDS,
        on_outcome: Callable[[Outcome], object] | None = None,
    ) -> None:
        self._arrived: Final[deque[bytes]] = deque()
        self._reading: Final = threading.Lock()
        self._read: Final[list[RecordedEvent]] = []
        self._schema: Final = codec.parse_text(codec.bundled_text(codec.LATEST_ID))
        transport = MemoryTransport()
        transport.misfortune = self._arrive
        super().__init__(
            service,
            strict=strict,
            transport=transport,
            durability="memory",
            heartbeat_seconds=heartbeat_seconds,
            on_outcome=on_outcome,
        )
        # The environment may name a registry, which no test asks for a schema id.
        vars(self)["_policy"] = self._policy._replace(schema_id=lambda: codec.LATEST_ID)
        self._begin()
        self._default_before: Final = _taken_by_default()

    @property
    def events(self) -> list[RecordedEvent]:
        """Everything recorded since `clear`: usage, VOIDs and boundaries of sessions.

        What ``coalesce`` holds back is recorded first. AssertionError when that takes seconds.
        """
        if not self.flush(_SECONDS_MAX):
            status = self.status()
            raise AssertionError(
                f"{status.buffered} of {status.recorded} events did not arrive within "
                f"{_SECONDS_MAX:g} s: {status.last_error or 'no reason is known'}"
            )
        with self._reading:
            while self._arrived:
                self._take(self._arrived.popleft())
            return list(self._read)

    def clear(self) -> None:
        """Forget what was recorded so far. Open sessions and `status` stay as they are."""
        del self.events[:]
        self._read.clear()

    def total(self, type: str, **wanted: Any) -> Decimal:  # noqa: A002, ANN401 - as assert_recorded
        """The sum of the quantities of all that fit; takes what `assert_recorded` takes."""
        return sum(
            (event.quantity for event in self._fitting(Wanted.of(type, wanted))), start=Decimal(0)
        )

    def sessions(self) -> list[RecordedSession]:
        """The sessions of which a boundary or a heartbeat was recorded, in order of the first."""
        found: dict[tuple[str, str, str | None], list[RecordedEvent]] = {}
        for event in self.events:
            if event.kind not in {EventKind.USAGE, EventKind.VOID}:
                identity = event.tenant, event.type, event.session or event.subject
                found.setdefault(identity, []).append(event)
        return [_session(events) for events in found.values()]

    def assert_recorded(
        self,
        type: str,  # noqa: A002 - the event's own field
        *,
        tenant: Any = ANY,  # noqa: ANN401 - a value, or a function that judges one
        quantity: Any = ANY,  # noqa: ANN401 - as above
        attributes: Any = ANY,  # noqa: ANN401 - as above
        session: Any = ANY,  # noqa: ANN401 - as above
        subject: Any = ANY,  # noqa: ANN401 - as above
        key: Any = ANY,  # noqa: ANN401 - as above
        time: Any = ANY,  # noqa: ANN401 - as above
        kind: EventKind = EventKind.USAGE,
        times: int | None = 1,
    ) -> list[RecordedEvent]:
        """Fail unless exactly ``times`` events fit, or any number but none for ``times=None``.

        What is not said may be anything; None means that there is none. ``attributes`` are those
        that must be there at least, with None for one that must not. Instead of a value each may
        be a function that judges one: ``quantity=lambda amount: amount > 3``. Returns the events.
        """
        __tracebackhide__ = True
        wanted = Wanted.of(
            type,
            {
                "tenant": tenant,
                "quantity": quantity,
                "attributes": attributes,
                "session": session,
                "subject": subject,
                "key": key,
                "time": time,
                "kind": kind,
            },
        )
        found = self._fitting(wanted)
        if not found if times is None else len(found) != times:
            expected = "at least once" if times is None else told(times)
            raise AssertionError(self._complaint(wanted, found, expected))
        return found

    def assert_not_recorded(
        self,
        type: str | None = None,  # noqa: A002 - the event's own field
        **wanted: Any,  # noqa: ANN401 - as assert_recorded
    ) -> None:
        """Fail if any event fits; without arguments, if any was recorded at all.

        Takes what `assert_recorded` takes but ``times``. Without ``kind`` any kind counts.
        """
        __tracebackhide__ = True
        asked = Wanted.of(ANY if type is None else type, {"kind": ANY, **wanted})
        found = self._fitting(asked)
        if found:
            raise AssertionError(self._complaint(asked, found, "never"))

    def _fitting(self, wanted: Wanted) -> list[RecordedEvent]:
        return [event for event in self.events if not wanted.misses(event)]

    def _complaint(self, wanted: Wanted, found: list[RecordedEvent], expected: str) -> str:
        status = self.status()
        lines = [complaint(wanted, self.events, found, expected)]
        if status.dropped:
            counts = ", ".join(f"{count} {reason}" for reason, count in status.dropped.items())
            lines.append(f"not taken: {counts}; the last trouble: {status.last_error}")
        elsewhere = _taken_by_default(besides=self) - self._default_before
        if elsewhere and not found:
            taken = elsewhere.total()
            lines.append(
                f"meanwhile the default meter took {taken} of its own; for code that uses "
                "meterstream.record and the like, take the fixture meterstream_default"
            )
        return "\n".join(lines)

    def _arrive(self, value: bytes) -> None:
        """Asked for every record that arrives, in the background thread: let it."""
        self._arrived.append(value)

    def _take(self, value: bytes) -> None:
        _, body = wire.split(value)
        event = codec.decode_body(body, self._schema)
        if event.kind is not EventKind.MARK:
            self._read.append(
                RecordedEvent(
                    type=event.type,
                    tenant=event.tenant,
                    quantity=Decimal(event.quantity).scaleb(-event.scale),
                    attributes=event.attributes,
                    session=event.session,
                    subject=event.subject,
                    key=event.key,
                    time=_EPOCH + timedelta(microseconds=event.time),
                    kind=event.kind,
                )
            )


@contextmanager
def as_default_meter(meter: Meter) -> Generator[Meter]:
    """Inside the block, `meterstream.record` and the like use this meter.

    The former default is put back afterwards, untouched. For the whole process: not for tests that
    run in several threads at once. A ``configure`` inside the block closes the given meter.
    """
    held = default._held  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  # it has no other door
    name = default._NAME  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  # as above
    former = held.get(name)
    held[name] = meter
    try:
        yield meter
    finally:
        if former is None:
            held.pop(name, None)
        else:
            held[name] = former


def _taken_by_default(besides: Meter | None = None) -> Counter[str]:
    """How many events the default meter took, by its producer; none is made for that."""
    meter = default.held_meter()
    if meter is None or meter is besides:
        return Counter()
    return Counter({meter.producer: meter.status().recorded})


def _session(events: list[RecordedEvent]) -> RecordedSession:
    first = events[0]
    times = {event.kind: event.time for event in reversed(events)}
    return RecordedSession(
        id=first.session,
        type=first.type,
        tenant=first.tenant,
        subject=first.subject,
        attributes=first.attributes,
        start=times.get(EventKind.SESSION_START),
        end=times.get(EventKind.SESSION_END),
        heartbeats=sum(event.kind is EventKind.SESSION_HEARTBEAT for event in events),
    )

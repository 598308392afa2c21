"""Events of StripeMeter's clients on their way into the log, and what became of them."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from meterstream.compat import wiring
from meterstream.compat.stripemeter_events import TYPE, Event, RecentKeys, Standing, event_of
from meterstream.compat.stripemeter_values import EventProblem, IngestResponse, StripeMeterError
from meterstream.errors import MeterError
from meterstream_schemas.errors import InvalidEvent

if TYPE_CHECKING:
    from collections.abc import Iterable


_REFUSED: Final = "an event was refused: "
"""How a meter's status begins to tell of a wrong argument."""


class Begun(NamedTuple):
    """One event under way."""

    place: int
    event: Event
    pending: wiring.Pending


class Batch:
    """Events of one call. Used by one thread at a time."""

    def __init__(self, account: str, sent: RecentKeys) -> None:
        self.begun: Final[deque[Begun]] = deque()
        self._account: Final = account
        self._sent: Final = sent
        self._accepted = 0
        self._duplicates = 0
        self._unwatched = 0
        self._late: Final[list[str]] = []
        self._problems: Final[list[tuple[int, StripeMeterError]]] = []

    def take(self, events: Iterable[object]) -> None:
        """Record every event that is right and neither in the log nor in this batch already."""
        for index, told in enumerate(events):
            try:
                self.add(index, told)
            except StripeMeterError as problem:
                self._problems.append((index, problem))

    def add(self, index: int, told: object) -> None:
        """Record one event. Does not wait. Raises `StripeMeterError`."""
        if not isinstance(told, Mapping):
            raise StripeMeterError(f"{type(told).__name__} is no event; pass a dict", 400)
        standing, event = self._sent.meet(event_of(self._account, told))
        if standing is Standing.CONFLICT:
            raise StripeMeterError(
                f"idempotency_key: {event.key[:80]!r} was used for other content", 409
            )
        repeated = standing is Standing.PENDING and any(
            (one.event.customer, one.event.key) == (event.customer, event.key) for one in self.begun
        )
        if standing is Standing.ARRIVED or repeated:
            self._duplicates += 1
            return
        try:
            pending = wiring.begin(
                TYPE,
                tenant=event.customer,
                quantity=event.quantity,
                time=event.time,
                subject=event.resource,
                attributes=event.attributes,
                key=event.key,
            )
        except (MeterError, InvalidEvent) as problem:
            self._sent.refused(event)
            status = 400 if isinstance(problem, InvalidEvent) else 503
            raise StripeMeterError(f"the event was not taken: {problem}", status) from problem
        if pending is None:
            self._sent.refused(event)
            raise _not_taken()
        self.begun.append(Begun(index, event, pending))

    def watch_at_most(self, count: int) -> None:
        """Beyond ``count`` events, the oldest are no longer waited for one by one."""
        while len(self.begun) > count:
            begun = self.begun.popleft()
            if begun.pending.done:
                self.settle(begun, begun.pending.wait(0))
            else:
                begun.pending.forget()
                self._unwatched += 1

    def settle(self, begun: Begun, sent: wiring.Sent | None) -> None:
        """Note an outcome; None is a refusal, or no outcome in time."""
        if sent is not None:
            self._accepted += 1
            self._sent.arrived(begun.event)
            return
        if begun.pending.refused:
            self._sent.refused(begun.event)
            problem = StripeMeterError("the broker refused the event", 422)
        else:
            self._late.append(begun.event.key)
            problem = StripeMeterError(
                "the event was not confirmed in time; it is still on its way", 503
            )
        self._problems.append((begun.place, problem))

    def settle_unwatched(self, *, arrived: bool) -> None:
        """What became of the events that are not waited for, all together."""
        if arrived:
            self._accepted += self._unwatched
        elif self._unwatched:
            told = f"{self._unwatched} events were not confirmed in time; they are on their way"
            self._problems.append((-1, StripeMeterError(told, 503)))
        self._unwatched = 0

    def answer(self, *, single: bool) -> IngestResponse:
        """The answer. Raises `StripeMeterError` for a single event, or when nothing arrived."""
        problems = sorted(self._problems, key=lambda entry: entry[0])
        nothing = not self._accepted and not self._duplicates
        if problems and (single or (nothing and problems[0][1].status_code == 503)):
            first = problems[0][1]
            keys: dict[str, Any] | None = {"idempotency_keys": self._late} if self._late else None
            raise StripeMeterError(first.message, first.status_code, keys)
        return IngestResponse(
            accepted=self._accepted,
            duplicates=self._duplicates,
            errors=tuple(EventProblem(index, problem.message) for index, problem in problems),
        )


def _not_taken() -> StripeMeterError:
    """Why the meter just did not take an event: the fault is the event's, or there is no room."""
    status = wiring.meter().status()
    refusal = status.last_error or ""
    if refusal.startswith(_REFUSED):
        return StripeMeterError(f"the event was not taken: {refusal.removeprefix(_REFUSED)}", 400)
    why = "the meter is closed" if status.closed else "the buffer is full, slow down"
    return StripeMeterError(f"the event was not taken: {why}", 503)

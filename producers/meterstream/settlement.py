"""What reports mean for the events they are about: in the log, refused for good, or in doubt.

::

    offset                     → acknowledged, and forgotten
    failure that is permanent  → failed, and forgotten: a missing number to the aggregator
    any other failure          → in doubt: sent again under the same number, after a while
    neither                    → in doubt: success without a place in the log is not believed

Counts are written by the background thread only and read by any.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final, TypeAlias

from meterstream.complaints import describe
from meterstream.status import Outcome

if TYPE_CHECKING:
    from collections.abc import Callable

    from meterstream.complaints import Complaints
    from meterstream.encoding import Entry
    from meterstream.flight import Flight
    from meterstream.transport import Failure, Report

AGAIN_SECONDS: Final = 0.5
AGAIN_SECONDS_MAX: Final = 5.0

Arrival: TypeAlias = "tuple[Entry, int, int]"
"""An entry that is in the log, its partition and its offset."""


class Settlement:
    """Applies reports to what is in flight. Belongs to the background thread.

    ``collect``: somebody wants to know which tickets got an outcome. ``on_arrivals``, where it is
    set, is told what arrived, many at once, in place of an outcome for each.
    """

    def __init__(
        self,
        *,
        producer: str,
        flight: Flight,
        complaints: Complaints,
        on_outcome: Callable[[Outcome], object] | None,
        collect: bool = False,
    ) -> None:
        self.on_arrivals: Callable[[list[Arrival]], None] | None = None
        self.settled: Final[list[int] | None] = [] if collect else None
        """Tickets that got an outcome, for whoever empties this list; None when nobody does."""
        self.acknowledged = 0
        self.failed = 0
        self.resent = 0
        self.ack_without_offset = 0
        self.again_seconds = AGAIN_SECONDS
        """How long an event in doubt waits; doubles while nothing arrives at all."""
        self._producer: Final = producer
        self._flight: Final = flight
        self._complaints: Final = complaints
        self._on_outcome: Final = on_outcome
        self._again: Final[deque[tuple[float, int]]] = deque()
        self._marks: Final[set[int]] = set()

    @property
    def marks_open(self) -> int:
        """Marks without an outcome."""
        return len(self._marks)

    def expect_mark(self, ticket: int) -> None:
        """The ticket is a mark's, which is nobody's event and counts for nothing."""
        self._marks.add(ticket)

    def apply(  # noqa: C901, PLR0912 - in one piece: calls cost, once an event
        self, reports: list[Report], now: float
    ) -> bool:
        """Settle or doubt what the reports are about. Whether anything arrived."""
        settle, marks, doubtful, arrived = self._flight.settle, self._marks, False, False
        content, settled, arrivals = self._flight.content, self.settled, list[Arrival]()
        on_arrivals, on_outcome = self.on_arrivals, self._on_outcome
        for ticket, offset, failure in reports:
            if offset is not None:
                arrived = True
                parcel = settle(ticket)
                if parcel is None:
                    continue
                if settled is not None:
                    settled.append(ticket)
                if marks and self._is_mark(ticket):
                    continue
                self.acknowledged += 1
                if on_arrivals is not None:
                    entry = content(ticket)
                    if entry is not None:
                        arrivals.append((entry, parcel[1], offset))
                elif on_outcome is not None:
                    self._tell(content(ticket), parcel[1], offset, None)
            elif failure is not None and failure.permanent:
                self._refuse(ticket, failure.reason)
            else:
                doubtful = True
                self._doubt(ticket, failure, now)
        if arrivals and on_arrivals is not None:
            on_arrivals(arrivals)
        if arrived:
            self.again_seconds = min(self.again_seconds, AGAIN_SECONDS)
        elif doubtful:
            self.again_seconds = min(2 * self.again_seconds, AGAIN_SECONDS_MAX)
        return arrived

    def send_due_again(self, now: float) -> None:
        """Put events in doubt back in line whose wait is over."""
        while self._again and self._again[0][0] <= now:
            self._flight.send_again(self._again.popleft()[1])

    def send_all_again(self) -> None:
        """Put everything in flight back in line: the transport forgot it."""
        self.resent += len(self._flight)
        self._again.clear()
        self._flight.send_all_again()

    def fail(self, entry: Entry | None, partition: int, reason: str) -> None:
        """An event is lost for good. Counted, told, and a missing number to the aggregator."""
        self.failed += 1
        self._complaints.error("refused", f"an event is lost, it cannot be delivered: {reason}")
        if self._on_outcome is not None:
            self._tell(entry, partition, None, reason)

    def lose(self, ticket: int, reason: str) -> None:
        """An entry is lost before it could be sent."""
        if self.settled is not None:
            self.settled.append(ticket)
        if not self._is_mark(ticket):
            self.fail(None, 0, reason)

    def _refuse(self, ticket: int, reason: str) -> None:
        parcel = self._flight.settle(ticket)
        if parcel is None:
            return
        if self.settled is not None:
            self.settled.append(ticket)
        if not self._is_mark(ticket):
            self.fail(self._flight.content(ticket), parcel[1], reason)

    def _doubt(self, ticket: int, failure: Failure | None, now: float) -> None:
        if failure is None:
            self.ack_without_offset += 1
        else:
            self._complaints.warn("delivery", f"events are sent again: {failure.reason}")
        self.resent += 1
        self._again.append((now + self.again_seconds, ticket))

    def _is_mark(self, ticket: int) -> bool:
        if ticket not in self._marks:
            return False
        self._marks.remove(ticket)
        self._flight.content(ticket)
        return True

    def _tell(
        self, entry: Entry | None, partition: int, offset: int | None, error: str | None
    ) -> None:
        if self._on_outcome is None or entry is None:
            return
        _, _, tenant_key, lane, *_, sequence, key = entry
        outcome = Outcome(
            tenant=tenant_key.decode(),
            key=key,
            producer=self._producer,
            lane=lane,
            sequence=sequence,
            partition=partition,
            offset=offset,
            error=error,
        )
        try:
            self._on_outcome(outcome)
        except BaseException as problem:  # noqa: BLE001 - a host's sys.exit() must not end delivery
            self._complaints.warn("on_outcome", f"on_outcome raised {describe(problem)}")

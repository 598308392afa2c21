"""Events under way: taken from the buffer, given to the transport, not yet known to be in the log.

Each has a ticket, in the order in which it left the buffer. It leaves here on a report with an
offset, or when the broker refuses it for good; on anything else it is sent again under the same
number. A spool on disk will take this place: the same promise, kept across a crash.
"""

from __future__ import annotations

from collections import deque
from itertools import islice
from typing import TYPE_CHECKING, Final, TypeAlias

from meterstream.encoding import TENANT_KEY

if TYPE_CHECKING:
    from meterstream.encoding import Entry
    from meterstream.transport import Parcel

FLIGHT_MAX: Final = 20_000
"""Events under way at once; the transport bounds their bytes."""
_AGES_MAX: Final = 64
_AGE_STEP_SECONDS: Final = 1.0


Held: TypeAlias = "tuple[Parcel, Entry]"


class Flight:
    """Tickets and what they stand for. Belongs to the background thread."""

    def __init__(self) -> None:
        self._held: Final[dict[int, Held]] = {}
        self._outgoing: Final[deque[Parcel]] = deque()
        self.last_ticket = 0
        """The ticket of the entry that left the buffer last; 0 before the first."""

    def __len__(self) -> int:
        return len(self._held)

    def add(self, entry: Entry, partition: int, value: bytes) -> int:
        """Put an entry that just left the buffer in line, and return its ticket."""
        ticket = self.last_ticket = self.last_ticket + 1
        parcel = (ticket, partition, entry[TENANT_KEY], value)
        self._held[ticket] = (parcel, entry)
        self._outgoing.append(parcel)
        return ticket

    def outgoing(self, count_max: int) -> list[Parcel]:
        """What the transport should take next, in order."""
        return list(islice(self._outgoing, count_max))

    def sent(self, count: int) -> None:
        """The transport took the first ``count`` parcels of ``outgoing``."""
        if count == len(self._outgoing):
            self._outgoing.clear()
        else:
            for _ in range(count):
                self._outgoing.popleft()

    def settle(self, ticket: int) -> Held | None:
        """Forget an entry whose outcome is known; None when it is not held any more."""
        return self._held.pop(ticket, None)

    def send_again(self, ticket: int) -> None:
        """Put an entry back in line, under the same number."""
        held = self._held.get(ticket)
        if held is not None:
            self._outgoing.append(held[0])

    def send_all_again(self) -> None:
        """Put everything back in line in its order: the transport forgot what it had."""
        self._outgoing.clear()
        self._outgoing.extend(parcel for parcel, _ in self._held.values())

    def settled_through(self) -> int:
        """The highest ticket such that it and all before it have an outcome."""
        return next(iter(self._held), self.last_ticket + 1) - 1


class Ages:
    """How old the oldest event without outcome is, to about a second and in fixed memory.

    Now and then the count of events taken so far is kept with the time; an event is at least as
    old as the first kept count that includes it.
    """

    def __init__(self) -> None:
        self._kept: Final[deque[tuple[int, float]]] = deque()

    def note(self, *, taken: int, settled: int, now: float) -> None:
        """``taken`` events exist by now, and all up to ``settled`` have an outcome."""
        kept = self._kept
        if taken <= settled:
            kept.clear()
            return
        while kept and kept[0][0] <= settled:
            kept.popleft()
        if len(kept) >= _AGES_MAX:
            return
        if not kept or (taken > kept[-1][0] and now - kept[-1][1] >= _AGE_STEP_SECONDS):
            kept.append((taken, now))

    def oldest_seconds(self, now: float) -> float:
        """Age of the oldest event without outcome; 0 when there is none. Safe from any thread."""
        try:
            return max(0.0, now - self._kept[0][1])
        except IndexError:
            return 0.0

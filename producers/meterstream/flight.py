"""Events under way: taken from the buffer, given to the transport, not yet known to be in the log.

Each has a ticket, in the order in which it left the buffer. It leaves here on a report with an
offset, or when the broker refuses it for good; on anything else it is sent again under the same
number. With a spool (`meterstream.spooled`) the disk holds what is here, and more.
"""

from __future__ import annotations

from collections import deque
from itertools import islice
from typing import TYPE_CHECKING, Final

from meterstream.encoding import TENANT_KEY

if TYPE_CHECKING:
    from collections.abc import Sequence

    from meterstream.encoding import Entry
    from meterstream.transport import Parcel

FLIGHT_MAX: Final = 20_000
"""Events under way at once."""
FLIGHT_BYTES_MAX: Final = 32 << 20
"""Bytes of their records, checked before each group: a group may exceed it."""
_AGES_MAX: Final = 64
_AGE_STEP_SECONDS: Final = 1.0


class Flight:
    """Tickets and what they stand for. Belongs to the background thread.

    - ``base``: tickets count upwards from the next.
    - ``keep_contents``: whether somebody will ask for them when an outcome is known.
    """

    def __init__(self, *, base: int = 0, keep_contents: bool = True) -> None:
        self.base: Final = base
        self.last_ticket = base
        """The last ticket given out; the base before the first."""
        self._keep_contents: Final = keep_contents
        self._last_put = base
        self._bytes = 0
        self._held: Final[dict[int, Parcel]] = {}
        self._entries: Final[dict[int, Entry]] = {}
        self._outgoing: Final[deque[Parcel]] = deque()

    def __len__(self) -> int:
        return len(self._held)

    @property
    def room(self) -> int:
        """How many more may be under way."""
        return FLIGHT_MAX - len(self._held) if self._bytes < FLIGHT_BYTES_MAX else 0

    def next_tickets(self, count: int) -> int:
        """Tickets for entries that just left the buffer: the first of so many."""
        first = self.last_ticket + 1
        self.last_ticket += count
        return first

    def add(self, entry: Entry, partition: int, value: bytes) -> int:
        """Put an entry that just left the buffer in line, and return its ticket."""
        ticket = self.last_ticket = self._last_put = self.last_ticket + 1
        self._bytes += len(value)
        parcel = self._held[ticket] = (ticket, partition, entry[TENANT_KEY], value)
        if self._keep_contents:
            self._entries[ticket] = entry
        self._outgoing.append(parcel)
        return ticket

    def put(self, ticket: int, entry: Entry, partition: int, value: bytes) -> None:
        """Put an entry in line under a ticket given out before. In the order of tickets."""
        self._last_put = ticket
        self._bytes += len(value)
        parcel = self._held[ticket] = (ticket, partition, entry[TENANT_KEY], value)
        if self._keep_contents:
            self._entries[ticket] = entry
        self._outgoing.append(parcel)

    def put_all(
        self, first: int, entries: Sequence[Entry], partitions: Sequence[int], values: list[bytes]
    ) -> None:
        """`put` for entries whose tickets follow each other, ``first`` the first of them."""
        tickets = range(first, first + len(entries))
        tenant_keys = [entry[TENANT_KEY] for entry in entries]
        parcels = list(zip(tickets, partitions, tenant_keys, values, strict=True))
        self._last_put = tickets[-1] if tickets else self._last_put
        self._bytes += sum(map(len, values))
        self._held.update(zip(tickets, parcels, strict=True))
        if self._keep_contents:
            self._entries.update(zip(tickets, entries, strict=True))
        self._outgoing.extend(parcels)

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

    def settle(self, ticket: int) -> Parcel | None:
        """Forget an entry whose outcome is known; None when it is not held any more."""
        parcel = self._held.pop(ticket, None)
        if parcel is not None:
            self._bytes -= len(parcel[3])
        return parcel

    def content(self, ticket: int) -> Entry | None:
        """Forget the content of an entry and return it; None when contents are not kept."""
        return self._entries.pop(ticket, None)

    def send_again(self, ticket: int) -> None:
        """Put an entry back in line, under the same number."""
        parcel = self._held.get(ticket)
        if parcel is not None:
            self._outgoing.append(parcel)

    def send_all_again(self) -> None:
        """Put everything back in line in its order: the transport forgot what it had."""
        self._outgoing.clear()
        self._outgoing.extend(self._held.values())

    def settled_through(self) -> int:
        """The highest ticket such that it and all before it have an outcome."""
        return next(iter(self._held), self._last_put + 1) - 1


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

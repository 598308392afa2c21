"""A transport that keeps records in lists: for a host's own tests, and for the SDK's.

It can be told to misbehave the way a broker does, so that what the SDK promises can be tried
without one.
"""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING, NamedTuple

from meterstream.errors import TransportBroken, TransportUnavailable
from meterstream.transport import Failure

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from meterstream.transport import Parcel, Report


class Stored(NamedTuple):
    """A record as a partition holds it; its place in the list is its offset."""

    key: bytes
    value: bytes


class MemoryTransport:
    """``partitions`` lists of records. ``log`` may be read from any thread.

    - ``available``: while False, ``connect`` refuses and nothing that was sent arrives.
    - ``capacity``: parcels held without a report at most.
    - ``misfortune``: asked for every parcel when it would arrive; returns the report's failure,
      ``"lost_report"`` for an arrival that is reported without offset, ``"break"`` to break with
      what is held, or None to let it arrive.
    """

    def __init__(self, *, partitions: int = 4, capacity: int = 20_000) -> None:
        self.log: list[list[Stored]] = [[] for _ in range(partitions)]
        self.capacity = capacity
        self.available = True
        self.misfortune: Callable[[bytes], Failure | str | None] | None = None
        self.connections = 0
        self._held: deque[Parcel] = deque()
        self._connected = False

    def connect(self, *, timeout_seconds: float) -> int:  # noqa: ARG002 - it needs no time
        """See `meterstream.transport.Transport`. Does not wait."""
        if not self.available:
            raise TransportUnavailable("the memory transport was told to be unavailable")
        self._held.clear()
        self._connected = True
        self.connections += 1
        return len(self.log)

    def send(self, parcels: Sequence[Parcel]) -> int:
        """See `meterstream.transport.Transport`."""
        self._check_connected()
        taken = min(len(parcels), self.capacity - len(self._held))
        self._held.extend(parcels[:taken])
        return taken

    def poll(self, timeout_seconds: float) -> list[Report]:
        """See `meterstream.transport.Transport`."""
        self._check_connected()
        if not self._held or not self.available:
            time.sleep(timeout_seconds)
        if not self.available:
            return []
        return [self._arrive(self._held.popleft()) for _ in range(len(self._held))]

    def trouble(self) -> str | None:
        """See `meterstream.transport.Transport`."""
        return None if self.available else "the memory transport was told to be unavailable"

    def close(self) -> None:
        """See `meterstream.transport.Transport`."""
        self._held.clear()
        self._connected = False

    def after_fork(self) -> None:
        """See `meterstream.transport.Transport`. The lists are copies in the child."""
        self.close()

    def _check_connected(self) -> None:
        if not self._connected:
            raise TransportBroken("there is no connection")

    def _arrive(self, parcel: Parcel) -> Report:
        ticket, partition, key, value = parcel
        fate = self.misfortune(value) if self.misfortune else None
        if isinstance(fate, Failure):
            return ticket, None, fate
        if fate == "break":
            self.close()
            raise TransportBroken("the memory transport was told to break")
        records = self.log[partition]
        records.append(Stored(key, value))
        return ticket, None if fate == "lost_report" else len(records) - 1, None

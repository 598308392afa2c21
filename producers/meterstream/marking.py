"""Marks, which say how high the numbers of an incarnation go, and barriers, behind which one waits.

Both stand in the buffer like entries, so that they come after what was recorded before them.
"""

from __future__ import annotations

import time as clock
from collections import deque
from typing import TYPE_CHECKING, Final

from meterstream.encoding import NO_ATTRIBUTES, attributes_map, mark
from meterstream.intake import Barrier, Claims

if TYPE_CHECKING:
    from collections.abc import Iterable

    from meterstream.encoding import Entry
    from meterstream.flight import Flight
    from meterstream.intake import Intake, Item

_CLOSING: Final = attributes_map({"closing": "true"})


class Marks:
    """When to tell the highest numbers, and as what. Belongs to the background thread."""

    def __init__(self, intake: Intake, seconds: float) -> None:
        self.next_at = clock.monotonic() + seconds
        """When the next are due, in monotonic seconds."""
        self._intake: Final = intake
        self._seconds: Final = seconds
        self._told: dict[int, int] = {}
        self._waiting = False

    def on_time(self, now: float) -> None:
        """Put the numbers that changed into the buffer, when that is due."""
        if now < self.next_at:
            return
        self.next_at = now + self._seconds
        if not self._waiting:
            claims = self._intake.numbering.claims()
            changed = {lane: n for lane, n in claims.items() if self._told.get(lane) != n}
            self._told = claims
            self._put(changed, closing=False)

    def close(self) -> None:
        """Put all numbers into the buffer: there will be no more."""
        self._put(self._intake.numbering.claims(), closing=True)

    def entries(self, claims: Claims) -> list[Entry]:
        """The marks that tell what was claimed."""
        self._waiting = False
        time = clock.time_ns() // 1000
        attributes = _CLOSING if claims.closing else NO_ATTRIBUTES
        producer = self._intake.numbering.producer
        return [
            mark(producer, lane, highest, time=time, attributes=attributes)
            for lane, highest in claims.highest.items()
        ]

    def _put(self, claims: dict[int, int], *, closing: bool) -> None:
        if claims:
            self._waiting = True
            self._intake.buffer.append(Claims(claims, closing=closing))


class Barriers:
    """Those that left the buffer and wait for what left it before. For the background thread."""

    def __init__(self, flight: Flight) -> None:
        self._flight: Final = flight
        self._placed: Final[deque[Barrier]] = deque()
        self._on_disk: Final[deque[Barrier]] = deque()

    def place(self, barrier: Barrier) -> None:
        """The barrier left the buffer just now."""
        barrier.ticket = self._flight.last_ticket
        (self._on_disk if barrier.on_disk else self._placed).append(barrier)

    def release(self) -> None:
        """Let those pass whose predecessors all have an outcome."""
        if self._placed or self._on_disk:
            through = self._flight.settled_through()
            _release(self._placed, through)
            _release(self._on_disk, through)

    def stored(self, through: int) -> None:
        """All tickets up to this one are on disk, or have an outcome."""
        _release(self._on_disk, through)

    def give_up(self, unplaced: Iterable[Item]) -> None:
        """Nobody will settle anything any more: let everybody go, with the bad news."""
        for item in (*self._placed, *self._on_disk, *unplaced):
            if type(item) is Barrier:
                item.open(settled=False)


def _release(placed: deque[Barrier], through: int) -> None:
    while placed and placed[0].ticket <= through:
        placed.popleft().open(settled=True)

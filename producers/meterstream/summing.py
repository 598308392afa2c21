"""What the calls of one key come to, interval by interval. See `meterstream.coalescing`.

Only a key's queue may be touched by any thread; all else belongs to whoever holds its lock.
"""

from __future__ import annotations

from collections import deque
from time import monotonic, time_ns
from typing import TYPE_CHECKING, Any, Final

from meterstream import threads
from meterstream_schemas.events import QUANTITY_MAX, QUANTITY_MIN
from meterstream_schemas.quantity import rescale

if TYPE_CHECKING:
    from collections.abc import Iterator

_MINUTE: Final = 60 * 10**9


class Sum:
    """What the calls of one key in one interval come to."""

    __slots__ = ("count", "first", "overdue", "scale", "total", "until")

    def __init__(self, first: int, until: int, overdue: float) -> None:
        self.first = first
        self.until = until
        self.overdue = overdue  # Monotonic, for a clock that is set back.
        self.total = 0
        self.scale = 0
        self.count = 0

    def take(self, amount: int, scale: int) -> bool:
        """Whether there was room for one more."""
        if scale == self.scale:
            total = self.total + amount
        else:
            finer = max(scale, self.scale)
            total = rescale(self.total, self.scale, finer) + rescale(amount, scale, finer)
            scale = finer
        if self.count and not QUANTITY_MIN <= total <= QUANTITY_MAX:
            return False
        self.total, self.scale = total, scale
        self.count += 1
        return True


class Key:
    """One key with its queue and its sums by interval."""

    __slots__ = ("holder", "idle", "interval", "lock", "name", "open", "queue", "said", "sums")

    def __init__(self, name: tuple[Any, ...], interval: int, said: tuple[Any, ...]) -> None:
        self.name = name
        self.interval = interval
        self.said = said
        self.queue: deque[tuple[int, int, int]] = deque()
        self.sums: dict[int, Sum] = {}
        self.lock = threads.allocate_lock()
        self.holder: int | None = None
        self.open = True
        self.idle = False

    def window(self, at: int) -> tuple[int, int]:
        """Begin and end of the interval that holds a moment, in nanoseconds."""
        minute = at - at % _MINUTE
        start = at - (at - minute) % self.interval
        return start, min(start + self.interval, minute + _MINUTE)

    def fold(self) -> list[Sum]:
        """From the queue into the sums. Returns sums that had no room for one more."""
        full: list[Sum] = []
        queue, sums = self.queue, self.sums
        start = end = 0
        current: Sum | None = None
        for _ in range(len(queue)):
            at, amount, scale = queue.popleft()
            if current is None or not start <= at < end:
                start, end = self.window(at)
                current = sums.get(start)
            if current is None or not current.take(amount, scale):
                if current is not None:
                    full.append(current)
                current = sums[start] = Sum(at, end, monotonic() + self.interval / 10**9)
                current.take(amount, scale)
            current.first = min(current.first, at)
        return full

    def due(self, *, everything: bool) -> Iterator[Sum]:
        """Take out the sums whose interval is over, or all, one by one."""
        at, now = time_ns(), monotonic()
        for start, held in tuple(self.sums.items()):
            if everything or at >= held.until or now >= held.overdue:
                yield self.sums.pop(start)

"""The numbers of one producer incarnation: 1, 2, 3 ... per lane, and counts, without a lock.

``record`` runs in any thread, in signal handlers and in finalizers that interrupt another
``record`` half way. A lock would deadlock there, and a read, add and write back would hand out a
number twice. Advancing an `itertools.count` is one step of the interpreter: it can be interrupted
before or after, never inside. Its next value is read from its ``repr``, the only way to look at
it without advancing it.
"""

from __future__ import annotations

import os
from itertools import count
from typing import TYPE_CHECKING, Final

from meterstream_schemas.events import LANES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_REPR_PREFIX: Final = len("count(")


class Numbering:
    """A fresh incarnation: a random id, and nothing numbered yet. Safe from any thread."""

    def __init__(self) -> None:
        self.producer: Final = os.urandom(16).hex()
        self._lanes: Final = tuple(count(1) for _ in range(LANES))

    def taker(self, lane: int) -> Callable[[], int]:
        """The function that spends the next number of ``lane``."""
        return self._lanes[lane].__next__

    def highest(self, lane: int) -> int:
        """The highest number spent in ``lane``; 0 when none is."""
        return _next_of(self._lanes[lane]) - 1

    def claims(self) -> dict[int, int]:
        """The highest number spent, for every lane that spent one."""
        highest = ((lane, self.highest(lane)) for lane in range(LANES))
        return {lane: number for lane, number in highest if number}

    def spent(self) -> int:
        """How many numbers were spent over all lanes."""
        return sum(map(_next_of, self._lanes)) - LANES


class Tallies:
    """Counters by name that any thread may raise without a lock."""

    def __init__(self, names: Iterable[str]) -> None:
        self._counts: Final = {name: count() for name in names}

    def add(self, name: str) -> None:
        """Count one more. The name must be one of those given at construction."""
        next(self._counts[name])

    def __getitem__(self, name: str) -> int:
        return _next_of(self._counts[name])

    def nonzero(self) -> dict[str, int]:
        """Every name that was counted at least once."""
        values = {name: _next_of(counter) for name, counter in self._counts.items()}
        return {name: value for name, value in values.items() if value}


def _next_of(counter: count[int]) -> int:
    return int(repr(counter)[_REPR_PREFIX:-1])

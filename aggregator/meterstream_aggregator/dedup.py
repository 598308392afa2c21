"""Numbers seen, per producer incarnation and lane: duplicates and holes (DESIGN section 10).

Per lane the set of numbers seen is ``1..upto`` plus a few intervals beyond a hole. Normally there
is no hole and the whole set is one integer, so an incarnation is one array of 256 integers.

A lane with a hole also has the log time since when: from the moment in which it stopped being
whole, by a number beyond a hole or by a mark, until it is whole again. As that is told by the order
of the log, numbers and marks of one lane are to be noted in that order wherever there is a hole.

Stored form (`pack`): the lanes that were used as one byte each, then their ``upto`` as
little-endian 64-bit integers; everything irregular as canonical JSON beside it, or None.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from meterstream_aggregator.catalogue import DAY
from meterstream_schemas.events import LANES

PRODUCER_HORIZON: Final = 90 * DAY
"""How long, in append time, a silent producer may come back (DESIGN section 10)."""
INTERVALS_MAX: Final = 4096
"""Intervals beyond holes kept in one lane; a number that would need one more is not taken."""

Int64Array = npt.NDArray[np.int64]


class ProducerKey(NamedTuple):
    """A producer incarnation as one partition knows it."""

    partition: int
    producer: str


class RefusedNumber(NamedTuple):
    """A number that was seen and not counted; its replay may be."""

    partition: int
    producer: str
    lane: int
    sequence: int


def _no_numbers() -> Int64Array:
    return np.zeros(LANES, dtype=np.int64)


@dataclass(slots=True)
class Numbers:
    """What one partition knows of one producer incarnation. Mutable; owned by one worker.

    ``beyond`` holds, per lane with a hole, the sorted disjoint intervals (both ends inclusive) that
    were seen after it.
    ``claimed`` is the highest number per lane that the producer said it had used. ``since`` has
    exactly the lanes with a hole: in ``beyond``, or claimed beyond what was seen.
    """

    upto: Int64Array = field(default_factory=_no_numbers)
    beyond: dict[int, list[tuple[int, int]]] = field(default_factory=dict)
    claimed: dict[int, int] = field(default_factory=dict)
    since: dict[int, int] = field(default_factory=dict)
    closed: bool = False
    counted: int = 0
    duplicates: int = 0
    refusals: int = 0
    last_append: int = 0

    def take(self, lane: int, number: int, at: int) -> bool:
        """Note a number as seen at log time ``at``. False when it was seen before.

        Raises `TooManyHoles`; then nothing has changed.
        """
        upto = int(self.upto[lane])
        if number <= upto:
            return False
        if number == upto + 1:
            self.upto[lane] = self._joined(lane, number)
            if lane in self.since and not self._has_hole(lane):
                del self.since[lane]
            return True
        taken = self._take_beyond(lane, number)
        self.since.setdefault(lane, at)
        return taken

    def claim(self, lane: int, number: int, at: int, *, closing: bool) -> None:
        """Note a mark: the producer has used the numbers up to ``number`` in this lane."""
        self.claimed[lane] = max(number, self.claimed.get(lane, 0))
        self.closed = self.closed or closing
        if number > self.upto[lane]:
            self.since.setdefault(lane, at)

    def missing(self) -> list[tuple[int, int, int, int]]:
        """(lane, from, to inclusive, since when) for every hole, lost tails of marks included.

        Since when is the log time in which the lane stopped being whole, one for all its holes.
        """
        holes: list[tuple[int, int, int, int]] = []
        for lane, since in sorted(self.since.items()):
            seen = int(self.upto[lane])
            for low, high in self.beyond.get(lane, ()):
                holes.append((lane, seen + 1, low - 1, since))
                seen = high
            if self.claimed.get(lane, 0) > seen:
                holes.append((lane, seen + 1, self.claimed[lane], since))
        return holes

    def lanes(self, only: int | None = None) -> tuple[tuple[int, int], ...]:
        """(lane, highest number seen) of every lane used; 0 where marks alone tell of it."""
        if only is not None:
            is_used = bool(self.upto[only]) or only in self.since
            return ((only, self._highest(only)),) if is_used else ()
        used = sorted({*np.flatnonzero(self.upto).tolist(), *self.since})
        return tuple((lane, self._highest(lane)) for lane in used)

    def seen(self) -> int:
        """How many different numbers were seen."""
        later = sum(high - low + 1 for spans in self.beyond.values() for low, high in spans)
        return int(self.upto.sum()) + later

    def _highest(self, lane: int) -> int:
        spans = self.beyond.get(lane)
        return spans[-1][1] if spans else int(self.upto[lane])

    def _has_hole(self, lane: int) -> bool:
        return lane in self.beyond or self.claimed.get(lane, 0) > self.upto[lane]

    def _joined(self, lane: int, number: int) -> int:
        """The new end of the gapless run once ``number`` continues it."""
        spans = self.beyond.get(lane)
        if spans and spans[0][0] == number + 1:
            number = spans.pop(0)[1]
            if not spans:
                del self.beyond[lane]
        return number

    def _take_beyond(self, lane: int, number: int) -> bool:
        spans = self.beyond.setdefault(lane, [])
        at = bisect_right(spans, (number, 2**63))
        before = spans[at - 1] if at else None
        after = spans[at] if at < len(spans) else None
        if before and number <= before[1]:
            return False
        joins_before = before is not None and before[1] + 1 == number
        joins_after = after is not None and after[0] == number + 1
        if not joins_before and not joins_after and len(spans) >= INTERVALS_MAX:
            raise TooManyHoles(lane, number)
        low = before[0] if before and joins_before else number
        high = after[1] if after and joins_after else number
        spans[at - int(joins_before) : at + int(joins_after)] = [(low, high)]
        return True


class TooManyHoles(Exception):
    """A number so far from its neighbours that a lane would need one interval too many."""

    def __init__(self, lane: int, number: int) -> None:
        super().__init__(f"lane {lane} has {INTERVALS_MAX} holes; number {number} is not taken")


def expired(numbers: Numbers, append_time: int) -> bool:
    """Whether their producer was silent for longer than `PRODUCER_HORIZON` before a log time.

    One that was never heard (``last_append`` 0) is new.
    """
    return 0 < numbers.last_append < append_time - PRODUCER_HORIZON


def pack(numbers: Numbers) -> tuple[bytes, str | None]:
    """The stored form; equal states give equal bytes."""
    lanes = np.flatnonzero(numbers.upto)
    packed = lanes.astype(np.uint8).tobytes() + numbers.upto[lanes].astype("<i8").tobytes()
    if not (numbers.beyond or numbers.claimed):
        return packed, None
    irregular = {
        "beyond": {str(lane): spans for lane, spans in sorted(numbers.beyond.items())},
        "claimed": {str(lane): number for lane, number in sorted(numbers.claimed.items())},
        "since": {str(lane): at for lane, at in sorted(numbers.since.items())},
    }
    return packed, json.dumps(irregular, separators=(",", ":"))


def unpack(packed: bytes, irregular: str | None) -> Numbers:
    """The numbers that `pack` stored, without counters and times."""
    numbers = Numbers()
    used = len(packed) // 9
    lanes = np.frombuffer(packed, dtype=np.uint8, count=used)
    numbers.upto[lanes] = np.frombuffer(packed, dtype="<i8", offset=used)
    if irregular is not None:
        content = json.loads(irregular)
        numbers.beyond = {
            int(lane): [(low, high) for low, high in spans]
            for lane, spans in content["beyond"].items()
        }
        numbers.claimed = {int(lane): number for lane, number in content["claimed"].items()}
        numbers.since = {int(lane): at for lane, at in content["since"].items()}
    return numbers

"""Sessions without an id: the boundaries of one subject, paired up in event-time order. Pure.

The boundaries of (tenant, type, subject) are kept in event-time order, a start before an end of the
same instant. Each end closes the oldest start that is still open and no further away than sessions
of the type may last; an end that finds none is left over. Two starts at one instant that say the
same are one, and so are two ends at one instant.

A heartbeat cannot tell which of a subject's sessions it comes from: it is a sign of life of all
that are open at its time. So the last sign of life of an open session is the latest of its start
and the subject's latest heartbeat; starts and ends of others are none. Likewise a deadline counts
from the append time of the subject's latest record, whichever it was.

What lies far enough back is *settled*: its sessions stay as they are charged, and their boundaries
are forgotten. From `SETTLED_AFTER` after its time (or after metering began, where that is later: so
history can be imported) a boundary is refused (`too_early`); what can then never change is settled.
And of more than `BOUNDARIES_MAX` boundaries the earliest are settled at once: one that comes before
those is not refused but counted among the subject's conflicts.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import orjson

from meterstream_aggregator.catalogue import DAY
from meterstream_aggregator.sessions import Start
from meterstream_schemas.events import EventKind, MeterEvent

SETTLED_AFTER: Final = 31 * DAY
"""How long after its time, by the log's clock, a boundary without a session id may come."""
BOUNDARIES_MAX: Final = 4096
"""Starts and ends that are kept of one subject."""


class SubjectKey(NamedTuple):
    """Whose boundaries these are, and the partition that tells of them; ``""`` is no subject."""

    partition: int
    tenant: str
    type: str
    subject: str


class Subject(NamedTuple):
    """The facts about one subject. ``starts`` and ``ends`` are sorted and distinct.

    The subject of the starts is left empty: the key has it. ``last_beat`` is the latest heartbeat's
    time, 0 for none. No boundary may come before ``settled`` any more; ``conflicts`` counts those
    that did, and the ends before it that nothing was open for.
    """

    starts: tuple[Start, ...] = ()
    ends: tuple[int, ...] = ()
    last_beat: int = 0
    settled: int = 0
    conflicts: int = 0
    last_append: int = 0


class Pair(NamedTuple):
    """One session of a subject: a start, and the end that closes it or None."""

    start: Start
    end: int | None


class Repaired(NamedTuple):
    """A session that is another one since a boundary came. ``before`` None: it is new.

    A Pair in ``before`` and one in ``after`` have the same start.
    """

    before: Pair | None
    after: Pair


def settled_before(append_time: int, metering_since: int) -> int:
    """Boundaries before this time are refused from that log time on; 0 while none are."""
    horizon = append_time - SETTLED_AFTER
    return horizon if horizon > metering_since else 0


def too_early(event: MeterEvent, append_time: int, metering_since: int) -> bool:
    """Whether this boundary comes too late to be paired. Never a heartbeat; a fact of the log."""
    return (
        event.session is None
        and event.kind in _BOUNDARIES
        and event.time < settled_before(append_time, metering_since)
    )


_BOUNDARIES: Final = frozenset({EventKind.SESSION_START, EventKind.SESSION_END})


class Pairing:
    """A subject's boundaries, and which end closes which start; to be changed boundary by boundary.

    ``closes`` stands beside ``starts``: the end of each, or None; ``open`` counts the latter.
    Because the oldest start goes first, the ends in it ascend, and a new boundary changes nothing
    that was closed before it.
    """

    __slots__ = ("closes", "ends", "longest", "open", "starts")

    def __init__(self, subject: Subject, longest: int) -> None:
        self.starts: Final = list(subject.starts)
        self.ends: Final = list(subject.ends)
        self.longest: Final = longest
        self.closes: Final[list[int | None]] = [None] * len(self.starts)
        self._close(0, 0)
        self.open = self.closes.count(None)

    def __len__(self) -> int:
        """How many boundaries are kept."""
        return len(self.starts) + len(self.ends)

    def pairs(self) -> Iterator[Pair]:
        """The sessions, by their starts."""
        return map(Pair, self.starts, self.closes)

    def left_over(self) -> list[int]:
        """The ends that nothing was open for."""
        closing = set(self.closes)
        return [end for end in self.ends if end not in closing]

    def add_start(self, start: Start) -> list[Repaired]:
        """What is another session once this start is known; nothing where it was known."""
        at = bisect_left(self.starts, start)
        if at < len(self.starts) and self.starts[at] == start:
            return []
        self.starts.insert(at, start)
        self.closes.insert(at, None)
        self.open += 1
        return self._repair(start.time, start)

    def add_end(self, end: int) -> list[Repaired]:
        """What is another session once this end is known; nothing where it was known."""
        at = bisect_left(self.ends, end)
        if at < len(self.ends) and self.ends[at] == end:
            return []
        self.ends.insert(at, end)
        return self._repair(end, None)

    def drop_end(self) -> bool:
        """Forget the earliest end, and the start that it closes; False where it closes none."""
        end = self.ends.pop(0)
        for at, closed in enumerate(self.closes):
            if closed is not None:
                if closed != end:
                    break
                del self.closes[at], self.starts[at]
                return True
        return False

    def drop_start(self) -> Start:
        """Forget the earliest start, which must be open and out of reach of every end."""
        del self.closes[0]
        self.open -= 1
        return self.starts.pop(0)

    def _repair(self, time: int, new: Start | None) -> list[Repaired]:
        """Pair up again what is not closed before ``time``; tell what differs."""
        first = bisect_right(self.starts, time, key=_time_of)
        while first and not ((closed := self.closes[first - 1]) is not None and closed < time):
            first -= 1
        known = self.closes[first:]
        self._close(first, bisect_left(self.ends, time))
        paired = self.closes[first:]
        self.open += paired.count(None) - known.count(None)
        return [
            Repaired(None if start is new else Pair(start, before), Pair(start, after))
            for start, before, after in zip(self.starts[first:], known, paired, strict=True)
            if before != after or start is new
        ]

    def _close(self, oldest: int, first_end: int) -> None:
        """Let the ends from ``first_end`` on close the starts from ``oldest`` on."""
        starts, closes, count = self.starts, self.closes, len(self.starts)
        closes[oldest:] = [None] * (count - oldest)
        for end in self.ends[first_end:]:
            while oldest < count and starts[oldest].time < end - self.longest:
                oldest += 1
            if oldest < count and starts[oldest].time <= end:
                closes[oldest] = end
                oldest += 1


def _time_of(start: Start) -> int:
    return start.time


def dump(subject: Subject) -> str:
    """Canonical JSON of the facts: equal facts give equal text."""
    starts: list[Any] = [
        [start.time, dict(start.attributes)] if start.attributes else start.time
        for start in subject.starts
    ]
    return orjson.dumps([starts, *subject[1:]]).decode()


def undump(text: str) -> Subject:
    """The facts that `dump` wrote."""
    starts, ends, *rest = orjson.loads(text)
    return Subject(
        tuple(
            Start(start, "", ())
            if isinstance(start, int)
            else Start(start[0], "", tuple(start[1].items()))
            for start in starts
        ),
        tuple(ends),
        *rest,
    )

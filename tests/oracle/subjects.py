"""The oracle's rules for boundaries without a session id.

1. They belong to (partition, tenant, type, subject); no subject is the subject "".
2. In event-time order, a start before an end of the same instant: each end closes the oldest start
   that is open and not further away than a session of the type may last. An end that finds none is
   left over. Equal starts are one, equal ends are one.
3. The last sign of life of an open session is its start or the subject's latest heartbeat,
   whichever is later; its deadlines count from the subject's latest record of any kind.
4. A start or an end that lies more than 31 days before the log time is refused, once the log is
   more than 31 days past the beginning of metering: `settled_session`.
5. So what lies before that horizon can be settled, whenever a record comes: an end that nothing is
   open for, a start with the end that closes it, and an open start that no end can reach any more,
   which stays charged as given up. Settled sessions are charged for good and no more listed.
6. An end left over is listed as *unstarted*; once settled it is one of the subject's conflicts.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from meterstream_schemas.events import EventKind, MeterEvent
from tests.oracle.sessions import Bill, SessionKey, bills, deadlines, given_up

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.oracle.catalogue import OracleMeter

SETTLED_AFTER = 31 * 86_400_000_000


class Pair(NamedTuple):
    """One session of a subject."""

    start: MeterEvent
    end: int | None


@dataclass
class OracleSubject:
    """All boundaries without an id that one subject told; the key's session is the subject."""

    key: SessionKey
    longest: int
    starts: list[MeterEvent] = field(default_factory=list[MeterEvent])
    ends: list[int] = field(default_factory=list[int])
    last_beat: int = 0
    last_append: int = 0
    settled_conflicts: int = 0
    settled: list[tuple[Pair, int]] = field(default_factory=list[tuple[Pair, int]])
    """Sessions that nothing changes any more, and the last sign of life they had."""

    def add(self, event: MeterEvent, log_time: int) -> None:
        """Take in one accepted boundary or heartbeat."""
        self.last_append = log_time
        if event.kind is EventKind.SESSION_START:
            if _said(event) not in [_said(start) for start in self.starts]:
                self.starts = sorted([*self.starts, event], key=_said)
        elif event.kind is EventKind.SESSION_END:
            self.ends = sorted({*self.ends, event.time})
        else:
            self.last_beat = max(self.last_beat, event.time)

    def pairs(self) -> tuple[list[Pair], list[int]]:
        """The sessions by their starts, and the ends left over."""
        closed_by: dict[int, int] = {}
        left_over: list[int] = []
        for end in self.ends:
            for place, start in enumerate(self.starts):
                if place not in closed_by and start.time <= end <= start.time + self.longest:
                    closed_by[place] = end
                    break
            else:
                left_over.append(end)
        pairs = [Pair(start, closed_by.get(n)) for n, start in enumerate(self.starts)]
        return pairs, left_over

    def settle(self, horizon: int) -> None:
        """Rule 5: forget from the front what no boundary after the horizon can change."""
        while True:
            pairs, left_over = self.pairs()
            if (
                left_over
                and left_over[0] < horizon
                and (not pairs or left_over[0] < pairs[0].start.time)
            ):
                self.ends.remove(left_over[0])
                self.settled_conflicts += 1
            elif pairs and pairs[0].end is not None and pairs[0].end < horizon:
                self.ends.remove(pairs[0].end)
                self._retire(pairs[0])
            elif pairs and pairs[0].end is None and pairs[0].start.time + self.longest < horizon:
                self._retire(pairs[0])
            else:
                return

    def _retire(self, pair: Pair) -> None:
        self.starts.remove(pair.start)
        self.settled.append((pair, self.sign(pair)))

    def sign(self, pair: Pair) -> int:
        """The last sign of life of one of the sessions."""
        return pair.end if pair.end is not None else max(pair.start.time, self.last_beat)

    def deadlines(self, meters: Iterable[OracleMeter]) -> list[int]:
        """The log times at which meters give up what is open."""
        return deadlines(meters, self.last_append)

    def bills(self, meters: Iterable[OracleMeter], log_time: int) -> list[Bill]:
        """What all sessions are charged, as things stand at that log time."""
        meters = list(meters)
        found: list[Bill] = []
        for pair, last_sign in self.settled:
            found += bills(pair.start, pair.end, (last_sign, 0), self.longest, meters, 2**62)
        for pair in self.pairs()[0]:
            signs = self.sign(pair), self.last_append
            found += bills(pair.start, pair.end, signs, self.longest, meters, log_time)
        return found

    def state(self, pair: Pair, meters: Iterable[OracleMeter], log_time: int) -> str:
        """open, closed or timed_out."""
        if pair.end is not None:
            return "closed"
        readers = [meter for meter in meters if meter.reads(pair.start.time)]
        over = any(given_up(meter, self.last_append, log_time) for meter in readers)
        return "timed_out" if over else "open"


def comes_too_late(event: MeterEvent, log_time: int, metering_since: int) -> bool:
    """Rule 4."""
    if event.kind is EventKind.SESSION_HEARTBEAT:
        return False
    return log_time > max(event.time, metering_since) + SETTLED_AFTER


def _said(event: MeterEvent) -> tuple[int, list[tuple[str, str]]]:
    return event.time, sorted(event.attributes.items())

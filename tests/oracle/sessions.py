"""The oracle's session rules (DESIGN section 9), for sessions that carry an id.

1. A session is (partition, tenant, type, session id); all it knows is its accepted events.
2. Start = the earliest start. Among starts at that one instant the one with the smallest subject,
   then the smallest attributes speaks, so that arrival order never matters.
3. End = the earliest end that is not before the start, and not further from it than the strictest
   session meter of the type allows.
4. Last sign of life = the latest event time of any of its events; last append likewise.
5. The definitions that apply at its start read it. Started and not ended, it is timed out for one
   of them once the partition's log time reaches last append + that meter's timeout. It is billed
   up to its last sign of life, or up to that plus the timeout, and never beyond the greatest
   length. A later sign of life makes it an open one again; a later end wins.
6. An end or a heartbeat without a start is *unstarted*: nothing is billed.
7. Every distinct start and every distinct end time beyond the chosen one is one conflict; of the
   ends of an unstarted session one is taken as fitting. Only the smallest 32 distinct starts and
   ends are known at all.
8. A started session is one event in the window of its start, and its seconds lie in the windows in
   which they passed.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from meterstream_schemas.events import EventKind, MeterEvent

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tests.oracle.catalogue import OracleMeter

CLAIMS_MAX = 32


class SessionKey(NamedTuple):
    """What makes two boundaries belong together."""

    partition: int
    tenant: str
    type: str
    session: str


class Bill(NamedTuple):
    """What one session is charged under one meter; ``until`` is None while only its start is."""

    meter: OracleMeter
    group: tuple[str, ...]
    start: int
    until: int | None


@dataclass
class OracleSession:
    """All that was said about one session."""

    key: SessionKey
    longest: int
    starts: list[MeterEvent] = field(default_factory=list[MeterEvent])
    ends: list[int] = field(default_factory=list[int])
    times: list[int] = field(default_factory=list[int])
    last_append: int = 0

    def add(self, event: MeterEvent, log_time: int) -> None:
        """Take in one accepted boundary or heartbeat."""
        self.times.append(event.time)
        self.last_append = log_time
        if event.kind is EventKind.SESSION_START:
            if _said(event) not in [_said(start) for start in self.starts]:
                self.starts = sorted([*self.starts, event], key=_said)[:CLAIMS_MAX]
        elif event.kind is EventKind.SESSION_END:
            self.ends = sorted({*self.ends, event.time})[:CLAIMS_MAX]

    @property
    def opening(self) -> MeterEvent | None:
        """The start that speaks for the session."""
        return self.starts[0] if self.starts else None

    @property
    def start(self) -> int | None:
        """Microseconds UTC, or None for an unstarted session."""
        return self.starts[0].time if self.starts else None

    @property
    def end(self) -> int | None:
        """Microseconds UTC, or None while no end fits."""
        start = self.start
        if start is None:
            return None
        fitting = [end for end in self.ends if start <= end <= start + self.longest]
        return min(fitting, default=None)

    @property
    def last_sign(self) -> int:
        """The latest event time."""
        return max(self.times)

    @property
    def conflicts(self) -> int:
        """How much was said beyond one start and one end (rule 7)."""
        fitting = self.end is not None or (self.start is None and len(self.ends) > 0)
        return max(len(self.starts) - 1, 0) + len(self.ends) - fitting

    def state(self, meters: Iterable[OracleMeter], log_time: int) -> str:
        """open, closed, timed_out (for any of the meters that read it) or unstarted."""
        if self.start is None:
            return "unstarted"
        if self.end is not None:
            return "closed"
        readers = [meter for meter in meters if meter.reads(self.start)]
        over = any(given_up(meter, self.last_append, log_time) for meter in readers)
        return "timed_out" if over else "open"

    def deadlines(self, meters: Iterable[OracleMeter]) -> list[int]:
        """The log times at which meters give it up, if it has not ended by then."""
        return deadlines(meters, self.last_append)

    def bills(self, meters: Iterable[OracleMeter], log_time: int) -> list[Bill]:
        """What it is charged, as things stand at that log time."""
        if self.opening is None:
            return []
        signs = self.last_sign, self.last_append
        return bills(self.opening, self.end, signs, self.longest, meters, log_time)


def deadlines(meters: Iterable[OracleMeter], last_append: int) -> list[int]:
    """When what was last heard of then times out, rising."""
    return sorted({last_append + meter.timeout for meter in meters if meter.timeout is not None})


def given_up(meter: OracleMeter, last_append: int, log_time: int) -> bool:
    """Whether a meter's timeout has passed for what was last heard of then."""
    return meter.timeout is not None and log_time >= last_append + meter.timeout


def bills(  # noqa: PLR0917 - all that a charge depends on
    opening: MeterEvent,
    end: int | None,
    signs: tuple[int, int],
    longest: int,
    meters: Iterable[OracleMeter],
    log_time: int,
) -> list[Bill]:
    """The charges of one started session; ``signs`` are its last sign of life and last append."""
    found: list[Bill] = []
    last_sign, last_append = signs
    for meter in meters:
        if not meter.reads(opening.time) or not meter.passes(opening.attributes):
            continue
        until = end
        if end is None and given_up(meter, last_append, log_time):
            assert meter.timeout is not None
            until = last_sign + (meter.timeout if meter.timeout_bills == "timeout" else 0)
            until = min(until, opening.time + longest)
        group = tuple(opening.attributes.get(name, "") for name in meter.group_by)
        found.append(Bill(meter, group, opening.time, until))
    return found


def moves(
    before: Sequence[Bill], after: Sequence[Bill]
) -> list[tuple[OracleMeter, tuple[str, ...], int, int, int]]:
    """What changes from one set of bills to the next.

    (meter, group, window start, sessions started, microseconds), without what comes to nothing. New
    starts come first, in the order of the bills.
    """
    events: Counter[tuple[OracleMeter, tuple[str, ...], int]] = Counter()
    passed: Counter[tuple[OracleMeter, tuple[str, ...], int]] = Counter()
    old, new = Counter(before), Counter(after)
    for sign, changed in ((1, new - old), (-1, old - new)):
        for bill, times in changed.items():
            meter, group, start, until = bill
            events[meter, group, start // meter.window * meter.window] += sign * times
            for window_start, inside in split(start, until or start, meter.window).items():
                passed[meter, group, window_start] += sign * times * inside
    places = dict.fromkeys([*events, *passed])
    return [
        (*place, events[place], passed[place]) for place in places if events[place] or passed[place]
    ]


def split(start: int, end: int, window: int) -> dict[int, int]:
    """Microseconds of [start, end) in each window it touches; windows with none are left out."""
    parts: dict[int, int] = {}
    at = start
    while at < end:
        window_start = at // window * window
        until = min(end, window_start + window)
        parts[window_start] = until - at
        at = until
    return parts


def _said(event: MeterEvent) -> tuple[int, str, list[tuple[str, str]]]:
    return event.time, event.subject or "", sorted(event.attributes.items())

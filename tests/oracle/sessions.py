"""The oracle's session rules (DESIGN section 9), for sessions that carry an id.

1. A session is (partition, tenant, type, session id); all it knows is its accepted events.
2. Start = the earliest start. Among starts at that one instant the one with the smallest subject,
   then the smallest attributes speaks, so that arrival order never matters.
3. End = the earliest end that is not before the start.
4. Last sign of life = the latest event time of any of its events; last append likewise.
5. Started and not ended, a session is timed out for a meter once the highest append time folded in
   its partition reaches last append + the meter's timeout. It is billed up to its last sign of
   life, or up to that plus the timeout. A later heartbeat moves the deadline; a later end wins.
6. An end or a heartbeat without a start is *unstarted*: nothing is billed.
7. Every distinct start and every distinct end time beyond the chosen one is one conflict; of the
   ends of an unstarted session one is taken as fitting.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from meterstream_schemas.events import EventKind, MeterEvent


class SessionKey(NamedTuple):
    """What makes two boundaries belong together."""

    partition: int
    tenant: str
    type: str
    session: str


@dataclass
class OracleSession:
    """All that was said about one session."""

    key: SessionKey
    starts: list[MeterEvent] = field(default_factory=list[MeterEvent])
    ends: list[int] = field(default_factory=list[int])
    times: list[int] = field(default_factory=list[int])
    appends: list[int] = field(default_factory=list[int])

    def add(self, event: MeterEvent, append_time: int) -> None:
        """Take in one accepted boundary or heartbeat."""
        self.times.append(event.time)
        self.appends.append(append_time)
        if event.kind is EventKind.SESSION_START:
            self.starts.append(event)
        elif event.kind is EventKind.SESSION_END:
            self.ends.append(event.time)

    @property
    def opening(self) -> MeterEvent | None:
        """The start that speaks for the session."""
        return min(self.starts, key=_said, default=None)

    @property
    def start(self) -> int | None:
        """Microseconds UTC, or None for an unstarted session."""
        return min((event.time for event in self.starts), default=None)

    @property
    def end(self) -> int | None:
        """Microseconds UTC, or None while no end fits."""
        start = self.start
        if start is None:
            return None
        return min((time for time in self.ends if time >= start), default=None)

    @property
    def last_sign(self) -> int:
        """The latest event time."""
        return max(self.times)

    @property
    def last_append(self) -> int:
        """The latest append time."""
        return max(self.appends)

    @property
    def conflicts(self) -> int:
        """How much was said beyond one start and one end (rule 7)."""
        starts = len({repr(_said(event)) for event in self.starts})
        ends = len(set(self.ends))
        fitting = self.end is not None or (self.start is None and ends > 0)
        return max(starts - 1, 0) + ends - fitting

    def state(self, timeout: int | None, appended: int) -> str:
        """open, closed, timed_out or unstarted, for one timeout and one partition's progress."""
        if self.start is None:
            return "unstarted"
        if self.end is not None:
            return "closed"
        if timeout is not None and appended >= self.last_append + timeout:
            return "timed_out"
        return "open"

    def billed_end(self, timeout: int | None, bills: str, appended: int) -> int | None:
        """Up to when the session is billed, or None while it is open or unstarted."""
        match self.state(timeout, appended):
            case "closed":
                return self.end
            case "timed_out":
                assert timeout is not None
                return self.last_sign + (timeout if bills == "timeout" else 0)
            case _:
                return None


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

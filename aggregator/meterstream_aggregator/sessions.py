"""Sessions: what their boundaries say, in whatever order they come (DESIGN section 9). Pure.

A session is (tenant, type, session id). Its state is made of facts that join commutatively, so
that order and repetition change nothing:

* the distinct starts and the distinct ends that were claimed (the smallest `CLAIMS_MAX` of each);
* the latest sign of life in event time, and the latest append time of any of its records.

From the facts follow, always the same way: the start (the earliest), the end (the earliest that is
not before the start and within `LENGTH_MAX` of it), conflicts (every further claim), and whether a
meter's timeout has passed: ``appended >= last_append + timeout``, where ``appended`` is the highest
append time that the partition was folded to. A real end outlives a timeout.

What a session is charged under a meter is a function of facts and ``appended``; when they change,
the windows change by the difference of the two charges.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterable, Iterator, Mapping
from typing import Final, NamedTuple, TypeVar

from meterstream_aggregator.catalogue import DAY, Meter, TimeoutBills
from meterstream_aggregator.windows import split, window_start
from meterstream_schemas.events import EventKind, MeterEvent

CLAIMS_MAX: Final = 32
"""Distinct starts, and distinct ends, kept for one session."""
LENGTH_MAX: Final = 31 * DAY
"""No session is longer; an end further from the start is a conflict, not an end."""


class SessionKey(NamedTuple):
    """What makes a session one session, and the partition that tells of it."""

    partition: int
    tenant: str
    type: str
    session: str


class Start(NamedTuple):
    """A claimed start, ordered by time first. ``attributes`` are sorted pairs."""

    time: int
    subject: str
    attributes: tuple[tuple[str, str], ...]


_Claim = TypeVar("_Claim", Start, int)


class Session(NamedTuple):
    """The facts about one session. ``starts`` and ``ends`` are sorted and distinct."""

    starts: tuple[Start, ...]
    ends: tuple[int, ...]
    last_sign: int
    last_append: int

    @property
    def start(self) -> int | None:
        """The earliest claimed start."""
        return self.starts[0].time if self.starts else None

    @property
    def end(self) -> int | None:
        """The earliest claimed end not before the start; None while open or unstarted."""
        if not self.starts or not self.ends:
            return None
        start = self.starts[0].time
        for end in self.ends:
            if start <= end <= start + LENGTH_MAX:
                return end
        return None

    @property
    def conflicts(self) -> int:
        """Claims beyond one start and one end, and ends that cannot be one."""
        one_counts = self.end is not None or bool(self.ends and not self.starts)
        return max(len(self.starts) - 1, 0) + len(self.ends) - int(one_counts)

    @property
    def attributes(self) -> Mapping[str, str]:
        """The attributes of the start that counts; empty while unstarted."""
        return dict(self.starts[0].attributes) if self.starts else {}

    @property
    def subject(self) -> str | None:
        """The subject of the start that counts."""
        return (self.starts[0].subject or None) if self.starts else None


class Charge(NamedTuple):
    """What a session is charged under one meter: from ``start`` until ``until`` (None: not yet)."""

    group: tuple[str, ...]
    start: int
    until: int | None


class Share(NamedTuple):
    """A change of one window of one meter: microseconds, and how many sessions started in it."""

    group: tuple[str, ...]
    window: int
    microseconds: int
    started: int


def observed(session: Session | None, event: MeterEvent, append_time: int) -> Session:
    """The session after one more boundary or heartbeat."""
    starts = session.starts if session is not None else ()
    ends = session.ends if session is not None else ()
    if event.kind is EventKind.SESSION_START:
        start = Start(event.time, event.subject or "", tuple(sorted(event.attributes.items())))
        starts = _with_claim(starts, start)
    elif event.kind is EventKind.SESSION_END:
        ends = _with_claim(ends, event.time)
    if session is None:
        return Session(starts, ends, event.time, append_time)
    return Session(
        starts, ends, max(session.last_sign, event.time), max(session.last_append, append_time)
    )


def deadline(session: Session, meters: Iterable[Meter], appended: int) -> int | None:
    """The next append time at which a meter gives the session up; None when nothing will change."""
    if not session.starts or session.end is not None:
        return None
    coming = [session.last_append + meter.timeout for meter in meters if meter.timeout is not None]
    return min((at for at in coming if at > appended), default=None)


def state_of(session: Session, meters: Iterable[Meter], appended: int) -> str:
    """``unstarted``, ``closed``, ``timed_out`` (for at least one meter) or ``open``."""
    if not session.starts:
        return "unstarted"
    if session.end is not None:
        return "closed"
    timed_out = any(
        meter.timeout is not None and appended >= session.last_append + meter.timeout
        for meter in meters
    )
    return "timed_out" if timed_out else "open"


def billed_until(session: Session, meter: Meter, appended: int) -> int | None:
    """The end of what is charged under a meter, or None while nothing but the start is."""
    end = session.end
    if end is not None or meter.timeout is None or not session.starts:
        return end
    if appended < session.last_append + meter.timeout:
        return None
    start = session.starts[0].time
    last = max(session.last_sign, start)
    until = last + meter.timeout if meter.timeout_bills is TimeoutBills.TIMEOUT else last
    return min(until, start + LENGTH_MAX)


def charge(session: Session | None, meter: Meter, appended: int) -> Charge | None:
    """What the session is charged as of ``appended``; None when the meter does not read it."""
    if session is None or not session.starts:
        return None
    start = session.starts[0]
    attributes = dict(start.attributes) if meter.group_by or meter.where else {}
    for name, allowed in meter.where:
        if attributes.get(name, "") not in allowed:
            return None
    group = tuple([attributes.get(name, "") for name in meter.group_by])
    return Charge(group, start.time, billed_until(session, meter, appended))


def shares(charged: Charge, size: int) -> Iterator[Share]:
    """A charge, cut at the boundaries of windows of ``size``."""
    first = window_start(charged.start, size)
    if charged.until is None or charged.until == charged.start:
        yield Share(charged.group, first, 0, 1)
        return
    for window, inside in split(charged.start, charged.until, size):
        yield Share(charged.group, window, inside, int(window == first))


def change(before: Charge | None, after: Charge | None, size: int) -> Iterator[Share]:
    """What must be added to the windows so that they hold ``after`` in place of ``before``.

    Windows may be named more than once; shares of nothing may occur.
    """
    if before == after:
        return
    if (
        before is not None
        and after is not None
        and before[:2] == after[:2]
        and before.until is None
    ):
        # The usual end of a session: its start is counted already, only the time is new.
        if after.until is not None:
            for window, inside in split(after.start, after.until, size):
                yield Share(after.group, window, inside, 0)
        return
    if before is not None:
        for share in shares(before, size):
            yield Share(share.group, share.window, -share.microseconds, -share.started)
    if after is not None:
        yield from shares(after, size)


def _with_claim(claims: tuple[_Claim, ...], claim: _Claim) -> tuple[_Claim, ...]:
    if not claims:
        return (claim,)
    if claim in claims:
        return claims
    kept = list(claims)
    insort(kept, claim)
    return tuple(kept[:CLAIMS_MAX])

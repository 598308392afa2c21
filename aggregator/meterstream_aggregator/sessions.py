"""Sessions: what their boundaries say, in whatever order they come (DESIGN section 9). Pure.

A session is (tenant, type, session id). Its state is made of facts that join commutatively, so
that order and repetition change nothing:

* the distinct starts and the distinct ends that were claimed (the smallest `CLAIMS_MAX` of each);
* the latest sign of life in event time, and the latest append time of any of its records.

From the facts follow, always the same way: the start (the earliest), the end (the earliest that is
not before the start and no further from it than sessions of the type may last), conflicts (every
further claim), and whether a meter's timeout has passed: ``appended >= last_append + timeout``,
where ``appended`` is the log time that the partition was folded to. A real end outlives a timeout.

A session is read by the definitions of its type that read its start. What it is charged under one
is a function of facts and ``appended``. ``longest`` is always the type's: see `longest_of`.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple, TypeVar

import orjson

from meterstream_aggregator.catalogue import LENGTH_MAX, Meter, TimeoutBills
from meterstream_schemas.events import EventKind, MeterEvent

CLAIMS_MAX: Final = 32
"""Distinct starts, and distinct ends, kept for one session."""

_START: Final = EventKind.SESSION_START
_END: Final = EventKind.SESSION_END


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

    def end_within(self, longest: int) -> int | None:
        """The earliest claimed end that can be one; None while open or unstarted."""
        if not self.starts or not self.ends:
            return None
        start = self.starts[0].time
        for end in self.ends:
            if start <= end <= start + longest:
                return end
        return None

    def conflicts_within(self, longest: int) -> int:
        """Claims beyond one start and one end, and ends that cannot be one."""
        one_counts = self.end_within(longest) is not None or bool(self.ends and not self.starts)
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


def longest_of(meters: Iterable[Meter]) -> int:
    """How long a session may last that these definitions read: what the strictest of them says."""
    return min((meter.longest for meter in meters), default=LENGTH_MAX)


def observed(session: Session | None, event: MeterEvent, append_time: int) -> Session:
    """The session after one more boundary or heartbeat."""
    kind, time = event.kind, event.time
    if session is None:
        starts: tuple[Start, ...] = ()
        ends: tuple[int, ...] = ()
        last_sign, last_append = time, append_time
    else:
        starts, ends, last_sign, last_append = session
        if time > last_sign:  # noqa: PLR1730 - a call of max costs three times as much
            last_sign = time
        if append_time > last_append:  # noqa: PLR1730 - likewise
            last_append = append_time
    if kind is _START:
        starts = _with_claim(starts, start_of(event, event.subject or ""))
    elif kind is _END:
        ends = _with_claim(ends, time)
    return Session(starts, ends, last_sign, last_append)


def start_of(event: MeterEvent, subject: str) -> Start:
    """What a start claims."""
    attributes = event.attributes
    return Start(event.time, subject, tuple(sorted(attributes.items())) if attributes else ())


def attributes_text(pairs: Sequence[tuple[str, str]]) -> str | None:
    """The attributes of a start as they are stored; ``pairs`` are sorted."""
    return orjson.dumps(dict(pairs)).decode() if pairs else None


def deadline(session: Session, meters: Iterable[Meter], appended: int, longest: int) -> int | None:
    """The next log time at which a meter gives the session up; None when nothing will change."""
    if not session.starts or session.end_within(longest) is not None:
        return None
    return next_deadline(session.starts[0].time, session.last_append, meters, appended)


def next_deadline(
    start: int, last_append: int, meters: Iterable[Meter], appended: int
) -> int | None:
    """The first deadline after ``appended`` that an open session has under what reads its start."""
    coming = [
        last_append + meter.timeout
        for meter in meters
        if meter.timeout is not None and meter.reads(start)
    ]
    return min((at for at in coming if at > appended), default=None)


def state_of(session: Session, meters: Iterable[Meter], appended: int, longest: int) -> str:
    """``unstarted``, ``closed``, ``timed_out`` (for at least one meter) or ``open``."""
    if not session.starts:
        return "unstarted"
    if session.end_within(longest) is not None:
        return "closed"
    start, last = session.starts[0].time, session.last_append
    timed_out = any(meter.reads(start) and is_over(meter, last, appended) for meter in meters)
    return "timed_out" if timed_out else "open"


def is_over(meter: Meter, last_append: int, appended: int) -> bool:
    """Whether a meter has given up a session that was last heard of then."""
    return meter.timeout is not None and appended >= last_append + meter.timeout


def timed_out_until(start: int, last_sign: int, meter: Meter, longest: int) -> int:
    """The end of what is billed for a session that its meter has given up."""
    until = max(last_sign, start)
    if meter.timeout is not None and meter.timeout_bills is TimeoutBills.TIMEOUT:
        until += meter.timeout
    return min(until, start + longest)


def billed_until(session: Session, meter: Meter, appended: int, longest: int) -> int | None:
    """The end of what is charged under a meter, or None while nothing but the start is."""
    end = session.end_within(longest)
    if end is not None or not session.starts:
        return end
    if not is_over(meter, session.last_append, appended):
        return None
    return timed_out_until(session.starts[0].time, session.last_sign, meter, longest)


def group_of(time: int, attributes: Mapping[str, str], meter: Meter) -> tuple[str, ...] | None:
    """The group values of a session with this start; None when the definition does not read it."""
    if not meter.reads(time):
        return None
    for condition in meter.where:
        if not condition.holds(attributes):
            return None
    return tuple([attributes.get(name, "") for name in meter.group_by])


def _with_claim(claims: tuple[_Claim, ...], claim: _Claim) -> tuple[_Claim, ...]:
    if not claims:
        return (claim,)
    if claim in claims:
        return claims
    kept = list(claims)
    insort(kept, claim)
    return tuple(kept[:CLAIMS_MAX])

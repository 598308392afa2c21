"""Sessions that still run: the seconds they came to so far, and what is at stake with them. Pure.

A running session is counted in no window yet. Until it ends, or its meter gives it up, what it came
to so far is added to answers: to the closing figure while windows can still close with it, to the
adjustments once they closed without. Nothing of it is stored.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from meterstream_aggregator.answering import Scope
from meterstream_aggregator.catalogue import Aggregate, Catalogue, Meter
from meterstream_aggregator.changes import OVERFLOW
from meterstream_aggregator.merging import RUNNING
from meterstream_aggregator.questions import Question, Stretch
from meterstream_aggregator.sessions import group_of, is_over, longest_of, timed_out_until
from meterstream_aggregator.store.port import StoreReader
from meterstream_aggregator.store.session_rows import cursor_of
from meterstream_aggregator.store.told import SessionRow, UsageRow
from meterstream_aggregator.windows import closes_at, window_start

SESSIONS_PER_READ: Final = 5_000
MICROSECOND_SCALE: Final = 6
"""Seconds with six decimal places, as they are stored."""


@dataclass(frozen=True, slots=True)
class AsOf:
    """What a store knows of running sessions, and when that is.

    ``appended`` is the append time that each partition is folded to, ``progress`` the lowest of
    them: see `questions.folded_until`.
    """

    catalogue: Catalogue
    appended: Mapping[int, int]
    progress: int
    now: int

    def ran_until(self, row: SessionRow, meters: Iterable[Meter]) -> int | None:
        """Until when a session ran so far under any of these; None where it runs under none."""
        if row.start is None or row.end is not None:
            return None
        appended = self.appended.get(row.partition, 0)
        for meter in meters:
            if group_of(row.start, row.attributes, meter) is None:
                continue
            if not is_over(meter, row.last_append, appended):
                longest = longest_of(self.catalogue.session_meters(row.type))
                return max(row.start, min(self.now, row.start + longest))
        return None

    def span_of(self, row: SessionRow, meter: Meter) -> tuple[int, int] | None:
        """When a session ran under a meter: until its end, what it was billed until, or now."""
        if row.start is None:
            return None
        if row.end is not None:
            return row.start, row.end
        until = self.ran_until(row, [meter])
        if until is None:
            longest = longest_of(self.catalogue.session_meters(row.type))
            until = timed_out_until(row.start, row.last_sign, meter, longest)
        return row.start, until

    def closed_before(self, meter: Meter) -> int:
        """The end of the windows of a meter that are closed by now."""
        first = closes_at(0, meter.window, self.catalogue.metering_since, meter.grace)
        if self.progress < first:
            return 0
        return (self.progress - meter.grace) // meter.window * meter.window


class SessionTelling:
    """What to say of single sessions, in microseconds."""

    def __init__(self, as_of: AsOf) -> None:
        self._as_of = as_of
        self._meters: dict[str, tuple[tuple[Meter, ...], int]] = {}

    def tell(self, row: SessionRow) -> tuple[int | None, int]:
        """What a session came to (None while unstarted), and how much of it no end vouches for.

        Of one that was given up: what the most generous of its meters bills.
        """
        if row.start is None:
            return None, 0
        if row.end is not None:
            return row.end - row.start, 0
        if row.type not in self._meters:
            meters = self._as_of.catalogue.session_meters(row.type)
            self._meters[row.type] = meters, longest_of(meters)
        meters, longest = self._meters[row.type]
        reading = [m for m in meters if group_of(row.start, row.attributes, m) is not None]
        until = self._as_of.ran_until(row, reading)
        if until is None and not reading:
            until = max(row.start, min(self._as_of.now, row.start + longest))
        if until is None:
            until = max(timed_out_until(row.start, row.last_sign, m, longest) for m in reading)
        return until - row.start, until - row.start


def running_usage(
    store: StoreReader, question: Question, *, scope: Scope, as_of: AsOf
) -> dict[str, list[UsageRow]]:
    """What running sessions add, by `Meter.version`: as `answering.figures` takes it."""
    found: dict[str, list[UsageRow]] = {}
    lines = _Lines(store)
    for stretch in question.stretches:
        if stretch.aggregate is Aggregate.SESSION:
            for row in running_sessions(store, stretch, scope, as_of):
                for meter in stretch.meters:
                    pieces = list(_rows(row, meter, stretch, scope, as_of))
                    group = lines.group(row, meter, pieces[0].group) if pieces else ()
                    rows = found.setdefault(meter.version, [])
                    rows.extend(piece._replace(group=group) for piece in pieces)
    return found


class _Lines:
    """Which line a running session is counted on: its own group's, or the overflow's.

    The start of a session is counted when it comes. Where its window holds nothing of its group,
    the group had no room.
    """

    def __init__(self, store: StoreReader) -> None:
        self._store = store
        self._crowded: set[tuple[str, str]] | None = None
        self._groups: dict[tuple[str, str, tuple[str, ...]], tuple[str, ...]] = {}

    def group(self, row: SessionRow, meter: Meter, group: tuple[str, ...]) -> tuple[str, ...]:
        """The group values that the session's time is counted under."""
        if not group or row.start is None:
            return group
        if self._crowded is None:
            self._crowded = {(name, tenant) for name, tenant, _ in self._store.overflowing()}
        if (meter.name, row.tenant) not in self._crowded:
            return group
        place = (meter.version, row.tenant, group)
        if place not in self._groups:
            start = window_start(row.start, meter.window)
            there = self._store.usage(meter, tenants=[row.tenant], start=start, end=start + 1)
            own = any(line.group == group for line in there)
            self._groups[place] = group if own else (OVERFLOW,) * len(group)
        return self._groups[place]


def running_sessions(
    store: StoreReader, stretch: Stretch, scope: Scope, as_of: AsOf
) -> Iterator[SessionRow]:
    """Sessions that began before the end of a stretch and may run under one of its meters."""
    for event_type in dict.fromkeys(meter.type for meter in stretch.meters):
        timeouts = {meter.timeout for meter in as_of.catalogue.session_meters(event_type)}
        # What one meter gave up may still run under another that has more patience.
        for state in ("open", "timed_out") if len(timeouts) > 1 else ("open",):
            yield from sessions_of(store, scope.tenants, event_type, state, end=stretch.bounds[-1])


def sessions_of(
    store: StoreReader,
    tenants: Sequence[str] | None,
    event_type: str | None,
    state: str | None,
    *,
    start: int | None = None,
    end: int | None = None,
) -> Iterator[SessionRow]:
    """All sessions that fit, read in parts."""
    after: str | None = None
    while True:
        rows = store.sessions(
            tenants=tenants,
            type=event_type,
            state=state,
            start=start,
            end=end,
            limit=SESSIONS_PER_READ,
            after=after,
        )
        yield from rows
        if len(rows) < SESSIONS_PER_READ:
            return
        after = cursor_of(rows[-1])


def _rows(
    row: SessionRow, meter: Meter, stretch: Stretch, scope: Scope, as_of: AsOf
) -> Iterator[UsageRow]:
    """A running session in pieces, each within one period, one span, and windows closed or not."""
    until = as_of.ran_until(row, [meter])
    if until is None or row.start is None:
        return
    group = group_of(row.start, row.attributes, meter)
    assert group is not None
    closed = as_of.closed_before(meter)
    spans = ((0, until),) if scope.spans is None else scope.spans.get(row.tenant, ())
    for since, upto in spans:
        # A window belongs to the span that holds its start.
        low = max(row.start, stretch.bounds[0], -(-since // meter.window) * meter.window)
        high = min(until, stretch.bounds[-1], -(-upto // meter.window) * meter.window)
        cuts = [bound for bound in (*stretch.bounds, closed) if low < bound < high]
        at = low
        for cut in [*sorted(cuts), high]:
            if at < cut:
                arrival = RUNNING if cut <= closed else 0
                start = at - at % meter.window
                yield UsageRow(row.tenant, group, start, 0, cut - at, MICROSECOND_SCALE, arrival)
            at = cut

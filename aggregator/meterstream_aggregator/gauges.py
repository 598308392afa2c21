"""Figures of time-weighted meters: amount times seconds, exactly, over any period. Pure.

A gauge is a step function. Levels (`Aggregate.TIME_WEIGHTED`): each series holds what its latest
sample said. Changes (`Aggregate.TIME_WEIGHTED_CHANGES`): the level is the sum of all changes so
far. Both become **steps**, changes of level at an instant, and steps of all series simply add up.

What a window's closing figure sees
    Window W closes at C(W). Of what came late, with arrival a, it sees what had come by then: from
    the first window on of which C(W) > a. So each piece of evidence takes effect at its own time in
    the total, and in the closing figure not before that window. Nothing that comes after C(W) takes
    effect in W; that is why the closing figure of W never changes.

Over a change of definition
    A level is carried on where the later definition agrees on aggregate, unit and, for levels, on
    ``group_by``. There, what the earlier one left is taken to have come when the last window of the
    earlier one closed, at the earliest: when it really came is not kept.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from meterstream_aggregator import questions
from meterstream_aggregator.catalogue import MOMENT, Aggregate, Meter
from meterstream_aggregator.changes import Item
from meterstream_aggregator.merging import EVER, Course, Key, quotient
from meterstream_aggregator.questions import Groups, Question, Spans, Stretch
from meterstream_aggregator.store.told import ItemRow, UsageRow
from meterstream_aggregator.windows import closes_at
from meterstream_schemas.quantity import Amount, rescale

MICROSECOND_PLACES: Final = 6
"""What the scale of an amount grows by when it is multiplied with microseconds."""

_Series = tuple[str, tuple[str, ...]]


class Evidence(NamedTuple):
    """A sample, or the changes of one row.

    It takes effect ``at``, and ``came`` with that arrival (0: in time) on a grid of ``size``.
    ``moment`` is what its amounts times the microseconds since ``at`` add up to.
    """

    size: int
    at: int
    came: int
    item: Item | None
    quantity: int
    scale: int
    moment: int = 0


class Segment(NamedTuple):
    """A part of the time asked for in which one definition decides what its windows see."""

    meter: Meter
    start: int
    end: int
    metering_since: int

    def visible_from(self, known_by: int) -> int:
        """The start of its first window that closes at ``known_by`` or later."""
        size, since = self.meter.window, self.metering_since
        first = closes_at(0, size, since, self.meter.grace)
        if known_by <= max(first, self.start + size + self.meter.grace):
            return self.start
        return -(-(known_by - self.meter.grace - size) // size) * size

    def effective(self, evidence: Evidence, upto: int) -> int:
        """When evidence takes effect in what is seen by arrival ``upto`` (0: as windows close)."""
        if evidence.came <= upto:
            return evidence.at
        return max(evidence.at, self.visible_from(evidence.came + evidence.size))


class Step(NamedTuple):
    """A change of level, at an instant."""

    at: int
    quantity: int
    scale: int
    moment: int = 0


@dataclass(slots=True)
class _Gauge:
    """The evidence of one (tenant, group) asked for: by series (one for changes) and segment."""

    evidence: dict[tuple[_Series, int, int], list[Evidence]] = field(default_factory=dict)
    arrivals: set[int] = field(default_factory=set)
    first: int = EVER
    seen: dict[int, dict[int, Amount]] = field(default_factory=dict)


class GaugeCourses:
    """The courses of time-weighted figures: feed it all evidence, then ask.

    ``now`` bounds what is known; nothing is said of the future. ``spans`` are the times in which a
    tenant's usage is asked for; None: always. Unless ``apart``, all that came late is one.
    """

    def __init__(
        self,
        question: Question,
        stretch: Stretch,
        *,
        now: int,
        spans: Mapping[str, Spans] | None = None,
        apart: bool = False,
    ) -> None:
        self._question = question
        self._bounds = stretch.bounds
        self._meters = stretch.meters
        self._levels = stretch.aggregate is Aggregate.TIME_WEIGHTED
        self._now = now
        self._spans = spans
        self._apart = apart
        self._gauges: dict[tuple[str, tuple[str, ...]], _Gauge] = {}
        self._segments: dict[tuple[str, int], list[Segment]] = {}

    def join_levels(self, meter: Meter, rows: Iterable[ItemRow]) -> None:
        """Add samples of one definition, those that hold from before the time asked for too."""
        asked_group, plan = Groups(self._question, meter), self._plan(meter)
        for tenant, group, _, arrival, _, by in rows:
            kept = asked_group[group]
            if kept is not None:
                sample = Evidence(meter.window, by.time, arrival, by, by.quantity, by.scale)
                self._join((tenant, group), kept, plan, sample)

    def join_changes(self, meter: Meter, rows: Iterable[UsageRow]) -> None:
        """Add rows of one definition, and what changed before the time asked for."""
        asked_group, plan = Groups(self._question, meter), self._plan(meter)
        for tenant, group, start, _, quantity, scale, arrival in rows:
            kept = asked_group[group]
            if kept is None:
                continue
            change = Evidence(meter.window, start, arrival, None, quantity, scale)
            if scale >= MOMENT:
                change = change._replace(quantity=0, scale=scale - MOMENT, moment=quantity)
            self._join((tenant, ()), kept, plan, change)

    def keys(self) -> set[Key]:
        """Every figure in which there was a level other than nothing, be it for a time only."""
        found: set[Key] = set()
        for place, gauge in self._gauges.items():
            for upto in (0, *gauge.arrivals, EVER) if self._apart else (0, EVER):
                found.update(
                    (index, *place)
                    for index, amount in self._seen(gauge, upto).items()
                    if amount.quantity
                )
            if len(found) > questions.FIGURES_MAX:
                raise questions.too_many()
        return found

    def course(self, key: Key) -> Course:
        """How a figure came about."""
        index, tenant, group = key
        gauge = self._gauges.get((tenant, group))
        if gauge is None:
            return [(0, None)]
        upto = sorted(gauge.arrivals) if self._apart else [EVER] if gauge.arrivals else []
        return [(arrival, self._seen(gauge, arrival).get(index)) for arrival in (0, *upto)]

    def average(self, key: Key, total: Amount | None) -> Amount | None:
        """A figure's mean level: of levels over the time since the first known one."""
        index, tenant, group = key
        start, end = self._bounds[index], min(self._bounds[index + 1], self._now)
        if self._levels:
            gauge = self._gauges.get((tenant, group))
            start = end if gauge is None else max(start, gauge.first)
        if total is None or end <= start:
            return None
        return quotient(Amount(total.quantity, total.scale - MICROSECOND_PLACES), end - start)

    def _plan(self, meter: Meter) -> list[tuple[int, int]]:
        """The definitions that take evidence of this one, and since when it counts as come."""
        own = self._meters.index(meter)
        plan = [(own, 0)]
        for number in range(own + 1, len(self._meters)):
            if meter.until is None or (
                self._levels and self._meters[number].group_by != meter.group_by
            ):
                break
            last, since = meter.until - meter.window, self._question.metering_since
            left = closes_at(last, meter.window, since, meter.grace)
            plan.append((number, left - meter.window))
        return plan

    def _join(
        self,
        series: _Series,
        kept: tuple[str, ...],
        plan: Sequence[tuple[int, int]],
        evidence: Evidence,
    ) -> None:
        tenant = series[0]
        place = ("" if self._question.total else tenant, kept)
        gauge = self._gauges.get(place)
        if gauge is None:
            gauge = self._gauges[place] = _Gauge()
        for number, left in plan:
            for position, segment in enumerate(self._segments_of(tenant, number)):
                if evidence.at >= segment.end:
                    continue
                taken = evidence
                if left or evidence.at < segment.start:
                    taken = evidence._replace(
                        at=max(evidence.at, segment.start),
                        came=max(evidence.came, left),
                        moment=evidence.moment if evidence.at >= segment.start else 0,
                    )
                gauge.evidence.setdefault((series, number, position), []).append(taken)
                gauge.first = min(gauge.first, taken.at)
                if taken.came and segment.effective(taken, 0) > taken.at:
                    gauge.arrivals.add(taken.came)

    def _segments_of(self, tenant: str, number: int) -> list[Segment]:
        """Where a definition decides, within the time asked for and the tenant's spans."""
        spans: Spans = ((self._bounds[0], self._bounds[-1]),)
        if self._spans is not None:
            spans = self._spans.get(tenant, ())
        else:
            tenant = ""
        known = self._segments.get((tenant, number))
        if known is None:
            meter = self._meters[number]
            low = max(self._bounds[0], meter.since)
            high = min(self._bounds[-1], meter.until or self._bounds[-1])
            # A window belongs to the span that holds its start.
            cut = [(_up(start, meter.window), _up(end, meter.window)) for start, end in spans]
            known = [
                Segment(meter, max(start, low), min(end, high), self._question.metering_since)
                for start, end in cut
                if max(start, low) < min(end, high)
            ]
            self._segments[tenant, number] = known
        return known

    def _seen(self, gauge: _Gauge, upto: int) -> dict[int, Amount]:
        """The integrals by period, as seen by an arrival; not of periods before the first step."""
        if not gauge.arrivals:
            upto = EVER
        known = gauge.seen.get(upto)
        if known is None:
            steps = list(self._steps(gauge, upto))
            known = gauge.seen[upto] = integrals(steps, self._bounds, self._now)
        return known

    def _steps(self, gauge: _Gauge, upto: int) -> Iterator[Step]:
        steps_of = _steps_of_levels if self._levels else _steps_of_changes
        for ((tenant, _), number, position), evidence in gauge.evidence.items():
            yield from steps_of(evidence, self._segments_of(tenant, number)[position], upto)


def integrals(steps: Sequence[Step], bounds: Sequence[int], now: int) -> dict[int, Amount]:
    """Level times seconds by period, up to ``now``; nothing for periods before the first step."""
    scale = max((step.scale for step in steps), default=0)
    inside: list[list[tuple[int, int, int]]] = [[] for _ in bounds[1:]]
    for at, quantity, places, moment in steps:
        index = bisect_right(bounds, at) - 1
        if index < len(inside):
            amount = (rescale(quantity, places, scale), rescale(moment, places, scale))
            inside[index].append((at, *amount))
    level, known = 0, False
    found: dict[int, Amount] = {}
    for index, changes in enumerate(inside):
        end = min(bounds[index + 1], now)
        total = level * max(end - bounds[index], 0)
        for at, quantity, moment in changes:
            level += quantity
            if at < end:
                known = True
                total += quantity * (end - at) - moment
        if known and bounds[index] < end:
            found[index] = Amount(total, scale + MICROSECOND_PLACES)
    return found


def _steps_of_levels(evidence: Sequence[Evidence], segment: Segment, upto: int) -> Iterator[Step]:
    """One series: the greatest sample in effect says the level, until its segment's end."""
    best: Item | None = None
    samples = [(segment.effective(one, upto), one.item) for one in evidence if one.item is not None]
    for at, item in sorted(samples):
        if at >= segment.end:
            break
        if best is None or item > best:
            yield Step(at, item.quantity, item.scale)
            if best is not None:
                yield Step(at, -best.quantity, best.scale)
            best = item
    if best is not None:
        yield Step(segment.end, -best.quantity, best.scale)


def _steps_of_changes(evidence: Sequence[Evidence], segment: Segment, upto: int) -> Iterator[Step]:
    for one in evidence:
        at = segment.effective(one, upto)
        if at < segment.end:
            # Once it takes effect at a later window, the time within its own no longer matters.
            yield Step(at, one.quantity, one.scale, one.moment if at == one.at else 0)
            yield Step(segment.end, -one.quantity, one.scale)


def _up(time: int, size: int) -> int:
    return -(-time // size) * size

"""Answering: from a question and a reader of the store to figures, and to adjustments. Pure.

Every aggregate answers in **courses** (`merging.Course`): what a figure was when its windows
closed, and what each later arrival made of it. The first is the closing figure, the last the total,
and the differences between are the adjustments; so closing figure + adjustments = total holds by
making.

Which figures there are: one per (period, tenant, group) in which there was any usage, a level other
than nothing, or a running session. With ``total`` the tenants are joined; and without groups every
period then has its figure, also where nothing was used.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple, Protocol, TypeVar

from meterstream_aggregator import questions
from meterstream_aggregator.catalogue import EXTREMES, KEPT, Aggregate, Meter
from meterstream_aggregator.figures_of_items import ItemCourses
from meterstream_aggregator.gauges import GaugeCourses
from meterstream_aggregator.merging import (
    EVER,
    RUNNING,
    Course,
    Key,
    RowCourses,
    Shelves,
    difference,
    join_rows,
    merged,
)
from meterstream_aggregator.questions import (
    Figure,
    Question,
    Spans,
    Stretch,
    status_of,
    too_many,
    window_at,
)
from meterstream_aggregator.store.port import StoreReader
from meterstream_aggregator.store.told import ItemRow, UsageRow
from meterstream_schemas.quantity import Amount

GAUGES: Final = frozenset({Aggregate.TIME_WEIGHTED, Aggregate.TIME_WEIGHTED_CHANGES})
"""Aggregates that have a value in windows without any event."""
NONE_OF_NOTHING: Final = frozenset(
    {
        Aggregate.AVERAGE,
        Aggregate.MIN,
        Aggregate.MAX,
        Aggregate.LATEST,
        Aggregate.TIME_WEIGHTED,
    }
)
"""Aggregates that have no value of nothing; of the others it is 0."""
WINDOWS_JOINED_MIN: Final = 8
"""Windows of a period, on average, from which on the store is asked to add them up."""
_ZERO: Final = Amount(0, 0)
_Row = TypeVar("_Row", UsageRow, ItemRow)


class Scope(NamedTuple):
    """Whose usage: of these ``tenants`` (None: of all), in the ``spans`` of each (None: always).

    A window belongs to the span that holds its start. Spans of a tenant do not overlap.
    """

    tenants: Sequence[str] | None = None
    spans: Mapping[str, Spans] | None = None

    def holds(self, tenant: str, start: int) -> bool:
        """Whether a window that begins at ``start`` is asked for."""
        if self.spans is None:
            return True
        return any(since <= start < until for since, until in self.spans.get(tenant, ()))


class Adjustment(NamedTuple):
    """What one arrival changed about one figure.

    It came in [arrived_from, arrived_until), in append time; both are None for the time of sessions
    that still run, in windows that closed: nothing of it has arrived yet.
    """

    start: int
    end: int
    tenant: str | None
    group: tuple[str, ...]
    arrived_from: int | None
    arrived_until: int | None
    events: int
    amount: Amount
    unit: str


class _Courses(Protocol):
    """What each kind of aggregate is read through."""

    def keys(self) -> set[Key]:
        """Every figure there is."""
        ...

    def course(self, key: Key) -> Course:
        """How a figure came about."""
        ...


class _Gathered(NamedTuple):
    """All there is about one stretch. ``running`` is also part of ``shelves``."""

    shelves: Shelves
    running: Shelves
    courses: _Courses

    def running_amount(self, key: Key) -> Amount:
        """How much of a figure is time of sessions that still run."""
        both = merged(
            Aggregate.SESSION, self.running[0].get(key), self.running.get(EVER, {}).get(key)
        )
        return _ZERO if both is None else Amount(both.quantity, both.scale)

    def keys(self, question: Question, stretch: Stretch) -> list[Key]:
        """Every figure that is shown, sorted."""
        keys = self.shelves.keys_of_all() | self.courses.keys()
        if question.total and not question.by:
            keys |= {(index, "", ()) for index in range(len(stretch.bounds) - 1)}
        if len(keys) > questions.FIGURES_MAX:
            raise too_many()
        return sorted(keys)


def figures(
    store: StoreReader,
    question: Question,
    *,
    scope: Scope = Scope(),  # noqa: B008 - immutable
    progress: int,
    now: int,
    running: Mapping[str, Sequence[UsageRow]] | None = None,
) -> list[Figure]:
    """The figures, ordered by period, tenant and group. All times in microseconds UTC.

    ``progress`` is what `folded_until` says. ``running`` are, by `Meter.version`, the rows of
    sessions that still run. Raises `InvalidQuestion` for more than `FIGURES_MAX` figures.
    """
    found: list[Figure] = []
    for stretch in question.stretches:
        gathered = _gather(store, question, stretch, scope, now, running or {}, apart=False)
        found.extend(_figures(gathered, question, stretch, progress, now))
    return found


def adjustments(
    store: StoreReader,
    question: Question,
    *,
    scope: Scope = Scope(),  # noqa: B008 - immutable
    now: int,
    arrived_from: int = 0,
    arrived_until: int = EVER + 1,
    running: Mapping[str, Sequence[UsageRow]] | None = None,
) -> list[Adjustment]:
    """What came late, by period, tenant, group and arrival, in that order.

    All of a figure's adjustments and its closing figure add up to its total; those that neither
    changed it nor hold an event are left out.
    """
    found: list[Adjustment] = []
    for stretch in question.stretches:
        gathered = _gather(store, question, stretch, scope, now, running or {}, apart=True)
        for key in gathered.keys(question, stretch):
            for one in _adjustments(gathered, question, stretch, key):
                came = RUNNING if one.arrived_from is None else one.arrived_from
                if arrived_from <= came < arrived_until:
                    found.append(one)
            if len(found) > questions.FIGURES_MAX:
                raise too_many()
    return found


def _figures(
    gathered: _Gathered, question: Question, stretch: Stretch, progress: int, now: int
) -> Iterator[Figure]:
    aggregate, bounds = stretch.aggregate, stretch.bounds
    unit = stretch.meters[-1].unit
    finals = stretch.final_at(question.metering_since)
    statuses = [
        status_of(end, final_at=final_at, progress=progress, now=now)
        for end, final_at in zip(bounds[1:], finals, strict=True)
    ]
    in_time, late = gathered.shelves[0], gathered.shelves.get(EVER, {})
    for key in gathered.keys(question, stretch):
        index, tenant, group = key
        whole = merged(aggregate, in_time.get(key), late.get(key))
        total, closing, adjustment = _amounts(aggregate, gathered.courses.course(key))
        average = running = None
        if isinstance(gathered.courses, GaugeCourses):
            average = gathered.courses.average(key, total)
        elif aggregate is Aggregate.SESSION:
            running = gathered.running_amount(key)
        yield Figure(
            bounds[index],
            bounds[index + 1],
            None if question.total else tenant,
            group,
            whole.events if whole else 0,
            total,
            closing,
            adjustment,
            statuses[index],
            whole.first if whole else None,
            whole.last if whole else None,
            finals[index],
            unit,
            aggregate,
            average,
            running,
        )


def _amounts(
    aggregate: Aggregate, course: Course
) -> tuple[Amount | None, Amount | None, Amount | None]:
    """Total, closing figure and adjustment. Where there is none of the one, it counts as 0."""
    closing, total = course[0][1], course[-1][1]
    if total is None and closing is None:
        nothing = None if aggregate in NONE_OF_NOTHING else _ZERO
        return nothing, nothing, nothing
    if len(course) == 1:
        return total, total, _ZERO
    return total, closing or _ZERO, difference(total or _ZERO, closing or _ZERO)


def _adjustments(
    gathered: _Gathered, question: Question, stretch: Stretch, key: Key
) -> Iterator[Adjustment]:
    index, tenant, group = key
    course = dict(gathered.courses.course(key))
    shelves = gathered.shelves
    came = {arrival for arrival in shelves.arrivals() if key in shelves[arrival]} | set(course)
    before = course[0] or _ZERO
    size = window_at(stretch.meters, stretch.bounds[index])
    for arrival in sorted(came - {0}):
        after = (course[arrival] or _ZERO) if arrival in course else before
        part = shelves[arrival].get(key)
        amount = difference(after, before)
        if amount.quantity or (part is not None and part.events):
            yield Adjustment(
                stretch.bounds[index],
                stretch.bounds[index + 1],
                None if question.total else tenant,
                group,
                None if arrival == RUNNING else arrival,
                None if arrival == RUNNING else arrival + size,
                part.events if part is not None else 0,
                amount,
                stretch.meters[-1].unit,
            )
        before = after


def _gather(  # noqa: PLR0917 - everything that says which rows
    store: StoreReader,
    question: Question,
    stretch: Stretch,
    scope: Scope,
    now: int,
    running: Mapping[str, Sequence[UsageRow]],
    *,
    apart: bool,
) -> _Gathered:
    shelves, still = Shelves(apart=apart), Shelves(apart=apart)
    gauges = GaugeCourses(question, stretch, now=now, spans=scope.spans, apart=apart)
    items = ItemCourses(question, stretch, apart=apart)
    aggregate = stretch.aggregate
    # Only sums may come added up: extremes are not sums, and of changes every window matters. It is
    # worth it where a period holds many windows.
    joins = (
        aggregate not in EXTREMES
        and aggregate is not Aggregate.TIME_WEIGHTED_CHANGES
        and stretch.bounds[-1] - stretch.bounds[0]
        >= WINDOWS_JOINED_MIN * stretch.meters[-1].window * (len(stretch.bounds) - 1)
    )
    for meter in stretch.meters:
        low, high = _time_of(meter, stretch)
        rows: Iterable[UsageRow] = ()
        if low < high:
            rows = store.usage(
                meter,
                tenants=scope.tenants,
                start=low,
                end=high,
                periods=stretch.bounds if joins and scope.spans is None else None,
            )
        if aggregate is Aggregate.TIME_WEIGHTED_CHANGES:
            rows = list(rows)
            gauges.join_changes(meter, rows)
        join_rows(question, stretch, meter, _inside(rows, scope), shelves)
        if aggregate is Aggregate.SESSION:
            open_rows = running.get(meter.version, ())
            join_rows(question, stretch, meter, open_rows, shelves)
            join_rows(question, stretch, meter, open_rows, still)
        elif aggregate is Aggregate.TIME_WEIGHTED:
            if low < high:
                gauges.join_levels(
                    meter, store.items(meter, tenants=scope.tenants, start=low, end=high)
                )
        elif aggregate in KEPT and low < high:
            found = store.items(meter, tenants=scope.tenants, start=low, end=high)
            items.join(meter, _inside(found, scope))
        _join_before(store, stretch, meter, scope, gauges)
    if aggregate in GAUGES:
        return _Gathered(shelves, still, gauges)
    if aggregate in KEPT:
        return _Gathered(shelves, still, items)
    return _Gathered(shelves, still, RowCourses(aggregate, shelves))


def _join_before(
    store: StoreReader, stretch: Stretch, meter: Meter, scope: Scope, gauges: GaugeCourses
) -> None:
    """What a gauge had come to before the time asked for."""
    start = stretch.bounds[0]
    if meter.since >= start:
        return
    upto = start if meter.until is None else min(start, meter.until)
    if stretch.aggregate is Aggregate.TIME_WEIGHTED:
        gauges.join_levels(meter, store.levels_before(meter, tenants=scope.tenants, start=upto))
    elif stretch.aggregate is Aggregate.TIME_WEIGHTED_CHANGES:
        gauges.join_changes(meter, store.changes_before(meter, tenants=scope.tenants, start=upto))


def _time_of(meter: Meter, stretch: Stretch) -> tuple[int, int]:
    """The part of a stretch in which a definition may have rows; empty where it has none."""
    low, end = max(stretch.bounds[0], meter.since), stretch.bounds[-1]
    if meter.until is None:
        return low, end
    if meter.aggregate is Aggregate.SESSION:  # counted by their start, they may last longer
        return low, min(end, meter.until + meter.longest)
    return low, min(end, meter.until)


def _inside(rows: Iterable[_Row], scope: Scope) -> Iterable[_Row]:
    if scope.spans is None:
        return rows
    return (row for row in rows if scope.holds(row.tenant, row.start))

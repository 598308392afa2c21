"""Counting a batch's usage by columns: rows grouped by series, window, arrival and scale.

1. The rows that a meter counts are found by masks, and what it takes from each.
2. Partition, tenant and group values are packed into one integer per row (see `packing`), that
   with window, arrival and scale into another. Where 64 bits are too few, codes of what occurs take
   the place of values.
3. Sorted, equal integers lie side by side, and so do those of one series; amounts are joined so.
4. Where a tenant would have more series than its meter's limit, the first in the log get theirs and
   the others share one; then step 3 is done again.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from meterstream_aggregator.batch import Batch, BoolArray, Int64Array, distinct, ordered
from meterstream_aggregator.catalogue import (
    EXTREMES,
    KEPT,
    MOMENT,
    Aggregate,
    Condition,
    Meter,
    Test,
)
from meterstream_aggregator.changes import Changes, UsageDelta
from meterstream_aggregator.items import Lines, kept_items, unique_amounts, unique_texts
from meterstream_aggregator.packing import RowSeries, one_of_each
from meterstream_aggregator.state import State
from meterstream_aggregator.values import column_amounts
from meterstream_aggregator.windows import closes_at, window_start
from meterstream_schemas.events import SCALE_MAX

_SCALES: Final = SCALE_MAX + 1
_EXTREMES: Final = {
    Aggregate.MIN: (2**63 - 1, np.minimum),
    Aggregate.MAX: (-(2**63), np.maximum),
}

AnyArray: TypeAlias = npt.NDArray[Any]


class Counted(NamedTuple):
    """The usage of a batch that is counted, and what bounds it.

    ``times`` is 1, or -1 where a row takes back; None where no row does.
    """

    batch: Batch
    times: Int64Array | None
    metering_since: int
    earliest: int
    """The earliest event time."""
    appended: int
    """The highest append time."""


class _Chosen(NamedTuple):
    """The rows that a meter counts, and what it takes from each."""

    rows: Int64Array
    quantity: Int64Array
    scale: Int64Array


def rows_by_type(batch: Batch, usage: BoolArray) -> dict[str, Int64Array]:
    """The rows in ``usage`` of each event type."""
    rows = np.flatnonzero(usage)
    if not len(rows):
        return {}
    codes = batch.type.codes[rows]
    order = np.argsort(codes.astype(np.uint16), kind="stable")
    counts = np.bincount(codes, minlength=len(batch.type.values))
    pieces = np.split(rows[order], np.cumsum(counts)[:-1])
    return dict(zip(batch.type.values, pieces, strict=True))


def count_usage(
    counted: Counted, rows: Int64Array, meter: Meter, state: State, changes: Changes
) -> None:
    """Add to the changes what rows of its type come to in a meter."""
    batch = counted.batch
    chosen = _chosen(batch, rows, meter)
    if not len(chosen.rows):
        return
    series = RowSeries(batch, chosen.rows, meter, state.names)
    lines = _Grouped(counted, chosen, series, meter)
    if not state.series.admit_all(lines.series, meter):
        series.admit(state)
        lines = _Grouped(counted, chosen, series, meter)
    times = None if counted.times is None else counted.times[chosen.rows]
    events = lines.events
    if times is not None:
        events = np.zeros_like(events)
        np.add.at(events, lines.line, times)
    if meter.aggregate is Aggregate.COUNT or meter.aggregate in KEPT:
        totals: AnyArray = np.zeros_like(events)
    else:
        totals = _totals(lines, chosen.quantity, times, meter.aggregate)
    changes.usage.extend(lines.deltas(events, totals))
    if meter.aggregate is Aggregate.TIME_WEIGHTED_CHANGES:
        inside = batch.time[chosen.rows] % meter.window
        factor = inside if times is None else inside * times
        moments = _totals(lines, chosen.quantity, factor, meter.aggregate)
        changes.usage.extend(lines.deltas(np.zeros_like(events), moments, scale_added=MOMENT))
    if meter.aggregate in KEPT:
        changes.items.update(kept_items(batch, lines.named(), meter, *chosen[1:]))


def _chosen(batch: Batch, rows: Int64Array, meter: Meter) -> _Chosen:
    if meter.since > 0:
        rows = rows[batch.time[rows] >= meter.since]
    if meter.until is not None:
        rows = rows[batch.time[rows] < meter.until]
    for condition in meter.where:
        rows = rows[holding(batch, condition)[rows]]
    if meter.aggregate is Aggregate.COUNT:
        nothing = np.zeros(len(rows), dtype=np.int64)
        return _Chosen(rows, nothing, nothing)
    if meter.aggregate is Aggregate.UNIQUE:
        rows = rows[unique_texts(batch, meter).codes[rows] >= 0]
        return _Chosen(rows, unique_amounts(batch, rows, meter), np.zeros_like(rows))
    if meter.value_attribute is None:
        return _Chosen(rows, batch.quantity[rows], batch.scale[rows])
    amounts = column_amounts(batch, meter.value_attribute)
    rows = rows[amounts.present[rows]]
    return _Chosen(rows, amounts.quantity[rows], amounts.scale[rows])


def holding(batch: Batch, condition: Condition) -> BoolArray:
    """The rows of a batch that fulfil a condition."""
    column = batch.attribute(condition.name)
    if condition.test is Test.EXISTS:
        return column.codes >= 0
    if condition.test is Test.ABSENT:
        return column.codes < 0
    hits = column.matching(frozenset(condition.values))
    return ~hits if condition.test is Test.NOT_IN else hits


class _Grouped:
    """Rows of one meter grouped by series, window, arrival and scale: row n is of ``line[n]``."""

    def __init__(self, counted: Counted, chosen: _Chosen, series: RowSeries, meter: Meter) -> None:
        self._rows = chosen.rows
        self._meter = meter
        window = counted.batch.time[chosen.rows] // meter.window
        packed = series.packed.copy()
        first = int(window.min())
        packed.add(window - first, int(window.max()) - first + 1)
        late = _arrivals(counted, chosen.rows, window, meter)
        if late is not None:
            packed.add(late.codes, len(late.values))
        scale = chosen.scale if meter.aggregate not in KEPT and chosen.scale.any() else None
        if scale is not None:
            packed.add(scale, _SCALES)
        order, begins = ordered(packed.codes)
        self.events = np.diff(begins, append=len(order))
        self.line = np.empty_like(order)
        self.line[order] = np.repeat(np.arange(len(begins)), self.events)
        one = order[begins]
        self._index = _numbered(series.packed.codes[one])
        self._start = window[one] * meter.window
        self._scale = np.zeros_like(one) if scale is None else scale[one]
        self._arrival = None if late is None else late.codes[one]
        self._arrivals = [0] if late is None else late.values
        self.series, self._numbered = series.named(one[one_of_each(self._index)])

    def deltas(
        self, events: Int64Array, totals: AnyArray, *, scale_added: int = 0
    ) -> Iterator[UsageDelta]:
        """What the lines add to usage rows: one delta per arrival, in order."""
        for code, arrival in enumerate(self._arrivals):
            of = slice(None) if self._arrival is None else np.flatnonzero(self._arrival == code)
            yield UsageDelta(
                meter=self._meter.name,
                aggregate=self._meter.aggregate,
                window=self._meter.window,
                series=self.series,
                index=self._index[of],
                start=self._start[of],
                scale=self._scale[of] + scale_added,
                events=events[of],
                quantity=totals[of],
                arrival=arrival,
                numbered=self._numbered,
            )

    def named(self) -> Lines:
        """The lines by name, for the items that they hold."""
        arrivals = self._arrivals
        arrival = np.zeros_like(self._index) if self._arrival is None else self._arrival
        return Lines(
            self._rows,
            self.line,
            [self.series[at] for at in self._index.tolist()],
            self._start.tolist(),
            [arrivals[code] for code in arrival.tolist()],
        )


def _numbered(series: Int64Array) -> Int64Array:
    """Numbers from 0 on in place of the lines' series, which mostly lie side by side.

    They do not where `Packed` had to name what it had together with windows.
    """
    if (series[1:] < series[:-1]).any():
        return distinct(series)[1]
    numbers = np.zeros_like(series)
    np.cumsum(series[1:] != series[:-1], out=numbers[1:])
    return numbers


class _Late(NamedTuple):
    """The arrival of every row: ``values[codes[n]]``; ``values`` ascend."""

    codes: Int64Array
    values: list[int]


def _arrivals(counted: Counted, rows: Int64Array, window: Int64Array, meter: Meter) -> _Late | None:
    """The rows' arrivals; None where all came in time, as is usual."""
    size, grace, since = meter.window, meter.grace, counted.metering_since
    if counted.appended < closes_at(window_start(counted.earliest, size), size, since, grace):
        return None
    appended = counted.batch.append_time[rows]
    closes = np.maximum((window + 1) * size + grace, closes_at(-size, size, since, grace))
    is_late = appended >= closes
    if not is_late.any():
        return None
    arrival = np.where(is_late, appended - (appended - grace) % size, 0)
    values, codes = np.unique(arrival, return_inverse=True)
    return _Late(codes, values.tolist())


def _totals(
    lines: _Grouped, quantity: Int64Array, factor: Int64Array | None, aggregate: Aggregate
) -> AnyArray:
    """The amounts of each line joined; Python integers where 64 bits may be too few."""
    if aggregate in EXTREMES:
        start, join = _EXTREMES[aggregate]
        extremes = np.full(len(lines.events), start)
        join.at(extremes, lines.line, quantity)
        return extremes
    largest = _largest(quantity) * (1 if factor is None else _largest(factor))
    wide = largest * int(lines.events.max()) >= 2**63
    amounts: AnyArray = quantity.astype(object) if wide else quantity
    if factor is not None:
        amounts = amounts * factor
    totals: AnyArray = np.zeros(len(lines.events), dtype=amounts.dtype)
    np.add.at(totals, lines.line, amounts)
    return totals


def _largest(values: Int64Array) -> int:
    return max(abs(int(values.max())), abs(int(values.min())))

"""Grouping a batch's usage by series, window and scale, through one packed 64-bit key.

Partition, tenant and group codes are packed into one small integer (the series of this batch), that
with the window's index and the scale into the key. One hash grouping over the keys gives the rows.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from meterstream_aggregator.batch import Batch, BoolArray, Codes, Int64Array, distinct
from meterstream_aggregator.catalogue import Aggregate, Meter
from meterstream_aggregator.changes import SeriesKey, UsageDelta, usage_delta
from meterstream_aggregator.fold import Rows, add_usage, joined
from meterstream_aggregator.values import column_amounts
from meterstream_schemas.events import SCALE_MAX

_SCALES: Final = SCALE_MAX + 1
_PACKED_MAX: Final = 2**62
_FUNCTIONS: Final = {Aggregate.MIN: "min", Aggregate.MAX: "max"}


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


def usage_of_meter(batch: Batch, rows: Int64Array, meter: Meter) -> UsageDelta | None:
    """What rows of its type add to a meter, or None where it keeps none of them."""
    for name, allowed in meter.where:
        rows = rows[batch.attribute(name).matching(frozenset(allowed))[rows]]
    amounts = (
        None if meter.value_attribute is None else column_amounts(batch, meter.value_attribute)
    )
    if meter.aggregate is Aggregate.COUNT:
        amounts = None
    if amounts is not None:
        rows = rows[amounts.present[rows]]
    if not len(rows):
        return None
    if meter.aggregate is Aggregate.COUNT:
        quantity = scale = np.zeros(len(rows), dtype=np.int64)
    elif amounts is not None:
        quantity, scale = amounts.quantity[rows], amounts.scale[rows]
    else:
        quantity, scale = batch.quantity[rows], batch.scale[rows]
    return _grouped(batch, rows, meter, quantity, scale)


def _grouped(
    batch: Batch, rows: Int64Array, meter: Meter, quantity: Int64Array, scale: Int64Array
) -> UsageDelta:
    groups = [_with_absent_as_empty(batch.attribute(name), rows) for name in meter.group_by]
    try:
        packed, widths = _pack(batch, rows, groups)
    except OverflowError:
        return _row_by_row(batch, rows, meter)
    index = batch.time[rows] // meter.window
    first = int(index.min())
    span = int(index.max()) - first + 1
    names: Int64Array | None = None
    if int(packed.max()) >= _PACKED_MAX // (span * _SCALES):
        names, packed = distinct(packed)
    key = (packed * span + (index - first)) * _SCALES + scale
    keys, events, totals = _aggregate(key, quantity, meter.aggregate)
    within = keys // _SCALES
    series, index_of = distinct(within // span)
    if names is not None:
        series = names[series]
    return UsageDelta(
        meter=meter.name,
        aggregate=meter.aggregate,
        window=meter.window,
        series=_series(batch, series, widths, groups, meter),
        index=index_of,
        start=(within % span + first) * meter.window,
        scale=keys % _SCALES,
        events=events,
        quantity=totals,
    )


def _row_by_row(batch: Batch, rows: Int64Array, meter: Meter) -> UsageDelta:
    """The same by the plain fold, for a batch with more distinct groups than 64 bits can pack."""
    totals: Rows = {}
    for partition, event in zip(batch.partition[rows].tolist(), batch.events(rows), strict=True):
        add_usage(totals, meter, partition, event)
    return usage_delta(meter.name, meter.aggregate, meter.window, totals)


def _with_absent_as_empty(column: Codes, rows: Int64Array) -> Codes:
    """These rows of a column, every one coded: an absent text is the empty text."""
    if "" in column.values:
        empty, values = column.values.index(""), column.values
    else:
        empty, values = len(column.values), [*column.values, ""]
    codes = column.codes[rows]
    return Codes(np.where(codes < 0, empty, codes), values)


def _pack(batch: Batch, rows: Int64Array, groups: list[Codes]) -> tuple[Int64Array, list[int]]:
    """One integer per row out of partition, tenant and groups, and the width of each part."""
    packed = batch.partition[rows] * len(batch.tenant.values) + batch.tenant.codes[rows]
    widths = [len(batch.tenant.values)]
    for group in groups:
        width = len(group.values)
        if int(packed.max()) >= _PACKED_MAX // width:
            raise OverflowError("too many distinct groups in one batch to pack into 64 bits")
        packed = packed * width + group.codes
        widths.append(width)
    return packed, widths


def _series(
    batch: Batch, packed: Int64Array, widths: list[int], groups: list[Codes], meter: Meter
) -> list[SeriesKey]:
    """The series that packed integers stand for."""
    parts: list[list[Any]] = []
    rest = packed
    for width, group in zip(reversed(widths[1:]), reversed(groups), strict=True):
        values = group.values
        parts.append([values[code] for code in (rest % width).tolist()])
        rest = rest // width
    tenants = batch.tenant.values
    tenant = [tenants[code] for code in (rest % widths[0]).tolist()]
    partition = (rest // widths[0]).tolist()
    group_values = list(zip(*reversed(parts), strict=True)) if parts else [()] * len(packed)
    name = meter.name
    return [
        SeriesKey(of_partition, of_tenant, name, group)
        for of_partition, of_tenant, group in zip(partition, tenant, group_values, strict=True)
    ]


def _aggregate(
    key: Int64Array, quantity: Int64Array, aggregate: Aggregate
) -> tuple[Int64Array, Int64Array, npt.NDArray[Any]]:
    """(distinct keys, events of each, joined quantity of each)."""
    function = _FUNCTIONS.get(aggregate, "sum")
    largest = max(abs(int(quantity.max())), abs(int(quantity.min())))
    if function == "sum" and largest * len(quantity) >= 2**63:
        return _aggregate_wide(key, quantity, aggregate)
    table = pa.table({"key": key, "quantity": quantity})
    grouped = table.group_by("key", use_threads=False).aggregate(
        [("quantity", "count"), ("quantity", function)]
    )
    return (
        grouped.column("key").to_numpy(),
        grouped.column("quantity_count").to_numpy(),
        grouped.column(f"quantity_{function}").to_numpy(),
    )


def _aggregate_wide(
    key: Int64Array, quantity: Int64Array, aggregate: Aggregate
) -> tuple[Int64Array, Int64Array, npt.NDArray[Any]]:
    """The same where a sum might not fit 64 bits: in Python integers."""
    totals: dict[int, tuple[int, int]] = {}
    for at, amount in zip(key.tolist(), quantity.tolist(), strict=True):
        known = totals.get(at)
        totals[at] = (
            (1, amount) if known is None else (known[0] + 1, joined(aggregate, known[1], amount))
        )
    return (
        np.array(list(totals), dtype=np.int64),
        np.array([events for events, _ in totals.values()], dtype=np.int64),
        np.array([amount for _, amount in totals.values()], dtype=object),
    )

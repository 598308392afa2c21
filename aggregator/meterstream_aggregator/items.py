"""Aggregates that keep single events: which item an event is, and which event stands for an item.

Of two events of one item the greater `Item` stands: by event time, then number, then position.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from meterstream_aggregator.batch import Batch, Codes, Int64Array, distinct
from meterstream_aggregator.catalogue import Aggregate, Meter
from meterstream_aggregator.changes import Item, ItemKey, SeriesKey
from meterstream_aggregator.refusals import REMOVE, text_of
from meterstream_schemas.events import MeterEvent


def item_name(event: MeterEvent, meter: Meter, start: int) -> str:
    """The item of its window that an event is: see `changes.ItemKey`."""
    if meter.aggregate is Aggregate.LATEST:
        return ""
    if meter.aggregate is Aggregate.TIME_WEIGHTED:
        return _moment_name(event.time - start)
    text = text_of(event, meter)
    assert text is not None, "an event without a text is not counted"
    return text


def unique_texts(batch: Batch, meter: Meter) -> Codes:
    """`refusals.text_of` of a whole batch."""
    name = meter.value_attribute
    if name is not None:
        return batch.attribute(name)
    encoded = batch.columns.column("subject").dictionary_encode()
    codes = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False)
    return Codes(codes.astype(np.int64), encoded.dictionary.to_pylist())


def unique_amounts(batch: Batch, rows: Int64Array, meter: Meter) -> Int64Array:
    """1 for the rows that add their text, 0 for those that take it out."""
    if meter.operation is None:
        return np.ones(len(rows), dtype=np.int64)
    removes = batch.attribute(meter.operation).matching(frozenset({REMOVE}))
    return (~removes[rows]).astype(np.int64)


class Lines(NamedTuple):
    """Rows of a batch, grouped by series, window and arrival: row n belongs to line ``line[n]``."""

    rows: Int64Array
    line: Int64Array
    series: list[SeriesKey]
    """Of each line, as the following two."""
    start: list[int]
    arrival: list[int]


def kept_items(
    batch: Batch, lines: Lines, meter: Meter, quantity: Int64Array, scale: Int64Array
) -> dict[ItemKey, Item]:
    """The events that stand for the items of these rows; amounts are those of the rows."""
    rows, line = lines.rows, lines.line
    texts: Codes | None = None
    if meter.aggregate is Aggregate.LATEST:
        of = line
    elif meter.aggregate is Aggregate.TIME_WEIGHTED:
        _, of = distinct(line * meter.window + batch.time[rows] % meter.window)
    else:
        texts = unique_texts(batch, meter)
        _, of = distinct(line * len(texts.values) + texts.codes[rows])
    stands = _greatest(batch, rows, of)
    rows, line = rows[stands], line[stands]
    if texts is not None:
        values = texts.values
        names = [values[code] for code in texts.codes[rows].tolist()]
    elif meter.aggregate is Aggregate.LATEST:
        names = [""] * len(rows)
    else:
        names = [_moment_name(inside) for inside in (batch.time[rows] % meter.window).tolist()]
    at = line.tolist()
    producers = batch.producer.values
    keys = zip(
        [lines.series[n] for n in at],
        [lines.start[n] for n in at],
        [lines.arrival[n] for n in at],
        names,
        strict=True,
    )
    items = zip(
        batch.time[rows].tolist(),
        batch.sequence[rows].tolist(),
        [producers[code] for code in batch.producer.codes[rows].tolist()],
        batch.offset[rows].tolist(),
        quantity[stands].tolist(),
        scale[stands].tolist(),
        strict=True,
    )
    return dict(zip(map(ItemKey._make, keys), map(Item._make, items), strict=True))


def _moment_name(inside: int) -> str:
    return f"{inside:010d}"


def _greatest(batch: Batch, rows: Int64Array, group: Int64Array) -> Int64Array:
    """Per group the position in ``rows`` of its greatest event."""
    groups = int(group.max()) + 1
    if groups == len(rows):
        return np.arange(len(rows))
    time = batch.time[rows]
    latest = np.full(groups, np.iinfo(np.int64).min)
    np.maximum.at(latest, group, time)
    found = np.flatnonzero(time == latest[group])
    if len(found) > groups:
        names = batch.producer.values
        rank = np.empty(len(names), dtype=np.int64)
        rank[sorted(range(len(names)), key=names.__getitem__)] = np.arange(len(names))
        tied = rows[found]
        order = np.lexsort(
            (
                batch.offset[tied],
                rank[batch.producer.codes[tied]],
                batch.sequence[tied],
                group[found],
            )
        )
        found = found[order]
        found = found[np.r_[group[found][1:] != group[found][:-1], True]]
    return found

"""The index of the log: which segments hold counted events of an hour, and of a producer.

Rows of one partition are in log order, so that a group's first row has its lowest offset.
"""

from __future__ import annotations

from typing import Any, Final, TypeVar

import numpy as np

from meterstream_aggregator.batch import Batch, BoolArray, Int64Array, LogRecord, distinct
from meterstream_aggregator.catalogue import HOUR
from meterstream_aggregator.changes import SEGMENT, Changes, Place, Presence, Span

_NARROW: Final = 2**16

_Spot = TypeVar("_Spot", Place, Presence)


def note_place(record: LogRecord, changes: Changes) -> None:
    """Note where the log has one counted event."""
    partition, offset, _, event = record
    segment = offset // SEGMENT
    _note(changes.places, Place(partition, event.time // HOUR, segment), offset)
    if event.producer:
        _note(changes.presences, Presence(partition, event.producer, segment), offset)


def note_places(batch: Batch, counted: BoolArray, changes: Changes) -> None:
    """Note where the log has the counted events of a batch."""
    rows = np.flatnonzero(counted)
    if not len(rows):
        return
    offset = batch.offset[rows]
    segments, segment = _narrowed(offset // SEGMENT)
    segment = batch.partition[rows] * len(segments) + segment
    hours, hour = _narrowed(batch.time[rows] // HOUR)
    for first, span in _spans(segment * len(hours) + hour, offset):
        row = rows[first]
        place = Place(
            int(batch.partition[row]), int(batch.time[row]) // HOUR, span.first // SEGMENT
        )
        changes.places[place] = span
    names = batch.producer.values
    code = batch.producer.codes[rows]
    for first, span in _spans(segment * len(names) + code, offset):
        if name := names[code[first]]:
            presence = Presence(int(batch.partition[rows[first]]), name, span.first // SEGMENT)
            changes.presences[presence] = span


def _note(spans: dict[_Spot, Span], spot: _Spot, offset: int) -> None:
    first, last, events = spans.get(spot, Span(offset, offset, 0))
    spans[spot] = Span(min(first, offset), max(last, offset), events + 1)


def _narrowed(values: Int64Array) -> tuple[Any, Int64Array]:
    """Small codes in place of values that lie close together, as hours and segments do."""
    least = int(values.min())
    width = int(values.max()) - least + 1
    if width < _NARROW:
        return range(width), values - least
    return distinct(values)


def _spans(group: Int64Array, offset: Int64Array) -> list[tuple[int, Span]]:
    """Per group its first row, and the span of its offsets. Groups hold offsets in order."""
    if int(group.max()) >= _NARROW:
        _, group = distinct(group)
    # Sixteen-bit integers are sorted in linear time.
    narrow = group.astype(np.uint16) if int(group.max()) < _NARROW else group
    order = np.argsort(narrow, kind="stable")
    held = narrow[order]
    begins = np.flatnonzero(np.r_[True, held[1:] != held[:-1]])
    ends = np.r_[begins[1:], len(order)]
    first, last = order[begins], order[ends - 1]
    return [
        (row, Span(low, high, events))
        for row, low, high, events in zip(
            first.tolist(),
            offset[first].tolist(),
            offset[last].tolist(),
            (ends - begins).tolist(),
            strict=True,
        )
    ]

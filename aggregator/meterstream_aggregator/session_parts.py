"""What sessions add to windows, as columns: many spans split at once, and equal rows made one.

Windows are counted from 0, not in microseconds. How many rows are held at a time does not depend on
how long the sessions last: spans are split some at a time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

import numpy as np

from meterstream_aggregator.batch import Int64Array, distinct
from meterstream_aggregator.packing import Packed, one_of_each

_PIECES_MAX: Final = 1_000_000
"""Pieces of spans that are held at a time, about."""


class Part(NamedTuple):
    """Rows by (place of the series, window, arrival): sessions started, and microseconds."""

    place: Int64Array
    window: Int64Array
    arrival: Int64Array
    events: Int64Array
    quantity: Int64Array


NOTHING: Final = Part(*(np.empty(0, dtype=np.int64) for _ in Part._fields))


def summed(
    place: Int64Array, window: Int64Array, arrival: Int64Array, quantity: Int64Array | None = None
) -> Part:
    """One row for each (place, window, arrival); without quantities each entry is an event."""
    line, one = _lines(place, window, arrival)
    counts = np.bincount(line, minlength=len(one))
    totals = np.zeros(len(one), dtype=np.int64)
    if quantity is not None:
        np.add.at(totals, line, quantity)
        counts = np.zeros_like(totals)
    return Part(place[one], window[one], arrival[one], counts, totals)


def joined(parts: Sequence[Part]) -> Part:
    """One row for each (place, window, arrival), none for what comes to nothing."""
    whole = Part(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))
    line, one = _lines(*whole[:3])
    events, quantity = np.zeros_like(one), np.zeros_like(one)
    np.add.at(events, line, whole.events)
    np.add.at(quantity, line, whole.quantity)
    return with_something(
        Part(whole.place[one], whole.window[one], whole.arrival[one], events, quantity)
    )


def with_something(part: Part) -> Part:
    """The rows that do not come to nothing."""
    some = (part.events != 0) | (part.quantity != 0)
    return part if some.all() else Part(*(column[some] for column in part))


def split_many(
    start: Int64Array, until: Int64Array, size: int
) -> Iterator[tuple[Int64Array, Int64Array, Int64Array]]:
    """Spans cut at window boundaries: (which span, window, microseconds inside), some at a time.

    The parts of a span add up to its length exactly; an empty one has none. See `windows.split`.
    """
    first = start // size
    pieces = np.where(until > start, (until - 1) // size - first + 1, 0)
    ends = np.cumsum(pieces)
    portion = ends // _PIECES_MAX
    for of in np.unique(portion).tolist():
        spans = np.flatnonzero((portion == of) & (pieces > 0))
        if not len(spans):
            continue
        many = pieces[spans]
        span = np.repeat(spans, many)
        window = first[span] + np.arange(len(span)) - np.repeat(np.cumsum(many) - many, many)
        inside = np.minimum(until[span], (window + 1) * size) - np.maximum(
            start[span], window * size
        )
        yield span, window, inside


def _lines(
    place: Int64Array, window: Int64Array, arrival: Int64Array
) -> tuple[Int64Array, Int64Array]:
    """The row of each entry, and for each row one entry."""
    if not len(place):
        return place, place
    packed = Packed(place, int(place.max()) + 1)
    least = int(window.min())
    packed.add(window - least, int(window.max()) - least + 1)
    if arrival.any():
        arrivals, code = distinct(arrival)
        packed.add(code, len(arrivals))
    _, line = distinct(packed.codes)
    return line, one_of_each(line)

"""Thresholds: which values of a meter are reached, when, and by which event. Pure."""

from __future__ import annotations

from typing import Final

from meterstream_aggregator.catalogue import DAY, Aggregate
from meterstream_aggregator.civil import InvalidQuestion
from meterstream_aggregator.periods import Every, Unit, parse_every

WATCHED: Final = frozenset({Aggregate.COUNT, Aggregate.SUM, Aggregate.MAX, Aggregate.SESSION})
"""Aggregates of which a threshold may be watched."""


def cut(every: str, anchor: int) -> Every:
    """How time is cut for a threshold. Raises `InvalidQuestion` where periods would need a start.

    Periods must be the same whoever asks: spans that divide a day, days, ISO weeks, months by an
    anchor, quarters and years.
    """
    found = parse_every(every, anchor_day=anchor)
    fixed = (
        (found.unit is Unit.SPAN and found.count < DAY and DAY % found.count == 0)
        or (found.unit in {Unit.DAY, Unit.WEEK, Unit.MONTH} and found.count == 1)
        or (found.unit is Unit.MONTH and found.aligned)
    )
    if not fixed:
        raise InvalidQuestion(
            "every",
            f"{every!r} has no first period that all agree on; "
            "write 15m, 1h, 6h, 1d, 1w, 1mo, 1q or 1y",
        )
    return found

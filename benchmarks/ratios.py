"""Small sums on what was measured: rates between two readings of a clock, ratios, percentiles."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple


class Mark(NamedTuple):
    """A reading on the way: records done, and the clocks at that moment."""

    records: int
    wall_seconds: float
    cpu_seconds: float


def rates(first: Mark, last: Mark) -> dict[str, Any]:
    """Events over wall clock and CPU between two marks."""
    events = last.records - first.records
    wall, cpu = last.wall_seconds - first.wall_seconds, last.cpu_seconds - first.cpu_seconds
    return {
        "events": events,
        "wall_seconds": round(wall, 3),
        "cpu_seconds": round(cpu, 3),
        "events_per_second": round(events / wall),
        "events_per_second_per_core": round(events / cpu),
    }


def from_mark(marks: Sequence[Mark], records: int) -> Mark:
    """The first mark with at least so many records, the last one when there is none."""
    return next((mark for mark in marks if mark.records >= records), marks[-1])


def ratios(
    runs: Mapping[str, Sequence[Mapping[str, Any]]], figure: str, base: str
) -> dict[str, float]:
    """Each one's figure by that of ``base`` in the same round; the median of all rounds.

    Empty when ``base`` was not measured.
    """
    if base not in runs:
        return {}
    return {
        name: median(
            result[figure] / bottom[figure]
            for result, bottom in zip(results, runs[base], strict=True)
        )
        for name, results in runs.items()
    }


def median(values: Iterable[float]) -> float:
    """To three places."""
    return round(statistics.median(values), 3)


def percentile(values: Sequence[float], percent: float) -> float:
    """The value that so many percent are at or below: one of the values, never between two."""
    ordered = sorted(values)
    below = -(-len(ordered) * percent // 100)
    return ordered[max(0, min(len(ordered), int(below)) - 1)]

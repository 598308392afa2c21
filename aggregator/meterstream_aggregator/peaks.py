"""Peak concurrency: the most sessions that ran at one time, exactly, from the sessions. Pure.

A session runs in [start, until): until its end, or what its meter billed it until when it gave it
up, or now. One that ends where another starts does not overlap it; one of no length never runs.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from meterstream_aggregator.answering import Scope
from meterstream_aggregator.catalogue import Meter
from meterstream_aggregator.questions import Groups, Question, Stretch
from meterstream_aggregator.running import AsOf, sessions_of
from meterstream_aggregator.sessions import group_of
from meterstream_aggregator.store.port import StoreReader
from meterstream_aggregator.store.told import SessionRow

Place = tuple[int, str | None, tuple[str, ...]]
"""A figure: the start of its period, tenant (None in totals), group."""


class Peak(NamedTuple):
    """The most sessions at one time, and when that was first so."""

    sessions: int
    at: int | None


def peaks_of(
    store: StoreReader, question: Question, *, scope: Scope, as_of: AsOf
) -> dict[Place, Peak]:
    """The peaks of a question about session meters, of figures in which any session ran."""
    found: dict[Place, Peak] = {}
    for stretch in question.stretches:
        runs: dict[Place, list[tuple[int, int]]] = {}
        for meter in stretch.meters:
            asked_group = Groups(question, meter)
            for row in _sessions(store, stretch, meter, scope):
                span = as_of.span_of(row, meter)
                group = group_of(span[0], row.attributes, meter) if span else None
                kept = None if group is None else asked_group[group]
                if span is None or kept is None:
                    continue
                tenant = None if question.total else row.tenant
                for start, low, high in _within(span, stretch, meter, row.tenant, scope):
                    runs.setdefault((start, tenant, kept), []).append((low, high))
        found.update((place, peak_of(spans)) for place, spans in runs.items())
    return found


def peak_of(runs: Iterable[tuple[int, int]]) -> Peak:
    """The peak of sessions that ran in [start, until) each."""
    steps = [step for low, high in runs if low < high for step in ((high, -1), (low, 1))]
    running, peak = 0, Peak(0, None)
    for at, step in sorted(steps):  # at one instant, those that end go first
        running += step
        if running > peak.sessions:
            peak = Peak(running, at)
    return peak


def _sessions(
    store: StoreReader, stretch: Stretch, meter: Meter, scope: Scope
) -> Iterator[SessionRow]:
    start, end = stretch.bounds[0], stretch.bounds[-1]
    if meter.until is not None and meter.until + meter.longest <= start:
        return
    for state in ("closed", "open"):
        yield from sessions_of(store, scope.tenants, meter.type, state, start=start, end=end)
    # One that was given up may be billed beyond its last sign of life, or run on under this meter.
    yield from sessions_of(
        store, scope.tenants, meter.type, "timed_out", start=start - meter.longest, end=end
    )


def _within(
    span: tuple[int, int], stretch: Stretch, meter: Meter, tenant: str, scope: Scope
) -> Iterator[tuple[int, int, int]]:
    """(period, start, end) of the parts of a session in the periods and spans asked for."""
    bounds, size = stretch.bounds, meter.window
    spans = ((0, span[1]),) if scope.spans is None else scope.spans.get(tenant, ())
    for since, upto in spans:
        # A window belongs to the span that holds its start.
        low = max(span[0], -(-since // size) * size)
        high = min(span[1], -(-upto // size) * size) if scope.spans is not None else span[1]
        first = max(bisect_right(bounds, low) - 1, 0)
        for index in range(first, min(bisect_left(bounds, high), len(bounds) - 1)):
            yield bounds[index], max(low, bounds[index]), min(high, bounds[index + 1])

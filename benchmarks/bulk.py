"""A store with as many usage rows as wanted, written by the store's own code, a day a commit.

One month of 15-minute windows, all of them used: a meter of sums in two groups and a meter of
counts, so three rows a window and tenant; the number of tenants follows from the number of rows. A
hundredth of the sums' rows also came late. There are producers, places and presences as if ten
events stood behind each row.
"""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np

from meterstream_aggregator.catalogue import DAY, HOUR, MINUTE, Catalogue, Meter
from meterstream_aggregator.catalogue_file import parse_catalogue
from meterstream_aggregator.changes import (
    SEGMENT,
    Changes,
    Place,
    Presence,
    SeriesKey,
    Span,
    UsageDelta,
)
from meterstream_aggregator.dedup import Int64Array, Numbers, ProducerKey
from meterstream_aggregator.store.port import Advance, TopicBinding
from meterstream_aggregator.store.sqlite import SqliteStore
from meterstream_aggregator.windows import arrival_of
from meterstream_schemas.events import LANES
from meterstream_schemas.placement import lane_of, partition_of

PARTITIONS: Final = 8
BEGINS: Final = 1_772_323_200_000_000
"""2026-03-01."""
DAYS: Final = 31
ENDS: Final = BEGINS + DAYS * DAY
SUMS, COUNTS = "llm.tokens", "api.requests"
CATALOGUE: Final = f"""
metering_since: 2026-03-01T00:00:00Z
meters:
  - {{name: {SUMS}, aggregate: sum, unit: token, group_by: [model], window: 15m}}
  - {{name: {COUNTS}, aggregate: count, unit: request, window: 15m}}
"""
_WINDOW: Final = 15 * MINUTE
_WINDOWS_PER_DAY: Final = DAY // _WINDOW
_GROUPS: Final[dict[str, list[tuple[str, ...]]]] = {SUMS: [("code",), ("chat",)], COUNTS: [()]}
_ROWS_PER_TENANT: Final = 3 * DAYS * _WINDOWS_PER_DAY
_EVENTS_PER_ROW: Final = 10
_LATE: Final = 100
"""One row of the sums in so many came late as well."""
_PRODUCERS: Final = [f"{number:032x}" for number in range(100)]


class Filled(NamedTuple):
    """What the store has."""

    tenants: list[str]
    rows: int


def fill(path: Path, rows: int) -> Filled:
    """Make the store, with about so many rows."""
    tenants = [f"tenant-{number:05}" for number in range(max(rows // _ROWS_PER_TENANT, 1))]
    catalogue = parse_catalogue(CATALOGUE)
    rng = np.random.default_rng(1)
    written = 0
    with closing(SqliteStore(path)) as store:
        store.bind(TopicBinding("meterstream.events", "bench", PARTITIONS), catalogue)
        epochs = {each: store.claim(each, "bench").epoch for each in range(PARTITIONS)}
        series = {meter.name: _series(meter, tenants) for meter in catalogue.meters}
        per_hour = _EVENTS_PER_ROW * rows // (DAYS * 24 * PARTITIONS)
        for day in range(DAYS):
            changes = _day(catalogue, series, BEGINS + day * DAY, rng)
            written += sum(len(delta.start) for delta in changes.usage)
            _index(changes, day, per_hour)
            if day == DAYS - 1:
                _number(changes, per_hour)
            store.commit([_advance(each, epochs[each], day, per_hour) for each in epochs], changes)
    return Filled(tenants, written)


def _series(meter: Meter, tenants: list[str]) -> list[SeriesKey]:
    return [
        SeriesKey(partition_of(lane_of(tenant), PARTITIONS), tenant, meter.name, group, version)
        for version in [meter.version]
        for tenant in tenants
        for group in _GROUPS[meter.name]
    ]


def _day(
    catalogue: Catalogue, series: dict[str, list[SeriesKey]], day: int, rng: np.random.Generator
) -> Changes:
    changes = Changes()
    windows = day + np.arange(_WINDOWS_PER_DAY, dtype=np.int64) * _WINDOW
    for meter in catalogue.meters:
        keys = series[meter.name]
        index = np.repeat(np.arange(len(keys), dtype=np.int64), len(windows))
        start = np.tile(windows, len(keys))
        changes.usage.append(_delta(meter, keys, index, start, rng))
        if meter.name == SUMS:
            late = np.flatnonzero(rng.random(len(index)) < 1 / _LATE)
            delta = _delta(meter, keys, index[late], start[late], rng)
            delta.arrival = arrival_of(day + 3 * DAY, meter.window, meter.grace)
            changes.usage.append(delta)
    return changes


def _delta(
    meter: Meter,
    keys: list[SeriesKey],
    index: Int64Array,
    start: Int64Array,
    rng: np.random.Generator,
) -> UsageDelta:
    rows = len(index)
    return UsageDelta(
        meter=meter.name,
        aggregate=meter.aggregate,
        window=meter.window,
        series=keys,
        index=index,
        start=start,
        scale=np.zeros(rows, dtype=np.int64),
        events=rng.integers(1, 2 * _EVENTS_PER_ROW, rows),
        quantity=rng.integers(0, 100_000, rows)
        if meter.name == SUMS
        else np.zeros(rows, dtype=np.int64),
    )


def _index(changes: Changes, day: int, per_hour: int) -> None:
    """Places and presences of a day: each hour's events lie one after the other."""
    for hour in range(day * 24, (day + 1) * 24):
        first, end = hour * per_hour, (hour + 1) * per_hour
        for segment in range(first // SEGMENT, (end - 1) // SEGMENT + 1):
            low, high = max(first, segment * SEGMENT), min(end, (segment + 1) * SEGMENT)
            span = Span(low, high - 1, high - low)
            for partition in range(PARTITIONS):
                changes.places[Place(partition, BEGINS // HOUR + hour, segment)] = span
                for name in _PRODUCERS:
                    few = span._replace(events=max(span.events // len(_PRODUCERS), 1))
                    key = Presence(partition, name, segment)
                    known = changes.presences.get(key, few._replace(events=0))
                    changes.presences[key] = Span(
                        min(known.first, few.first),
                        max(known.last, few.last),
                        known.events + few.events,
                    )


def _number(changes: Changes, per_hour: int) -> None:
    """What the partitions know of the producers at the end."""
    each = per_hour * 24 * DAYS // len(_PRODUCERS)
    for partition in range(PARTITIONS):
        lanes = [lane for lane in range(LANES) if partition_of(lane, PARTITIONS) == partition]
        for name in _PRODUCERS:
            numbers = Numbers(counted=each, last_append=ENDS)
            numbers.upto[lanes] = each // len(lanes)
            changes.numbers[ProducerKey(partition, name)] = numbers


def _advance(partition: int, epoch: int, day: int, per_hour: int) -> Advance:
    """A day further. At the last the log goes on for days, so that every window is closed."""
    last = day == DAYS - 1
    return Advance(
        partition=partition,
        epoch=epoch,
        previous=None if day == 0 else day * 24 * per_hour,
        first=day * 24 * per_hour,
        next_offset=(day + 1) * 24 * per_hour,
        appended=BEGINS + (day + (5 if last else 1)) * DAY,
        counted=24 * per_hour,
        duplicates=0,
        refused=0,
    )

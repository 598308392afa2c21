"""The rows that judged events make, held against those that the store has. Pure.

It is the plain way of counting, event by event, with the one rule that no event can tell taken from
the store: which groups of a tenant have a series of their own (`Frame.admitted`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from meterstream_aggregator.batch import LogRecord
from meterstream_aggregator.catalogue import (
    EXTREMES,
    KEPT,
    MOMENT,
    Aggregate,
    Catalogue,
    Condition,
    Meter,
)
from meterstream_aggregator.changes import OVERFLOW, Changes, Item
from meterstream_aggregator.evidence import Judged
from meterstream_aggregator.explain import in_groups
from meterstream_aggregator.items import item_name
from meterstream_aggregator.refusals import SESSION_KINDS, amount_of, counts
from meterstream_aggregator.session_fold import SessionFold
from meterstream_aggregator.state import Readings, State
from meterstream_aggregator.store.told import ItemRow, UsageRow
from meterstream_aggregator.windows import arrival_of, closes_at, window_start
from meterstream_schemas.quantity import Amount


class RowKey(NamedTuple):
    """A usage row: of which definition (`Meter.version`), group, window, arrival and scale."""

    version: str
    group: tuple[str, ...]
    start: int
    arrival: int
    scale: int


class KeptKey(NamedTuple):
    """An item likewise."""

    version: str
    group: tuple[str, ...]
    start: int
    arrival: int
    item: str


@dataclass(slots=True)
class Rows:
    """Usage rows as (events, quantity), and items; joined in their aggregate's way."""

    aggregate: Aggregate
    usage: dict[RowKey, tuple[int, int]] = field(default_factory=dict)
    items: dict[KeptKey, Item] = field(default_factory=dict)

    def add(self, key: RowKey, events: int, quantity: int) -> None:
        """Join a row to what is there."""
        known = self.usage.get(key)
        if known is not None and self.aggregate in EXTREMES:
            choose = min if self.aggregate is Aggregate.MIN else max
            quantity = choose(known[1], quantity)
        elif known is not None:
            quantity += known[1]
        self.usage[key] = (events + (known[0] if known is not None else 0), quantity)

    def keep(self, key: KeptKey, item: Item) -> None:
        """Join an item to what is there: the greater stands."""
        self.items[key] = max(item, self.items.get(key, item))

    def within(self, frame: Frame) -> Rows:
        """The rows of the groups that are asked for, without those that say nothing."""
        return Rows(
            self.aggregate,
            {k: row for k, row in self.usage.items() if any(row) and frame.asks_for(k)},
            {k: item for k, item in self.items.items() if frame.asks_for(k)},
        )


class Mismatch(NamedTuple):
    """A row or item that one side has otherwise, or not at all (None)."""

    key: RowKey | KeptKey
    store: tuple[int, int] | Item | None
    events: tuple[int, int] | Item | None


class Compared(NamedTuple):
    """Where rows are not the same; and how many windows' arrivals were not judged."""

    mismatches: list[Mismatch]
    unsplit: int


class Frame(NamedTuple):
    """Which rows: of these definitions of one meter, in windows that begin in [start, end).

    ``admitted`` are the (version, group) that have a series; other groups of a grouped definition
    are beyond the tenant's limit.
    """

    definitions: Sequence[Meter]
    start: int
    end: int
    metering_since: int
    admitted: frozenset[tuple[str, tuple[str, ...]]]
    where: tuple[Condition, ...] = ()

    @property
    def aggregate(self) -> Aggregate:
        """How the rows join: all definitions of one figure agree."""
        return self.definitions[-1].aggregate

    def asks_for(self, key: RowKey | KeptKey) -> bool:
        """Whether the group of a row is asked for."""
        names = next(m.group_by for m in self.definitions if m.version == key.version)
        return in_groups(names, key.group, self.where)

    def series(self, version: str, group: tuple[str, ...]) -> tuple[str, ...]:
        """The group that takes what has these values."""
        if not group or (version, group) in self.admitted:
            return group
        return (OVERFLOW,) * len(group)


def rows_of_events(judged: Iterable[Judged], frame: Frame) -> Rows:
    """The rows that usage events make."""
    found = Rows(frame.aggregate)
    for record, times, _, _ in judged:
        if not times or record.event.kind in SESSION_KINDS:
            continue
        for meter in frame.definitions:
            if meter.aggregate is Aggregate.SESSION or meter.type != record.event.type:
                continue
            start = window_start(record.event.time, meter.window)
            if frame.start <= start < frame.end and counts(record.event, meter):
                _add(found, record, times, meter, frame)
    return found.within(frame)


def _add(found: Rows, record: LogRecord, times: int, meter: Meter, frame: Frame) -> None:
    event = record.event
    start = window_start(event.time, meter.window)
    group = tuple([event.attributes.get(name, "") for name in meter.group_by])
    group = frame.series(meter.version, group)
    arrival = arrival_at(record.append_time, start, meter, frame.metering_since)
    amount = amount_of(event, meter)
    assert amount is not None, "it counts"
    if meter.aggregate in KEPT:
        item = Item(event.time, event.sequence, event.producer, record.offset, *amount)
        name = item_name(event, meter, start)
        found.keep(KeptKey(meter.version, group, start, arrival, name), item)
        amount = Amount(0, 0)
    row = RowKey(meter.version, group, start, arrival, amount.scale)
    found.add(row, times, amount.quantity * times)
    if meter.aggregate is Aggregate.TIME_WEIGHTED_CHANGES:
        moment = amount.quantity * (event.time - start) * times
        found.add(row._replace(scale=amount.scale + MOMENT), 0, moment)


def arrival_at(log_time: int, start: int, meter: Meter, metering_since: int) -> int:
    """The arrival of what the log had at ``log_time``, for a window that begins at ``start``."""
    if log_time < closes_at(start, meter.window, metering_since, meter.grace):
        return 0
    return arrival_of(log_time, meter.window, meter.grace)


def rows_of_sessions(
    judged: Iterable[Judged], catalogue: Catalogue, frame: Frame, appended: int
) -> Rows:
    """The rows that the sessions of these boundaries make, as of log time ``appended``."""
    boundaries = [
        record for record, times, _, _ in judged if times and record.event.kind in SESSION_KINDS
    ]
    partitions = {record.partition for record in boundaries}
    changes = Changes()
    state = State(
        before=dict.fromkeys(partitions, 0), after=dict.fromkeys(partitions, appended), numbers={}
    )
    readings = Readings(catalogue)
    for meter in readings.session_meters:
        # Which groups have a series the frame knows: it was decided by all of the log.
        state.series.begin(meter, ())
    fold = SessionFold(state, readings, changes)
    for record in boundaries:
        fold.observe(record)
    fold.finish()
    versions = {meter.version for meter in frame.definitions}
    found = Rows(frame.aggregate)
    for delta in changes.usage:
        for (series, start, arrival, scale), (events, quantity) in delta.rows().items():
            if series.version in versions and frame.start <= start < frame.end:
                group = frame.series(series.version, series.group)
                key = RowKey(series.version, group, start, arrival, scale)
                found.add(key, events, quantity)
    return found.within(frame)


def rows_of_store(
    aggregate: Aggregate,
    usage: Iterable[tuple[str, UsageRow]],
    items: Iterable[tuple[str, ItemRow]],
) -> Rows:
    """The store's rows of one tenant, each with the version of its definition."""
    found = Rows(aggregate)
    for version, row in usage:
        key = RowKey(version, row.group, row.start, row.arrival, row.scale)
        found.add(key, row.events, row.quantity)
    for version, item in items:
        kept = KeptKey(version, item.group, item.start, item.arrival, item.item)
        found.keep(kept, item.by)
    return found


def mismatches(store: Rows, events: Rows) -> list[Mismatch]:
    """Where the store's rows are not those that the events make; in the order of keys."""
    usage = [
        Mismatch(key, store.usage.get(key), events.usage.get(key))
        for key in sorted(store.usage.keys() | events.usage.keys())
        if store.usage.get(key) != events.usage.get(key)
    ]
    items = [
        Mismatch(kept, store.items.get(kept), events.items.get(kept))
        for kept in sorted(store.items.keys() | events.items.keys())
        if store.items.get(kept) != events.items.get(kept)
    ]
    return [*usage, *items]


def compared(store: Rows, events: Rows) -> Compared:
    """`mismatches`, but for arrivals of sessions that no boundary between the offsets tells of.

    A session that reached into a window until an earlier end came late has left rows there that add
    up to nothing, and reaches there no more. So of sessions, a (version, group, window) that is the
    same over all arrivals is taken for the same, and counted.
    """
    found = mismatches(store, events)
    if store.aggregate is not Aggregate.SESSION:
        return Compared(found, 0)
    left: dict[RowKey, tuple[int, int]] = {}
    for each in found:
        assert isinstance(each.key, RowKey), "sessions keep no items"
        whole = each.key._replace(arrival=0)
        is_, ought = store.usage.get(each.key, (0, 0)), events.usage.get(each.key, (0, 0))
        count, amount = left.get(whole, (0, 0))
        left[whole] = (count + is_[0] - ought[0], amount + is_[1] - ought[1])
    differ = {whole for whole, rest in left.items() if any(rest)}
    told = [each for each in found if each.key._replace(arrival=0) in differ]
    return Compared(told, len(left) - len(differ))

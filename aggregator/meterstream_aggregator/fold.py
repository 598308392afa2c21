"""The fold, plainly: one event at a time. The reference that the columnar fold must equal."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from meterstream_aggregator.batch import LogRecord
from meterstream_aggregator.catalogue import EXTREMES, KEPT, MOMENT, Aggregate, Meter
from meterstream_aggregator.changes import (
    Changes,
    Item,
    ItemKey,
    SeriesKey,
    UsageKey,
    usage_deltas,
)
from meterstream_aggregator.intake import Intake
from meterstream_aggregator.items import item_name
from meterstream_aggregator.places import note_place
from meterstream_aggregator.refusals import SESSION_KINDS, Reason, Refusal, amount_of, counts
from meterstream_aggregator.session_fold import SessionFold
from meterstream_aggregator.state import Readings, SeriesOwner, State
from meterstream_aggregator.subjects import too_early
from meterstream_aggregator.windows import arrival_in, window_start
from meterstream_schemas.quantity import Amount

Rows = dict[UsageKey, tuple[int, int]]
"""(events, quantity) of usage rows."""


def fold(records: Iterable[LogRecord], state: State, readings: Readings) -> Changes:
    """Fold records, in log order per partition, over what is known.

    Pure but for what changes in place: see `State`. ``state.before`` and ``state.after`` must have
    every partition of the records.
    """
    changes = Changes()
    intake = Intake(state, readings, changes, settled_by(readings))
    sessions = SessionFold(state, readings, changes)
    usage = UsageFold(state, readings, changes)
    for record in records:
        times = intake.accept(record)
        if not times:
            continue
        note_place(record, changes)
        if record.event.kind in SESSION_KINDS:
            sessions.observe(record)
        else:
            usage.add(record, times)
    usage.finish()
    sessions.finish()
    return changes


def settled_by(readings: Readings) -> Callable[[LogRecord], Refusal | None]:
    """What refuses a boundary without a session id that comes after its time was settled."""
    since = readings.catalogue.metering_since

    def settled(record: LogRecord) -> Refusal | None:
        if not too_early(record.event, record.append_time, since):
            return None
        return Refusal(
            Reason.SETTLED_SESSION,
            f"time: {record.event.time} µs lies too far before the log's time "
            f"{record.append_time} µs; send boundaries with their session's id to import history",
        )

    return settled


class UsageFold:
    """Counts a batch's usage events; `finish` writes the rows that they make."""

    def __init__(self, state: State, readings: Readings, changes: Changes) -> None:
        self._state = state
        self._readings = readings
        self._changes = changes
        self._rows: dict[str, Rows] = {}

    def add(self, record: LogRecord, times: int) -> None:
        """Count an event once, or take it back (``times`` -1), in every meter that reads it."""
        for meter in self._readings.usage[record.event.type]:
            if counts(record.event, meter):
                self._count(record, meter, times)

    def finish(self) -> None:
        """Write the rows."""
        for meter in self._readings.usage_meters:
            rows = self._rows.pop(meter.version, {})
            self._changes.usage.extend(usage_deltas(meter, rows))

    def _count(self, record: LogRecord, meter: Meter, times: int) -> None:
        event = record.event
        start = window_start(event.time, meter.window)
        series = self._series(record, meter)
        arrival = arrival_in(
            start,
            record.append_time,
            size=meter.window,
            metering_since=self._readings.catalogue.metering_since,
            grace=meter.grace,
        )
        amount = amount_of(event, meter)
        assert amount is not None, "what a meter counts has an amount"
        if meter.aggregate in KEPT:
            key = ItemKey(series, start, arrival, item_name(event, meter, start))
            item = Item(event.time, event.sequence, event.producer, record.offset, *amount)
            items = self._changes.items
            items[key] = max(item, items.get(key, item))
            amount = Amount(0, 0)
        quantity = times * amount.quantity
        self._join(meter, UsageKey(series, start, arrival, amount.scale), times, quantity)
        if meter.aggregate is Aggregate.TIME_WEIGHTED_CHANGES:
            moment = UsageKey(series, start, arrival, amount.scale + MOMENT)
            self._join(meter, moment, 0, quantity * (event.time - start))

    def _series(self, record: LogRecord, meter: Meter) -> SeriesKey:
        attributes, tenant = record.event.attributes, record.event.tenant
        group = tuple(attributes.get(name, "") for name in meter.group_by)
        if group:
            owner = SeriesOwner(record.partition, tenant, meter.version)
            group = self._state.admitted(owner, group, meter.series_per_tenant)
        return SeriesKey(record.partition, tenant, meter.name, group, meter.version)

    def _join(self, meter: Meter, key: UsageKey, events: int, quantity: int) -> None:
        rows = self._rows.setdefault(meter.version, {})
        known = rows.get(key)
        if known is None:
            rows[key] = (events, quantity)
        else:
            rows[key] = (known[0] + events, joined(meter.aggregate, known[1], quantity))


def joined(aggregate: Aggregate, left: int, right: int) -> int:
    """Two amounts of one scale as one, in the meter's way."""
    if aggregate not in EXTREMES:
        return left + right
    return min(left, right) if aggregate is Aggregate.MIN else max(left, right)

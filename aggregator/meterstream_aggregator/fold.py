"""The fold, plainly: one event at a time. The reference that the columnar fold must equal."""

from __future__ import annotations

from collections.abc import Iterable

from meterstream_aggregator.batch import LogRecord
from meterstream_aggregator.catalogue import Aggregate, Meter
from meterstream_aggregator.changes import Changes, SeriesKey, UsageKey, usage_delta
from meterstream_aggregator.intake import Intake
from meterstream_aggregator.refusals import amount_of
from meterstream_aggregator.session_fold import SessionFold
from meterstream_aggregator.state import Readings, State
from meterstream_aggregator.windows import window_start
from meterstream_schemas.events import EventKind, MeterEvent

Rows = dict[UsageKey, tuple[int, int]]
"""(events, quantity) of usage rows."""


def fold(records: Iterable[LogRecord], state: State, readings: Readings) -> Changes:
    """Fold records, in log order per partition, over what is known. Pure but for ``state.numbers``.

    ``state.before`` and ``state.after`` must have every partition of the records.
    """
    changes = Changes()
    intake = Intake(state, readings, changes)
    sessions = SessionFold(state, readings)
    rows: dict[str, Rows] = {}
    for record in records:
        if not intake.accept(record):
            continue
        if record.event.kind is not EventKind.USAGE:
            sessions.observe(record)
            continue
        for meter in readings.usage[record.event.type]:
            add_usage(rows.setdefault(meter.name, {}), meter, record.partition, record.event)
    for meter in readings.usage_meters:
        if rows.get(meter.name):
            changes.usage.append(
                usage_delta(meter.name, meter.aggregate, meter.window, rows[meter.name])
            )
    sessions.finish(changes)
    return changes


def add_usage(rows: Rows, meter: Meter, partition: int, event: MeterEvent) -> None:
    """Add one event to the rows of one meter, if the meter's filter keeps it and it has a value."""
    attributes = event.attributes
    if any(attributes.get(name, "") not in allowed for name, allowed in meter.where):
        return
    group = tuple(attributes.get(name, "") for name in meter.group_by)
    series = SeriesKey(partition, event.tenant, meter.name, group)
    start = window_start(event.time, meter.window)
    if meter.aggregate is Aggregate.COUNT:
        key = UsageKey(series, start, 0)
        rows[key] = (rows.get(key, (0, 0))[0] + 1, 0)
        return
    amount = amount_of(event, meter)
    if amount is None:
        return
    key = UsageKey(series, start, amount.scale)
    known = rows.get(key)
    if known is None:
        rows[key] = (1, amount.quantity)
        return
    rows[key] = (known[0] + 1, joined(meter.aggregate, known[1], amount.quantity))


def joined(aggregate: Aggregate, left: int, right: int) -> int:
    """Two amounts of one scale as one, in the meter's way."""
    if aggregate is Aggregate.MIN:
        return min(left, right)
    if aggregate is Aggregate.MAX:
        return max(left, right)
    return left + right

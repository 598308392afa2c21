"""The fold by columns: what `fold.fold` does, in whole-batch operations. Equal to it, always.

1. Masks find the few rows that may be refused; `refusal` decides about each of them.
2. Numbers are compared run by run: see `lanes`.
3. Refused, repeated and keyed rows, marks and boundaries without a session id go through `Intake`
   in log order; the others are counted.
4. Usage is counted by columns: see `grouping`. So are sessions that tell a plain story: see
   `plain_sessions`; the boundaries of all others go through `SessionFold`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

import numpy as np

from meterstream_aggregator.batch import (
    KIND_CODES,
    KINDS,
    MARK_CODE,
    USAGE_CODE,
    Batch,
    BoolArray,
    Int64Array,
    LogRecord,
)
from meterstream_aggregator.catalogue import FUTURE_MAX, Aggregate, Meter
from meterstream_aggregator.changes import Changes
from meterstream_aggregator.dedup import ProducerKey
from meterstream_aggregator.fold import settled_by
from meterstream_aggregator.grouping import Counted, count_usage, rows_by_type
from meterstream_aggregator.intake import Intake
from meterstream_aggregator.lanes import Taken, owners_of, take_numbers
from meterstream_aggregator.places import note_places
from meterstream_aggregator.plain_sessions import fold_plain_sessions
from meterstream_aggregator.refusals import (
    SESSION_KINDS,
    Reason,
    Refusal,
    is_producer,
    refusal,
)
from meterstream_aggregator.session_fold import SessionFold
from meterstream_aggregator.state import Readings, State
from meterstream_aggregator.values import column_amounts
from meterstream_schemas.checks import check_text
from meterstream_schemas.errors import InvalidEvent
from meterstream_schemas.events import (
    LANES,
    SCALE_MAX,
    TENANT_BYTES_MAX,
    TIME_MAX_MICROSECONDS,
    EventKind,
)

_ID_SURE: Final = 64
"""Characters of a session id that is surely not too long, if they are plain."""


def fold_columns(batch: Batch, state: State, readings: Readings) -> Changes:
    """Fold a batch over what is known. The same result as `fold.fold` over its records."""
    changes = Changes()
    refused = refusals_of(batch, readings)
    unread = _rows_of(batch, [row for row, why in refused.items() if _hides_identity(why)])
    marks = (batch.kind == MARK_CODE) & ~unread
    numbered = _texts_that(batch.producer.values, bool)[batch.producer.codes] & ~unread & ~marks
    taken = take_numbers(batch, numbered, marks, state, changes)
    refused.update(taken.refused)
    session = _of_kinds(batch, SESSION_KINDS)
    rare = (numbered & ~taken.fresh) | marks | batch.has_key() | _rows_of(batch, list(refused))
    rare |= session & batch.columns.column("session").is_null().to_numpy(zero_copy_only=False)
    plain = ~rare
    _tally_plain_rows(batch, plain, numbered, state, changes)
    intake = Intake(state, readings, changes, settled_by(readings))
    times = plain.astype(np.int64)
    _judge_rare_rows(batch, rare, times, intake, state, taken=taken, refused=refused)
    changes.times = times
    note_places(batch, times != 0, changes)
    _count_usage(batch, times * ~session, state, readings, changes)
    sessions = SessionFold(state, readings, changes)
    told = np.flatnonzero(session & (times != 0))
    rest = fold_plain_sessions(batch, told, state, sessions.types, changes)
    for record in _records(batch, rest):
        sessions.observe(record)
    sessions.finish()
    return changes


def _count_usage(
    batch: Batch, times: Int64Array, state: State, readings: Readings, changes: Changes
) -> None:
    usage = times != 0
    of_type = rows_by_type(batch, usage)
    if not of_type:
        return
    counted = Counted(
        batch=batch,
        times=times if int(times.min()) < 0 else None,
        metering_since=readings.catalogue.metering_since,
        earliest=int(batch.time[usage].min()),
        appended=int(batch.append_time[usage].max()),
    )
    for meter in readings.usage_meters:
        rows = of_type.get(meter.type)
        if rows is not None and len(rows):
            count_usage(counted, rows, meter, state, changes)


def refusals_of(batch: Batch, readings: Readings) -> dict[int, Refusal]:
    """The rows that break a rule, and which."""
    rows = np.flatnonzero(_suspects(batch, readings))
    found: dict[int, Refusal] = {}
    for row, record in zip(rows.tolist(), _records(batch, rows), strict=True):
        problem = refusal(record.event, record.append_time, readings.catalogue)
        if problem is not None:
            found[row] = problem
    return found


def _suspects(batch: Batch, readings: Readings) -> BoolArray:
    """Rows that break a rule, and perhaps some that do not."""
    usage = batch.kind == USAGE_CODE
    session = _of_kinds(batch, SESSION_KINDS)
    clean = _texts_that(batch.tenant.values, _is_clean_tenant)
    named = _texts_that(batch.producer.values, is_producer)
    suspects: BoolArray = ~(usage & _read(batch, readings.usage_spans))
    suspects &= ~(session & _read(batch, readings.session_spans))
    suspects |= ~clean[batch.tenant.codes] | ~named[batch.producer.codes]
    suspects |= (batch.lane < 0) | (batch.lane >= LANES) | (batch.sequence < 1)
    suspects |= (batch.time < max(readings.catalogue.accept_from, 0)) | (
        batch.time >= TIME_MAX_MICROSECONDS
    )
    suspects |= batch.time > batch.append_time + FUTURE_MAX
    suspects |= usage & ((batch.scale < 0) | (batch.scale > SCALE_MAX))
    suspects |= session & ~_session_ids_fit(batch, session)
    suspects |= batch.has_key()
    for name in {meter.value_attribute for meter in readings.usage_meters if _reads_amount(meter)}:
        if name is not None:
            suspects |= usage & column_amounts(batch, name).unreadable
    return suspects


def _reads_amount(meter: Meter) -> bool:
    return meter.aggregate is not Aggregate.COUNT and meter.aggregate is not Aggregate.UNIQUE


def _read(batch: Batch, spans: Mapping[str, Sequence[tuple[int, int]]]) -> BoolArray:
    """Rows of a type and time that some definition reads; False for a type with gaps in time."""
    none = ((TIME_MAX_MICROSECONDS, 0),)
    told = [spans.get(name, none) for name in batch.type.values]
    whole = np.array([span[0] if len(span) == 1 else none[0] for span in told] or none)
    since, until = whole.T
    codes = batch.type.codes
    if ((since == 0) & (until == TIME_MAX_MICROSECONDS) | (until == 0)).all():
        read: BoolArray = (until > 0)[codes]
    else:
        read = (since[codes] <= batch.time) & (batch.time < until[codes])
    return read


def _is_clean_tenant(tenant: str) -> bool:
    try:
        check_text(tenant, field="tenant", bytes_max=TENANT_BYTES_MAX)
    except InvalidEvent:
        return False
    return True


def _session_ids_fit(batch: Batch, session: BoolArray) -> BoolArray:
    """True for rows whose session id needs no closer look."""
    ids = batch.sessions()
    sizes = list(map(len, ids.values)) or [1]
    if min(sizes) > 0 and max(sizes) <= _ID_SURE and _is_ascii("".join(ids.values)):
        return session & (ids.codes >= 0)
    fit = [0 < len(text) <= _ID_SURE and _is_ascii(text) for text in ids.values]
    return np.array([*fit, False])[ids.codes] & session


def _is_ascii(text: str) -> bool:
    return text.isascii() and text.isprintable()


def _judge_rare_rows(
    batch: Batch,
    rare: BoolArray,
    times: Int64Array,
    intake: Intake,
    state: State,
    *,
    taken: Taken,
    refused: dict[int, Refusal],
) -> None:
    """Let the judge see, in log order, every row that is not plainly new; note its answers."""
    rows = np.flatnonzero(rare)
    for row, record in zip(rows.tolist(), _records(batch, rows), strict=True):
        why, event = refused.get(row), record.event
        if why is not None and _hides_identity(why):
            intake.refuse(record, why, None)
        elif event.kind is EventKind.MARK:
            intake.mark(record)
        elif taken.left[row]:
            times[row] = intake.accept(record)
        elif event.producer:
            numbers = state.numbers[ProducerKey(record.partition, event.producer)]
            times[row] = intake.judge(record, why, numbers, fresh=bool(taken.fresh[row]))
        else:
            times[row] = intake.judge(record, why, None, fresh=True)


def _tally_plain_rows(
    batch: Batch, plain: BoolArray, numbered: BoolArray, state: State, changes: Changes
) -> None:
    """Count the rows that no judge sees, for their partitions and producers."""
    for partition, events in enumerate(np.bincount(batch.partition[plain]).tolist()):
        if events:
            changes.tally(partition).counted += events
    rows = np.flatnonzero(plain & numbered)
    if len(rows):
        owners, owner = owners_of(batch, rows)
        events_of = np.bincount(owner, minlength=len(owners)).tolist()
        for key, events in zip(owners, events_of, strict=True):
            state.numbers[key].counted += events


def _records(batch: Batch, rows: Int64Array) -> list[LogRecord]:
    """The plain records of these rows."""
    if not len(rows):
        return []
    return [
        LogRecord(partition, offset, append_time, event)
        for partition, offset, append_time, event in zip(
            batch.partition[rows].tolist(),
            batch.offset[rows].tolist(),
            batch.append_time[rows].tolist(),
            batch.events(rows),
            strict=True,
        )
    ]


def _rows_of(batch: Batch, rows: list[int]) -> BoolArray:
    mask = np.zeros(len(batch), dtype=np.bool_)
    mask[rows] = True
    return mask


def _texts_that(values: list[str], fact: Callable[[str], bool]) -> BoolArray:
    return np.array([fact(value) for value in values], dtype=np.bool_)


def _of_kinds(batch: Batch, kinds: Iterable[EventKind]) -> BoolArray:
    return np.isin(np.arange(len(KINDS)), [KIND_CODES[kind] for kind in kinds])[batch.kind]


def _hides_identity(why: Refusal) -> bool:
    return why.reason is Reason.INVALID_IDENTITY

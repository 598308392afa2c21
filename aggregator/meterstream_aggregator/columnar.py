"""The fold by columns: what `fold.fold` does, in whole-batch operations. Equal to it, always.

1. Masks find the few rows that may be refused; `refusal` decides about each of them.
2. Numbers are compared run by run (one run = one producer's lane in this batch); only lanes whose
   numbers do not simply continue are walked one by one.
3. Refused, repeated and keyed rows go through `Intake.judge` in log order; the others are counted.
4. Session boundaries go through `SessionFold`; usage is grouped by one packed integer key.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from meterstream_aggregator.batch import (
    KIND_CODES,
    MARK_CODE,
    USAGE_CODE,
    Batch,
    BoolArray,
    Int64Array,
    LogRecord,
    distinct,
)
from meterstream_aggregator.catalogue import FUTURE_MAX
from meterstream_aggregator.changes import Changes
from meterstream_aggregator.dedup import Numbers, ProducerKey, TooManyHoles
from meterstream_aggregator.grouping import rows_by_type, usage_of_meter
from meterstream_aggregator.intake import Intake
from meterstream_aggregator.refusals import Reason, Refusal, is_producer, refusal
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


def fold_columns(batch: Batch, state: State, readings: Readings) -> Changes:
    """Fold a batch over what is known. The same result as `fold.fold` over its records."""
    changes = Changes()
    refused = _refusals(batch, readings)
    unread = _rows_of(batch, [row for row, why in refused.items() if _hides_identity(why)])
    marks = (batch.kind == MARK_CODE) & ~unread
    numbered = _texts_that(batch.producer.values, bool)[batch.producer.codes] & ~unread & ~marks
    fresh = _take_numbers(batch, numbered, state, changes, refused)
    rare = (numbered & ~fresh) | marks | batch.has_key() | _rows_of(batch, list(refused))
    plain = ~rare
    _tally_plain_rows(batch, plain, numbered, state, changes)
    intake = Intake(state, readings, changes)
    counted = plain | _judge_rare_rows(
        batch, rare, intake, state, fresh=fresh, numbered=numbered, refused=refused
    )
    is_usage = batch.kind == USAGE_CODE
    sessions = SessionFold(state, readings)
    for record in _records(batch, np.flatnonzero(counted & ~is_usage)):
        sessions.observe(record)
    of_type = rows_by_type(batch, counted & is_usage)
    for meter in readings.usage_meters:
        rows = of_type.get(meter.type)
        delta = None if rows is None else usage_of_meter(batch, rows, meter)
        if delta is not None:
            changes.usage.append(delta)
    sessions.finish(changes)
    return changes


def _refusals(batch: Batch, readings: Readings) -> dict[int, Refusal]:
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
    session = (
        (batch.kind == KIND_CODES[EventKind.SESSION_START])
        | (batch.kind == KIND_CODES[EventKind.SESSION_END])
        | (batch.kind == KIND_CODES[EventKind.SESSION_HEARTBEAT])
    )
    metered = _texts_that(batch.type.values, lambda name: bool(readings.usage.get(name)))
    in_session = _texts_that(batch.type.values, lambda name: bool(readings.sessions.get(name)))
    clean = _texts_that(batch.tenant.values, _is_clean_tenant)
    named = _texts_that(batch.producer.values, is_producer)
    suspects: BoolArray = ~(usage & metered[batch.type.codes]) & ~(
        session & in_session[batch.type.codes]
    )
    suspects |= ~clean[batch.tenant.codes] | ~named[batch.producer.codes]
    suspects |= (batch.lane < 0) | (batch.lane >= LANES) | (batch.sequence < 1)
    suspects |= (batch.time < max(readings.catalogue.metering_since, 0)) | (
        batch.time >= TIME_MAX_MICROSECONDS
    )
    suspects |= batch.time > batch.append_time + FUTURE_MAX
    suspects |= usage & ((batch.scale < 0) | (batch.scale > SCALE_MAX))
    suspects |= session & ~_session_ids_fit(batch, session)
    suspects |= batch.has_key()
    for name in {meter.value_attribute for meters in readings.usage.values() for meter in meters}:
        if name is not None:
            suspects |= usage & column_amounts(batch, name).unreadable
    return suspects


def _is_clean_tenant(tenant: str) -> bool:
    try:
        check_text(tenant, field="tenant", bytes_max=TENANT_BYTES_MAX)
    except InvalidEvent:
        return False
    return True


def _session_ids_fit(batch: Batch, session: BoolArray) -> BoolArray:
    """True for rows whose session id needs no closer look."""
    fits = np.zeros(len(batch), dtype=np.bool_)
    rows = np.flatnonzero(session)
    ids = batch.columns.column("session").take(rows).to_pylist()
    fits[rows] = [
        text is not None and 0 < len(text) <= 64 and text.isascii() and text.isprintable()
        for text in ids
    ]
    return fits


def _take_numbers(
    batch: Batch,
    numbered: BoolArray,
    state: State,
    changes: Changes,
    refused: dict[int, Refusal],
) -> BoolArray:
    """Note the numbers of all numbered rows; True where a number was new."""
    fresh = np.zeros(len(batch), dtype=np.bool_)
    rows = np.flatnonzero(numbered)
    if not len(rows):
        return fresh
    owners, owner = _owners(batch, rows)
    states = [state.numbers_of(key) for key in owners]
    upto = np.stack([numbers.upto for numbers in states])
    last_append = _highest(batch.append_time[rows], owner, len(owners))
    run_lane, run = distinct(owner * LANES + batch.lane[rows])
    order = np.argsort(_narrowed(run, len(run_lane)), kind="stable")
    sorted_run, number = run[order], batch.sequence[rows][order]
    begins = np.flatnonzero(np.r_[True, sorted_run[1:] != sorted_run[:-1]])
    run_lane = run_lane[sorted_run[begins]]
    expected = np.empty_like(number)
    expected[1:] = number[:-1] + 1
    expected[begins] = upto.reshape(-1)[run_lane] + 1
    continues = np.logical_and.reduceat(number == expected, begins)
    for at, numbers in enumerate(states):
        if numbers.beyond:
            holed = at * LANES + np.fromiter(numbers.beyond, dtype=np.int64)
            continues &= ~np.isin(run_lane, holed)
    ends = np.r_[begins[1:], len(number)]
    upto.reshape(-1)[run_lane[continues]] = number[ends[continues] - 1]
    for at, numbers in enumerate(states):
        numbers.upto[:] = upto[at]
        numbers.last_append = max(numbers.last_append, last_append[at])
        changes.numbers[owners[at]] = numbers
    fresh[rows[order[np.repeat(continues, ends - begins)]]] = True
    for at in np.flatnonzero(~continues).tolist():
        span = slice(begins[at], ends[at])
        owner_at, lane = divmod(int(run_lane[at]), LANES)
        numbers = states[owner_at]
        _walk(rows[order[span]], number[span], numbers, lane=lane, fresh=fresh, refused=refused)
    return fresh


def _highest(values: Int64Array, group: Int64Array, groups: int) -> list[int]:
    """The highest value of each group."""
    highest = np.full(groups, np.iinfo(np.int64).min)
    np.maximum.at(highest, group, values)
    return [int(value) for value in highest]


def _narrowed(codes: Int64Array, distinct_codes: int) -> npt.NDArray[Any]:
    """Codes in the narrowest type: numpy sorts 16-bit integers in linear time."""
    return codes.astype(np.uint16) if distinct_codes <= 2**16 else codes


def _walk(
    rows: Int64Array,
    sequence: Int64Array,
    numbers: Numbers,
    *,
    lane: int,
    fresh: BoolArray,
    refused: dict[int, Refusal],
) -> None:
    """Take the numbers of one lane one by one."""
    for row, number in zip(rows.tolist(), sequence.tolist(), strict=True):
        try:
            fresh[row] = numbers.take(lane, number)
        except TooManyHoles as problem:
            refused[row] = Refusal(Reason.INVALID_IDENTITY, str(problem))


def _judge_rare_rows(
    batch: Batch,
    rare: BoolArray,
    intake: Intake,
    state: State,
    *,
    fresh: BoolArray,
    numbered: BoolArray,
    refused: dict[int, Refusal],
) -> BoolArray:
    """Let the judge see, in log order, every row that is not plainly new; True = counted."""
    counted = np.zeros(len(batch), dtype=np.bool_)
    rows = np.flatnonzero(rare)
    for row, record in zip(rows.tolist(), _records(batch, rows), strict=True):
        why = refused.get(row)
        if why is not None and _hides_identity(why):
            intake.refuse(record, why, None)
        elif record.event.kind is EventKind.MARK:
            intake.mark(record)
        elif numbered[row]:
            numbers = state.numbers[ProducerKey(record.partition, record.event.producer)]
            counted[row] = intake.judge(record, why, numbers, fresh=bool(fresh[row]))
        else:
            counted[row] = intake.judge(record, why, None, fresh=True)
    return counted


def _tally_plain_rows(
    batch: Batch, plain: BoolArray, numbered: BoolArray, state: State, changes: Changes
) -> None:
    """Count the rows that no judge sees, for their partitions and producers."""
    for partition, events in enumerate(np.bincount(batch.partition[plain]).tolist()):
        if events:
            changes.tally(partition).counted += events
    rows = np.flatnonzero(plain & numbered)
    if len(rows):
        owners, owner = _owners(batch, rows)
        events_of = np.bincount(owner, minlength=len(owners)).tolist()
        for key, events in zip(owners, events_of, strict=True):
            state.numbers[key].counted += events


def _owners(batch: Batch, rows: Int64Array) -> tuple[list[ProducerKey], Int64Array]:
    """The (partition, producer) pairs of these rows, and which one each row has."""
    width = len(batch.producer.values)
    pairs, owner = distinct(batch.partition[rows] * width + batch.producer.codes[rows])
    names = batch.producer.values
    keys = [ProducerKey(pair // width, names[pair % width]) for pair in pairs.tolist()]
    return keys, owner


def _records(batch: Batch, rows: Int64Array) -> list[LogRecord]:
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


def _hides_identity(why: Refusal) -> bool:
    return why.reason is Reason.INVALID_IDENTITY

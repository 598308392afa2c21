"""Sessions whose records tell a plain story, folded by columns: what `session_fold` would do.

A batch's records of one session are a plain story when there is nothing to decide about:

* nothing was known of it and there is one start; or it is known by one start and no end, no time is
  up for it, and there is none;
* there is at most one end; it can be one (not before the start, and no further from it than
  sessions of the type may last);
* no meter of the type gives it up before the log time that the batch reaches;
* no meter of the type is watched by a threshold, and each has room for any group values.

Heartbeats there may be, and any order. Then the start is counted as of its own log time, the time
between start and end is added as of that of the later of the two, and nothing is ever taken back.
The records of all other sessions are left to `session_fold`, one by one.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
import pyarrow as pa

from meterstream_aggregator.batch import (
    KIND_CODES,
    Batch,
    BoolArray,
    Int64Array,
    distinct,
    distinct_maps,
)
from meterstream_aggregator.changes import Changes, SessionColumns
from meterstream_aggregator.grouping import holding
from meterstream_aggregator.packing import Packed, RowSeries, one_of_each
from meterstream_aggregator.session_usage import SessionUsage, TypeReading, TypeReadings
from meterstream_aggregator.sessions import Session, SessionKey, attributes_text, group_of
from meterstream_aggregator.state import State
from meterstream_schemas.events import EventKind

_START: Final = KIND_CODES[EventKind.SESSION_START]
_END: Final = KIND_CODES[EventKind.SESSION_END]
ROWS_MIN = 256
"""Fewer boundaries than this cost less one by one. Tests fold any number by columns."""
_NEVER: Final = 2**61
_NONE: Final = -1


def fold_plain_sessions(
    batch: Batch, rows: Int64Array, state: State, types: TypeReadings, changes: Changes
) -> Int64Array:
    """Fold the plain stories among boundaries and heartbeats that count; the rows of the others."""
    if len(rows) < max(ROWS_MIN, 1):
        return rows
    rest = batch.sessions().codes[rows] < 0
    told = rows[~rest]
    if not len(told):
        return rows
    stories = _Stories(batch, told, types, state)
    plain = np.flatnonzero(stories.plain)
    if not len(plain):
        return rows
    rest[~rest] = ~stories.plain[stories.group]
    for name, groups in stories.by_type(plain):
        for usage in types[name].usages:
            stories.charge(usage, groups)
    changes.session_columns.append(stories.columns(plain))
    return rows[rest]


class _Stories:
    """What the rows tell of each session: arrays over sessions, and of the rows whose they are.

    ``opened`` and ``ended`` are rows of the batch, -1 where it has none; ``start`` is known of all
    that are plain, ``end`` is -1 where there is none.
    """

    def __init__(self, batch: Batch, rows: Int64Array, types: TypeReadings, state: State) -> None:
        self._batch = batch
        self._state = state
        self._types = types
        self.group = _grouped(batch, rows)
        self._first = rows[one_of_each(self.group)]
        sessions = len(self._first)
        kind = batch.kind[rows]
        starts, self._opened = _rows_of(rows, self.group, kind == _START, sessions)
        ends, self._ended = _rows_of(rows, self.group, kind == _END, sessions)
        self._type = batch.type.codes[self._first]
        self._partition = batch.partition[self._first]
        self._start = batch.time[self._opened]
        self._end = np.where(ends > 0, batch.time[self._ended], _NONE)
        self._last_sign = _highest(batch.time[rows], self.group, sessions)
        self._last_append = _highest(batch.append_time[rows], self.group, sessions)
        self._known: dict[int, Session] = {}
        """What was known of those without a start."""
        plain, limits = (starts <= 1) & (ends <= 1), _limits(batch, types, state, self._type)
        plain &= limits.plain[self._type]
        first_append = -_highest(-batch.append_time[rows], self.group, sessions)
        self._look_up(plain, starts, first_append)
        after = np.zeros(int(self._partition.max()) + 1, dtype=np.int64)
        for partition in np.unique(self._partition).tolist():
            after[partition] = state.after[partition]
        plain &= first_append + limits.patience[self._type] > after[self._partition]
        length = self._end - self._start
        plain &= (self._end < 0) | ((length >= 0) & (length <= limits.longest[self._type]))
        self.plain: BoolArray = plain

    def by_type(self, plain: Int64Array) -> list[tuple[str, Int64Array]]:
        """The names of the types that plain sessions have, with the sessions of each."""
        codes = self._type[plain]
        names = self._batch.type.values
        return [(names[code], plain[codes == code]) for code in np.unique(codes).tolist()]

    def charge(self, usage: SessionUsage, sessions: Int64Array) -> None:
        """Charge sessions of its type under one definition."""
        batch, meter = self._batch, usage.meter
        at = sessions[self._opened[sessions] >= 0]
        at = at[_reads(usage, self._start[at])]
        for condition in meter.where:
            at = at[holding(batch, condition)[self._opened[at]]]
        if len(at):
            opened = self._opened[at]
            series = RowSeries(batch, opened, meter, self._state.names)
            _, code = distinct(series.packed.codes)
            place = usage.places(*series.named(one_of_each(code)))[code]
            usage.add_starts(place, self._start[at], batch.append_time[opened])
            over = self._ended[at] >= 0
            ended = at[over]
            cause = np.maximum(
                batch.append_time[self._opened[ended]], batch.append_time[self._ended[ended]]
            )
            usage.add_times(place[over], self._start[ended], self._end[ended], cause)
        self._charge_known(usage, sessions)

    def _charge_known(self, usage: SessionUsage, sessions: Int64Array) -> None:
        """What ends of them started in an earlier batch."""
        tenants, codes = self._batch.tenant.values, self._batch.tenant.codes
        places: list[int] = []
        ended: list[int] = []
        known = sessions[(self._opened[sessions] < 0) & (self._ended[sessions] >= 0)]
        for at in known.tolist():
            start = self._known[at].starts[0]
            group = group_of(start.time, dict(start.attributes), usage.meter)
            if group is not None:
                tenant = tenants[codes[self._first[at]]]
                places.append(usage.place((int(self._partition[at]), tenant, group)))
                ended.append(at)
        if ended:
            cause = self._batch.append_time[self._ended[ended]]
            usage.add_times(np.array(places), self._start[ended], self._end[ended], cause)

    def columns(self, plain: Int64Array) -> SessionColumns:
        """The rows of the table ``session``."""
        batch = self._batch
        start, end = self._start[plain], self._end[plain]
        last_append = self._last_append[plain]
        deadline = np.where(end < 0, last_append + self._patience(plain), _NEVER)
        opened = self._opened[plain]
        subjects, attributes = _said(batch, opened[opened >= 0])
        if len(subjects) < len(plain):
            # In their places, those that were known come between those of the batch.
            said = iter(zip(subjects, attributes, strict=True))
            both = [
                next(said) if row >= 0 else _told_before(self._known[at])
                for at, row in zip(plain.tolist(), opened.tolist(), strict=True)
            ]
            subjects, attributes = [one for one, _ in both], [one for _, one in both]
        return SessionColumns(
            *self._keys(plain),
            start.tolist(),
            _but(end, end < 0),
            self._last_sign[plain].tolist(),
            last_append.tolist(),
            _but(deadline, deadline >= _NEVER),
            subjects,
            attributes,
        )

    def _keys(self, sessions: Int64Array) -> tuple[list[int], list[str], list[str], list[str]]:
        batch, rows = self._batch, self._first[sessions]
        texts = [
            [column.values[code] for code in column.codes[rows].tolist()]
            for column in (batch.tenant, batch.type, batch.sessions())
        ]
        return self._partition[sessions].tolist(), texts[0], texts[1], texts[2]

    def _look_up(self, plain: BoolArray, starts: Int64Array, first_append: Int64Array) -> None:
        """Leave in ``plain`` what is new by its start, or known as plainly open and has none."""
        known, due = self._state.sessions, frozenset(self._state.due)
        if not known:
            plain &= starts == 1
            return
        asked = np.flatnonzero(plain)
        for at, key, is_new in zip(
            asked.tolist(),
            map(SessionKey._make, zip(*self._keys(asked), strict=True)),
            (starts[asked] == 1).tolist(),
            strict=True,
        ):
            session = known.get(key)
            if session is None or is_new:
                plain[at] = session is None and is_new
            elif len(session.starts) != 1 or session.ends or key in due:
                plain[at] = False
            else:
                self._known[at] = session
                self._start[at] = session.starts[0].time
                self._last_sign[at] = max(self._last_sign[at], session.last_sign)
                first_append[at] = session.last_append

    def _patience(self, sessions: Int64Array) -> Int64Array:
        """How long the first meter waits that reads each of these sessions."""
        patience = np.full(len(sessions), _NEVER)
        codes = self._type[sessions]
        for code in np.unique(codes).tolist():
            at = np.flatnonzero(codes == code)
            for usage in self._types[self._batch.type.values[code]].usages:
                if usage.meter.timeout is not None:
                    read = at[_reads(usage, self._start[sessions[at]])]
                    patience[read] = np.minimum(patience[read], usage.meter.timeout)
        return patience


class _Limits(NamedTuple):
    """Per code of a type whether its sessions may be plain, and what bounds them."""

    plain: BoolArray
    longest: Int64Array
    patience: Int64Array


def _limits(batch: Batch, types: TypeReadings, state: State, told: Int64Array) -> _Limits:
    names = batch.type.values
    limits = _Limits(
        np.zeros(len(names), dtype=np.bool_), np.zeros(len(names), dtype=np.int64),
        np.full(len(names), _NEVER),
    )  # fmt: skip
    for code in np.unique(told).tolist():
        reading = types[names[code]]
        limits.plain[code] = _is_roomy(reading, state)
        limits.longest[code] = reading.longest
        for meter in reading.meters:
            if meter.timeout is not None:
                limits.patience[code] = min(int(limits.patience[code]), meter.timeout)
    return limits


def _is_roomy(reading: TypeReading, state: State) -> bool:
    """Whether no definition of a type is watched, and none can run out of series in this batch."""
    roomy = state.series.roomy
    return bool(reading.usages) and not any(
        usage.is_watched or (usage.meter.group_by and usage.meter.version not in roomy)
        for usage in reading.usages
    )


def _grouped(batch: Batch, rows: Int64Array) -> Int64Array:
    """Which session each row is of."""
    partition = batch.partition[rows]
    packed = Packed(partition, int(partition.max()) + 1)
    for column in (batch.tenant, batch.type, batch.sessions()):
        packed.add(column.codes[rows], len(column.values))
    return distinct(packed.codes)[1]


def _rows_of(
    rows: Int64Array, group: Int64Array, chosen: BoolArray, groups: int
) -> tuple[Int64Array, Int64Array]:
    """Per group how many of its rows are chosen, and one of them; -1 for none."""
    one = np.full(groups, _NONE)
    one[group[chosen]] = rows[chosen]
    return np.bincount(group[chosen], minlength=groups), one


def _highest(values: Int64Array, group: Int64Array, groups: int) -> Int64Array:
    highest = np.full(groups, np.iinfo(np.int64).min)
    np.maximum.at(highest, group, values)
    return highest


def _reads(usage: SessionUsage, start: Int64Array) -> BoolArray:
    meter = usage.meter
    reads: BoolArray = start >= meter.since
    return reads if meter.until is None else reads & (start < meter.until)


def _said(batch: Batch, rows: Int64Array) -> tuple[list[str | None], list[str | None]]:
    """Subjects and attributes of starts as the table has them."""
    subjects: list[str | None] = [None] * len(rows)
    column = batch.columns.column("subject")
    if column.null_count < len(column):
        subjects = [text or None for text in column.take(pa.array(rows)).to_pylist()]
    code, maps = distinct_maps(batch, rows)
    texts = [attributes_text(sorted(pairs.items())) for pairs in maps]
    return subjects, [texts[at] for at in code.tolist()]


def _told_before(session: Session) -> tuple[str | None, str | None]:
    start = session.starts[0]
    return start.subject or None, attributes_text(start.attributes)


def _but(values: Int64Array, absent: BoolArray) -> list[int | None]:
    """A list with None in some places."""
    told = values.astype(object)
    told[absent] = None
    listed: list[int | None] = told.tolist()
    return listed

"""Folding session boundaries into sessions, record by record, and their charges into usage.

Before a record is taken in, every deadline that the log time has reached by then is applied to its
session, each as of that deadline; then the record, as of its append time. Deadlines that no record
of the batch came upon are applied at the end, up to the log time that the batch reaches. So what is
late does not depend on how the log was cut into batches.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from meterstream_aggregator.batch import LogRecord
from meterstream_aggregator.catalogue import Meter
from meterstream_aggregator.changes import Changes
from meterstream_aggregator.session_usage import Cause, TypeReading, TypeReadings
from meterstream_aggregator.sessions import (
    Session,
    SessionKey,
    group_of,
    is_over,
    observed,
    timed_out_until,
)
from meterstream_aggregator.state import Readings, State
from meterstream_aggregator.subject_fold import SubjectFold
from meterstream_aggregator.subjects import SubjectKey
from meterstream_aggregator.thresholds import NO_OFFSET
from meterstream_schemas.events import MeterEvent


class SessionFold:
    """Takes in a batch's boundaries and heartbeats; `finish` writes what they changed."""

    def __init__(self, state: State, readings: Readings, changes: Changes) -> None:
        self._state = state
        self._changes = changes
        self.types: Final = TypeReadings(state, readings, changes)
        self._touched: dict[SessionKey, _Touched] = {}
        self._subjects = SubjectFold(state, self.types, readings.catalogue.metering_since)

    def observe(self, record: LogRecord) -> None:
        """One accepted boundary or heartbeat; in log order within each partition."""
        event = record.event
        if event.session is None:
            self._subjects.observe(record)
            return
        key = SessionKey(record.partition, event.tenant, event.type, event.session)
        touched = self._touched.get(key)
        if touched is None:
            touched = self._touch(key)
        at = record.append_time
        if touched.due is not None and touched.due <= at:
            touched.time_out(at)
        touched.observe(event, (at, record.offset))

    def finish(self) -> None:
        """Write sessions, subjects and their usage as of ``state.after``.

        Those that are due are looked at even when no boundary came: time alone ends them.
        """
        changes, after = self._changes, self._state.after
        for key in self._state.due:
            if isinstance(key, SubjectKey):
                self._subjects.touch(key)
            elif key not in self._touched:
                self._touch(key)
        for session_key, touched in self._touched.items():
            if touched.due is not None and touched.due <= after[session_key.partition]:
                touched.time_out(after[session_key.partition])
            assert touched.session is not None, "it was told of, or known and due"
            changes.sessions[session_key] = (touched.session, touched.due)
        self._subjects.finish(changes)
        changes.usage.extend(self.types.deltas())

    def _touch(self, key: SessionKey) -> _Touched:
        before = self._state.before[key.partition]
        made = _Touched(key, self._state.sessions.get(key), self.types[key.type], before)
        self._touched[key] = made
        return made


class _Touched:
    """A session that the batch changes, and what it is charged by now.

    Beside the definitions that may read it stand the group values of its start under each (None:
    not read), and until when it is charged.
    """

    __slots__ = ("due", "groups", "key", "reading", "session", "untils")

    def __init__(
        self, key: SessionKey, session: Session | None, reading: TypeReading, appended: int
    ) -> None:
        self.key = key
        self.session = session
        self.reading = reading
        self.due: int | None = None
        self.groups: Sequence[tuple[str, ...] | None] = reading.unread
        self.untils: list[int | None] = [None] * len(reading.meters)
        if session is None or not session.starts:
            return
        start = session.starts[0]
        attributes = dict(start.attributes)
        self.groups = [group_of(start.time, attributes, meter) for meter in reading.meters]
        end = session.end_within(reading.longest)
        self.untils = [end] * len(reading.meters)
        if end is None:
            self.due = reading.deadline(start.time, session.last_append, appended)
            for at, meter in enumerate(reading.meters):
                if is_over(meter, session.last_append, appended):
                    self.untils[at] = self._given_up_at(session, meter)

    def time_out(self, appended: int) -> None:
        """Apply the deadlines up to ``appended``; each meter has one, so their order is nothing."""
        session, reading = self.session, self.reading
        assert session is not None, "only what was heard of has a deadline"
        start, last = session.starts[0].time, session.last_append
        for at, meter in enumerate(reading.meters):
            if self.untils[at] is None and is_over(meter, last, appended):
                assert meter.timeout is not None, "without a timeout nothing is over"
                until = self._given_up_at(session, meter)
                self._move_end(at, start, until, (last + meter.timeout, NO_OFFSET))
                self.untils[at] = until
        self.due = reading.deadline(start, last, appended)

    def observe(self, event: MeterEvent, cause: Cause) -> None:
        """Take in one record. Whatever had timed out has not any more: there is a sign of life."""
        before, reading, append_time = self.session, self.reading, cause[0]
        session = self.session = observed(before, event, append_time)
        starts = session.starts
        if not starts:
            return
        end = session.end_within(reading.longest)
        untils = self.untils
        if before is None or not before.starts or before.starts[0] is not starts[0]:
            self._restart(before, event, end, cause)
        for at, until in enumerate(untils):
            if until != end:
                self._move_end(at, starts[0].time, end, cause)
                untils[at] = end
        self.due = None
        if end is None:
            self.due = reading.deadline(starts[0].time, append_time, append_time)

    def _restart(
        self, before: Session | None, event: MeterEvent, end: int | None, cause: Cause
    ) -> None:
        """Charge the session by this start: perhaps other groups, perhaps other definitions."""
        partition, tenant, _, _ = self.key
        groups = list(self.groups)
        for at, usage in enumerate(self.reading.usages):
            group = groups[at]
            if group is not None:
                assert before is not None, "only what was heard of has groups"
                was = before.starts[0].time
                usage.add((partition, tenant, group), was, self.untils[at], -1, cause)
            group = groups[at] = group_of(event.time, event.attributes, usage.meter)
            if group is not None:
                usage.add((partition, tenant, group), event.time, end, 1, cause)
            self.untils[at] = end
        self.groups = groups

    def _given_up_at(self, session: Session, meter: Meter) -> int:
        start = session.starts[0].time
        return timed_out_until(start, session.last_sign, meter, self.reading.longest)

    def _move_end(self, at: int, start: int, end: int | None, cause: Cause) -> None:
        group, key = self.groups[at], self.key
        if group is not None:
            line = (key.partition, key.tenant, group)
            self.reading.usages[at].move_end(line, start, self.untils[at], end, cause)

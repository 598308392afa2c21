"""Folding boundaries without a session id into subjects, and their charges into usage.

Record by record, as `session_fold` does it for sessions that have an id.
"""

from __future__ import annotations

from meterstream_aggregator.batch import LogRecord
from meterstream_aggregator.changes import Changes
from meterstream_aggregator.session_usage import Cause, Line, TypeReading, TypeReadings
from meterstream_aggregator.sessions import (
    Start,
    group_of,
    is_over,
    start_of,
    timed_out_until,
)
from meterstream_aggregator.state import State
from meterstream_aggregator.subjects import (
    BOUNDARIES_MAX,
    Pairing,
    Repaired,
    Subject,
    SubjectKey,
    settled_before,
)
from meterstream_aggregator.thresholds import NO_OFFSET
from meterstream_schemas.events import EventKind, MeterEvent


class SubjectFold:
    """The subjects that a batch tells of or whose deadline it reaches."""

    def __init__(self, state: State, types: TypeReadings, metering_since: int) -> None:
        self._state = state
        self._types = types
        self._metering_since = metering_since
        self._touched: dict[SubjectKey, _Touched] = {}

    def observe(self, record: LogRecord) -> None:
        """One accepted boundary or heartbeat; in log order within each partition."""
        event = record.event
        touched = self.touch(
            SubjectKey(record.partition, event.tenant, event.type, event.subject or "")
        )
        at = record.append_time
        if touched.due is not None and touched.due <= at:
            touched.time_out(at)
        touched.observe(event, (at, record.offset), settled_before(at, self._metering_since))

    def touch(self, key: SubjectKey) -> _Touched:
        """The subject as the batch has changed it so far."""
        known = self._touched.get(key)
        if known is None:
            subject = self._state.subjects.get(key, Subject())
            appended = self._state.before[key.partition]
            known = self._touched[key] = _Touched(key, subject, self._types[key.type], appended)
        return known

    def finish(self, changes: Changes) -> None:
        """Write the subjects as of ``state.after``."""
        for key, touched in self._touched.items():
            appended = self._state.after[key.partition]
            if touched.due is not None and touched.due <= appended:
                touched.time_out(appended)
            changes.subjects[key] = (touched.facts(), touched.due)


class _Touched:
    """A subject that the batch changes. ``over`` are the meters that have given it up by now."""

    __slots__ = (
        "conflicts", "due", "key", "last_append", "last_beat", "over", "pairing", "reading",
        "settled",
    )  # fmt: skip

    def __init__(
        self, key: SubjectKey, subject: Subject, reading: TypeReading, appended: int
    ) -> None:
        self.key = key
        self.reading = reading
        self.pairing = Pairing(subject, reading.longest)
        self.last_beat = subject.last_beat
        self.settled = subject.settled
        self.conflicts = subject.conflicts
        self.last_append = subject.last_append
        self.over = {
            at
            for at, meter in enumerate(reading.meters)
            if is_over(meter, subject.last_append, appended)
        }
        self.due = self._deadline(appended)

    def facts(self) -> Subject:
        """The subject as it is now."""
        starts, ends = tuple(self.pairing.starts), tuple(self.pairing.ends)
        return Subject(starts, ends, self.last_beat, self.settled, self.conflicts, self.last_append)

    def time_out(self, appended: int) -> None:
        """Apply the deadlines up to ``appended`` to all open sessions; each meter has one."""
        for at, meter in enumerate(self.reading.meters):
            if at not in self.over and is_over(meter, self.last_append, appended):
                assert meter.timeout is not None, "without a timeout nothing is over"
                self.over.add(at)
                self._give_up(at, self._open(), (self.last_append + meter.timeout, NO_OFFSET))
        self.due = self._deadline(appended)

    def observe(self, event: MeterEvent, cause: Cause, horizon: int) -> None:
        """Take in one record. Whatever had timed out has not any more: there is a sign of life."""
        for at in sorted(self.over):
            self._give_up(at, self._open(), cause, back=True)
        self.over.clear()
        if event.kind is EventKind.SESSION_HEARTBEAT:
            self.last_beat = max(self.last_beat, event.time)
        elif event.time < self.settled:
            self.conflicts += 1
        elif event.kind is EventKind.SESSION_START:
            self._charge(self.pairing.add_start(start_of(event, "")), cause)
        else:
            self._charge(self.pairing.add_end(event.time), cause)
        self.last_append = cause[0]
        self._settle(horizon, cause)
        self.due = self._deadline(cause[0])

    def _deadline(self, appended: int) -> int | None:
        """The next log time at which a meter gives up an open session."""
        opened = self._open()
        if not self.reading.dated:
            opened = opened[:1]
        coming = [self.reading.deadline(start.time, self.last_append, appended) for start in opened]
        return min((at for at in coming if at is not None), default=None)

    def _open(self) -> list[Start]:
        if not self.pairing.open:
            return []
        return [pair.start for pair in self.pairing.pairs() if pair.end is None]

    def _settle(self, horizon: int, cause: Cause) -> None:
        """Forget what no boundary can change any more, then what is too much."""
        pairing = self.pairing
        while pairing.ends and pairing.ends[0] < horizon:
            self._drop_end()
        while (
            pairing.starts
            and pairing.closes[0] is None
            and pairing.starts[0].time + pairing.longest < horizon
        ):
            self._drop_start(cause)
        while len(pairing) > BOUNDARIES_MAX:
            if pairing.ends:
                self._drop_end()
            else:
                self._drop_start(cause)

    def _drop_end(self) -> None:
        self.settled = max(self.settled, self.pairing.ends[0] + 1)
        if not self.pairing.drop_end():
            self.conflicts += 1

    def _drop_start(self, cause: Cause) -> None:
        """What nobody can end any more stays charged as if it had timed out."""
        start = self.pairing.drop_start()
        self.settled = max(self.settled, start.time + 1)
        for at in range(len(self.reading.meters)):
            self._give_up(at, [start], cause)

    def _give_up(self, at: int, starts: list[Start], cause: Cause, *, back: bool = False) -> None:
        """Charge open sessions as timed out under one meter, or take that back."""
        meter = self.reading.meters[at]
        if meter.timeout is None:
            return
        for start in starts:
            until = timed_out_until(start.time, self.last_beat, meter, self.reading.longest)
            self._move_end(at, start, (until, None) if back else (None, until), cause)

    def _charge(self, repaired: list[Repaired], cause: Cause) -> None:
        for before, after in repaired:
            start, end = after
            for at in range(len(self.reading.meters)):
                if before is not None:
                    self._move_end(at, start, (before.end, end), cause)
                elif (line := self._line(at, start)) is not None:
                    self.reading.usages[at].add(line, start.time, end, 1, cause)

    def _move_end(
        self, at: int, start: Start, ends: tuple[int | None, int | None], cause: Cause
    ) -> None:
        line = self._line(at, start)
        if line is not None:
            self.reading.usages[at].move_end(line, start.time, *ends, cause)

    def _line(self, at: int, start: Start) -> Line | None:
        group = group_of(start.time, dict(start.attributes), self.reading.meters[at])
        return None if group is None else (self.key.partition, self.key.tenant, group)

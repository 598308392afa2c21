"""Folding session boundaries into sessions, and changes of sessions into usage."""

from __future__ import annotations

from meterstream_aggregator.batch import LogRecord
from meterstream_aggregator.catalogue import Aggregate, Meter
from meterstream_aggregator.changes import Changes, SeriesKey, UsageKey, usage_delta
from meterstream_aggregator.sessions import (
    Session,
    SessionKey,
    Share,
    change,
    charge,
    deadline,
    observed,
)
from meterstream_aggregator.state import Readings, State

MICROSECOND_SCALE = 6
"""Session usage is kept in microseconds: seconds with six decimal places."""


class SessionFold:
    """Collects a batch's boundaries; `finish` turns what they changed into usage rows."""

    def __init__(self, state: State, readings: Readings) -> None:
        self._state = state
        self._readings = readings
        self._after: dict[SessionKey, Session] = {}

    def observe(self, record: LogRecord) -> None:
        """One accepted boundary or heartbeat."""
        event = record.event
        assert event.session is not None, "refusal() lets no boundary without a session pass"
        key = SessionKey(record.partition, event.tenant, event.type, event.session)
        before = self._after.get(key) or self._state.sessions.get(key)
        self._after[key] = observed(before, event, record.append_time)

    def finish(self, changes: Changes) -> None:
        """Write sessions, and their usage as of ``state.after``.

        Due sessions are looked at even when no boundary came: time alone ends them.
        """
        for key in self._state.due:
            self._after.setdefault(key, self._state.sessions[key])
        rows: dict[str, dict[UsageKey, tuple[int, int]]] = {}
        for key, after in self._after.items():
            before = self._state.sessions.get(key)
            then, now = self._state.before[key.partition], self._state.after[key.partition]
            meters = self._readings.sessions.get(key.type, ())
            changes.sessions[key] = (after, deadline(after, meters, now))
            for meter in meters:
                of_meter = rows.setdefault(meter.name, {})
                for share in change(
                    charge(before, meter, then), charge(after, meter, now), meter.window
                ):
                    _add_share(of_meter, key, meter, share)
        for name, of_meter in rows.items():
            nonzero = {row: value for row, value in of_meter.items() if value != (0, 0)}
            if nonzero:
                size = self._readings.catalogue.meter(name).window
                changes.usage.append(usage_delta(name, Aggregate.SESSION, size, nonzero))


def _add_share(
    rows: dict[UsageKey, tuple[int, int]], key: SessionKey, meter: Meter, share: Share
) -> None:
    series = SeriesKey(key.partition, key.tenant, meter.name, share.group)
    row = UsageKey(series, share.window, MICROSECOND_SCALE)
    events, quantity = rows.get(row, (0, 0))
    rows[row] = (events + share.started, quantity + share.microseconds)

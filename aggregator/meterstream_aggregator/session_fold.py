"""Folding session boundaries into sessions, and changes of sessions into usage."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from meterstream_aggregator.batch import LogRecord
from meterstream_aggregator.catalogue import Meter
from meterstream_aggregator.changes import Changes, SeriesKey, UsageDelta
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
        state, readings = self._state, self._readings
        for key in state.due:
            self._after.setdefault(key, state.sessions[key])
        usage = {meter.name: _SessionUsage(meter) for meter in readings.session_meters}
        for key, after in self._after.items():
            before = state.sessions.get(key)
            then, now = state.before[key.partition], state.after[key.partition]
            meters = readings.sessions.get(key.type, ())
            changes.sessions[key] = (after, deadline(after, meters, now))
            for meter in meters:
                charged, charging = charge(before, meter, then), charge(after, meter, now)
                if charged != charging:
                    usage[meter.name].add(key, change(charged, charging, meter.window))
        changes.usage.extend(
            delta for of_meter in usage.values() if (delta := of_meter.delta()) is not None
        )


class _SessionUsage:
    """The usage of one session meter, joined by (series, window) as it comes in."""

    def __init__(self, meter: Meter) -> None:
        self._meter = meter
        self._series: dict[tuple[int, str, tuple[str, ...]], int] = {}
        self._rows: dict[tuple[int, int], list[int]] = {}

    def add(self, key: SessionKey, shares: Iterable[Share]) -> None:
        for group, window, microseconds, started in shares:
            named = (key.partition, key.tenant, group)
            series = self._series.setdefault(named, len(self._series))
            row = self._rows.get((series, window))
            if row is None:
                self._rows[series, window] = [started, microseconds]
            else:
                row[0] += started
                row[1] += microseconds

    def delta(self) -> UsageDelta | None:
        """The rows that change, or None where none does."""
        places = [place for place, row in self._rows.items() if row[0] or row[1]]
        if not places:
            return None
        rows = [self._rows[place] for place in places]
        return UsageDelta(
            meter=self._meter.name,
            aggregate=self._meter.aggregate,
            window=self._meter.window,
            series=[
                SeriesKey(partition, tenant, self._meter.name, group)
                for partition, tenant, group in self._series
            ],
            index=np.array([series for series, _ in places], dtype=np.int64),
            start=np.array([window for _, window in places], dtype=np.int64),
            scale=np.full(len(places), MICROSECOND_SCALE, dtype=np.int64),
            events=np.array([started for started, _ in rows], dtype=np.int64),
            quantity=np.array([microseconds for _, microseconds in rows], dtype=np.int64),
        )

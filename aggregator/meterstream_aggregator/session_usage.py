"""What charges of sessions change in the windows of their meters, while a batch is folded."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np

from meterstream_aggregator.batch import Int64Array
from meterstream_aggregator.catalogue import Meter
from meterstream_aggregator.changes import Changes, ChargeMove, Numbered, SeriesKey, UsageDelta
from meterstream_aggregator.session_parts import (
    NOTHING,
    Part,
    joined,
    split_many,
    summed,
    with_something,
)
from meterstream_aggregator.sessions import Charge, longest_of, next_deadline
from meterstream_aggregator.state import Readings, SeriesOwner, State
from meterstream_aggregator.windows import arrival_of, closes_at

MICROSECOND_SCALE: Final = 6
"""Session usage is kept in microseconds: seconds with six decimal places."""

Line = tuple[int, str, tuple[str, ...]]
"""Partition, tenant, and the group values as the start says them."""
Cause = tuple[int, int]
"""What changes a charge: a record, or time alone. Its log time, and its offset or `NO_OFFSET`."""


class SessionUsage:
    """The usage of one definition, joined by (series, window, arrival) as it comes in.

    A window's share is late if and only if its cause is at or after the window's close. ``moves``
    is where changes are told one by one, for a meter that is watched.
    """

    def __init__(
        self, meter: Meter, state: State, metering_since: int, moves: list[ChargeMove] | None
    ) -> None:
        self.meter: Final = meter
        self._state = state
        self._moves = moves
        self._version = meter.version
        self._first_close = closes_at(0, meter.window, metering_since, meter.grace)
        self._places: dict[Line, int] = {}
        self._series: dict[SeriesKey, int] = {}
        self._numbered: Numbered | None = None
        self._rows: dict[tuple[int, int, int], list[int]] = {}
        self._parts: list[Part] = []
        """What was counted by columns."""

    def add(self, line: Line, start: int, until: int | None, sign: int, cause: Cause) -> None:
        """Count a session ``sign`` times: that it started, and its time up to ``until``."""
        place = self._places.get(line)
        if place is None:
            place = self.place(line)
        size = self.meter.window
        window = start - start % size
        late_upto = self._late_upto(cause[0])
        arrival = arrival_of(cause[0], size, self.meter.grace) if window <= late_upto else 0
        row = self._rows.get((place, window, arrival))
        if row is None:
            self._rows[place, window, arrival] = [sign, 0]
        else:
            row[0] += sign
        if until is not None:
            self._add_time(place, (start, until), sign, cause[0])
        if self._moves is not None:
            charged = Charge(line[2], start, until)
            before, after = (None, charged) if sign > 0 else (charged, None)
            self._moves.append(self._told(line, before, after, cause))

    def move_end(
        self, line: Line, start: int, before: int | None, after: int | None, cause: Cause
    ) -> None:
        """A session that is counted goes up to ``after`` and no more up to ``before``."""
        place = self._places.get(line)
        if place is None:
            place = self.place(line)
        if before is not None:
            self._add_time(place, (start, before), -1, cause[0])
        if after is not None:
            self._add_time(place, (start, after), 1, cause[0])
        if self._moves is not None:
            group = line[2]
            charged = Charge(group, start, before), Charge(group, start, after)
            self._moves.append(self._told(line, *charged, cause))

    @property
    def is_watched(self) -> bool:
        """Whether every change of a charge is to be told of."""
        return self._moves is not None

    def places(self, keys: list[SeriesKey], numbered: Numbered | None) -> Int64Array:
        """Where these series stand, no two alike, which have room."""
        if not self._series:
            self._series = {key: at for at, key in enumerate(keys)}
            self._numbered = numbered
            return np.arange(len(keys))
        return np.array([self._stands(key) for key in keys], dtype=np.int64)

    def place(self, line: Line) -> int:
        """Where the line's series stands; group values beyond the meter's limit share one."""
        known = self._places.get(line)
        if known is not None:
            return known
        partition, tenant, group = line
        if group:
            owner = SeriesOwner(partition, tenant, self._version)
            group = self._state.admitted(owner, group, self.meter.series_per_tenant)
        key = SeriesKey(partition, tenant, self.meter.name, group, self._version)
        place = self._places[line] = self._stands(key)
        return place

    def add_starts(self, place: Int64Array, start: Int64Array, cause: Int64Array) -> None:
        """`add` of many sessions once each, without their times."""
        window = start // self.meter.window
        self._parts.append(summed(place, window, self._arrivals(window, cause)))

    def add_times(
        self, place: Int64Array, start: Int64Array, until: Int64Array, cause: Int64Array
    ) -> None:
        """Add the times of many sessions to their windows."""
        for chunk, window, inside in split_many(start, until, self.meter.window):
            arrival = self._arrivals(window, cause[chunk])
            self._parts.append(summed(place[chunk], window, arrival, inside))

    def deltas(self) -> Iterator[UsageDelta]:
        """The rows that change, one delta per arrival.

        A series is told of even where its rows come to nothing: it was admitted, and whether that
        is remembered must not depend on how the log was cut into batches.
        """
        if not self._series:
            return
        series, size = list(self._series), self.meter.window
        if self._rows:
            told = [(*key[:1], key[1] // size, key[2], *row) for key, row in self._rows.items()]
            own = Part(*np.array(told, dtype=np.int64).T)
        else:
            own = NOTHING
        # What was added up row by row needs no adding up, but may have come to nothing.
        part = joined([*self._parts, own]) if self._parts else with_something(own)
        for arrival in sorted(set(part.arrival.tolist())) or [0]:
            of = part.arrival == arrival
            yield UsageDelta(
                meter=self.meter.name,
                aggregate=self.meter.aggregate,
                window=size,
                series=series,
                index=part.place[of],
                start=part.window[of] * size,
                scale=np.full(int(of.sum()), MICROSECOND_SCALE, dtype=np.int64),
                events=part.events[of],
                quantity=part.quantity[of],
                arrival=arrival,
                numbered=self._numbered,
            )

    def _stands(self, key: SeriesKey) -> int:
        place = self._series.get(key)
        if place is None:
            place = self._series[key] = len(self._series)
            self._numbered = None
        return place

    def _arrivals(self, window: Int64Array, cause: Int64Array) -> Int64Array:
        """The arrivals of what these log times do to windows, counted from 0."""
        size, grace = self.meter.window, self.meter.grace
        is_late = (cause >= self._first_close) & (window * size <= cause - grace - size)
        if not is_late.any():
            return np.zeros_like(window)
        return np.where(is_late, cause - (cause - grace) % size, 0)

    def _told(
        self, line: Line, before: Charge | None, after: Charge | None, cause: Cause
    ) -> ChargeMove:
        return ChargeMove(self.meter.name, self.meter.window, *line[:2], before, after, *cause)

    def _late_upto(self, cause: int) -> int:
        """The last window, by its start, that is closed at that log time; -1 for none."""
        if cause < self._first_close:
            return -1
        return cause - self.meter.grace - self.meter.window

    def _add_time(self, place: int, span: tuple[int, int], sign: int, cause: int) -> None:
        """Add a span to its windows ``sign`` times."""
        rows, size = self._rows, self.meter.window
        at, until = span
        window = at - at % size
        late_upto = self._late_upto(cause)
        arrival = arrival_of(cause, size, self.meter.grace) if window <= late_upto else 0
        while at < until:
            after = window + size
            inside = (after if after < until else until) - at  # noqa: FURB136 - min costs more
            key = (place, window, arrival if window <= late_upto else 0)
            row = rows.get(key)
            if row is None:
                rows[key] = [0, sign * inside]
            else:
                row[1] += sign * inside
            at = window = after


class TypeReading:
    """How sessions of one type are read: its definitions, their usage, how long one may last."""

    __slots__ = ("_timeouts", "longest", "meters", "unread", "usages")

    def __init__(self, usages: list[SessionUsage]) -> None:
        self.usages: Final = usages
        meters = [usage.meter for usage in usages]
        self.meters: Final = meters
        self.unread: Final = (None,) * len(meters)
        """The groups of a session without a start."""
        self.longest: Final = longest_of(meters)
        dated = any(meter.since > 0 or meter.until is not None for meter in meters)
        timeouts = sorted({meter.timeout for meter in meters if meter.timeout is not None})
        self._timeouts: Final = None if dated else timeouts

    @property
    def dated(self) -> bool:
        """Whether it depends on its start which definitions read a session."""
        return self._timeouts is None

    def deadline(self, start: int, last_append: int, appended: int) -> int | None:
        """See `sessions.next_deadline`."""
        if self._timeouts is None:
            return next_deadline(start, last_append, self.meters, appended)
        for timeout in self._timeouts:
            if last_append + timeout > appended:
                return last_append + timeout
        return None


class TypeReadings(dict[str, TypeReading]):
    """The types that a batch tells of, each looked up when first asked for."""

    def __init__(self, state: State, readings: Readings, changes: Changes) -> None:
        super().__init__()
        self._state = state
        self._readings = readings
        self._moves = changes.charge_moves
        self._watched = {threshold.meter for threshold in readings.catalogue.thresholds}

    def __missing__(self, event_type: str) -> TypeReading:
        since = self._readings.catalogue.metering_since
        usages = [
            SessionUsage(
                meter, self._state, since, self._moves if meter.name in self._watched else None
            )
            for meter in self._readings.sessions.get(event_type, ())
        ]
        made = self[event_type] = TypeReading(usages)
        return made

    def deltas(self) -> Iterator[UsageDelta]:
        """The rows that change, of all types."""
        for reading in self.values():
            for usage in reading.usages:
                yield from usage.deltas()

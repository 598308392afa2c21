"""What folding a batch changes: plain values that any store can apply in one transaction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from meterstream_aggregator.catalogue import Aggregate, Meter
from meterstream_aggregator.dedup import Numbers, ProducerKey, RefusedNumber
from meterstream_aggregator.refusals import Refusal
from meterstream_aggregator.sessions import Charge, Session, SessionKey
from meterstream_aggregator.subjects import Subject, SubjectKey
from meterstream_aggregator.thresholds import FiredRow, Movement, Waiting

SEGMENT: Final = 65_536
"""Offsets of one segment: what the index of the log counts in."""
OVERFLOW: Final = "(overflow)"
"""Every group value of the series that takes what a tenant has beyond its meter's limit."""


class SeriesKey(NamedTuple):
    """One line of figures: who, which meter by which definition, which group values.

    Each partition has its own lines. ``version`` is `Meter.version`.
    """

    partition: int
    tenant: str
    meter: str
    group: tuple[str, ...]
    version: str


class UsageKey(NamedTuple):
    """One usage row: a series, a window, its arrival, and the scale its amounts came in.

    ``arrival`` is 0 for what came in time, else `windows.arrival_of` its append time. The scale of
    a first moment has `catalogue.MOMENT` added.
    """

    series: SeriesKey
    start: int
    arrival: int
    scale: int


class Numbered(NamedTuple):
    """Series by numbers that hold for as long as ``keys`` is the same list: see `naming`.

    ``keys`` has the key of every number and only ever grows; a store may keep beside it, by number,
    what it knows of a series, for as long as it is handed this very list.
    """

    keys: list[SeriesKey]
    numbers: npt.NDArray[np.int64]
    """Of each series of a delta, in the order of its ``series``."""


@dataclass(slots=True)
class UsageDelta:
    """Additions to usage rows of one definition and one arrival, as parallel columns.

    No (series, start, scale) stands twice. ``quantity`` is int64, or Python integers (dtype object)
    where sums outgrow 64 bits. ``numbered`` tells of the same series as ``series`` does, for stores
    that would rather take an array than hash a key for each; None where they have no numbers.
    """

    meter: str
    aggregate: Aggregate
    window: int
    series: list[SeriesKey]
    index: npt.NDArray[np.int64]
    start: npt.NDArray[np.int64]
    scale: npt.NDArray[np.int64]
    events: npt.NDArray[np.int64]
    quantity: npt.NDArray[Any]
    arrival: int = 0
    numbered: Numbered | None = None

    def rows(self) -> dict[UsageKey, tuple[int, int]]:
        """The same as a mapping to (events, quantity): for tests and small batches."""
        columns = (self.index, self.start, self.scale, self.events, self.quantity)
        return {
            UsageKey(self.series[index], start, self.arrival, scale): (events, int(quantity))
            for index, start, scale, events, quantity in zip(
                *(column.tolist() for column in columns), strict=True
            )
        }


class ItemKey(NamedTuple):
    """One item that a window of a series keeps.

    ``""`` for latest, the text for unique, for time-weighted meters the sample's microseconds after
    the window's start, ten digits wide.
    """

    series: SeriesKey
    start: int
    arrival: int
    item: str


class Item(NamedTuple):
    """The event that stands for an item; of two the greater stands, in this very order of fields.

    ``quantity`` and ``scale`` are the amount; of a unique meter 1 (added) or 0 (removed) and 0.
    """

    time: int
    sequence: int
    producer: str
    offset: int
    quantity: int
    scale: int


class Place(NamedTuple):
    """An hour of event time in a segment of a partition: the index of the log.

    ``hour`` is hours since 1970, ``segment`` the offset divided by `SEGMENT`.
    """

    partition: int
    hour: int
    segment: int


class Presence(NamedTuple):
    """A producer in a segment of a partition."""

    partition: int
    producer: str
    segment: int


class Span(NamedTuple):
    """First and last offset (both inclusive) and the events counted there, no more and no less."""

    first: int
    last: int
    events: int


class DeadLetter(NamedTuple):
    """A record that is not counted: where it lay, why, and what is known of it."""

    partition: int
    offset: int
    append_time: int
    refusal: Refusal
    tenant: str | None
    type: str | None
    producer: str
    lane: int
    sequence: int


class KeyState(IntEnum):
    """What became of a caller's key."""

    COUNTED = 0
    VOIDED = 1
    """Counted, then taken back."""
    AWAITED = 2
    """A VOID came first; the original will be counted and taken back at once."""


class CallerKey(NamedTuple):
    """A caller's key: what its content was, and when the log had what made its state.

    ``time`` is the event's own time, for those who look for a figure's keys.
    """

    partition: int
    tenant: str
    key: str
    content: bytes
    append_time: int
    state: KeyState
    time: int


class OutboxMessage(NamedTuple):
    """A message that leaves after the commit, at least once. Its ``partition`` sends it."""

    partition: int
    topic: str
    key: bytes
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]


class ChargeMove(NamedTuple):
    """What a session is charged under a watched definition, before and after a record or deadline.

    ``cause`` is the log time that did it; ``offset`` is `thresholds.NO_OFFSET` for a deadline.
    """

    meter: str
    window: int
    partition: int
    tenant: str
    before: Charge | None
    after: Charge | None
    cause: int
    offset: int


class SessionColumns(NamedTuple):
    """Sessions with one start, at most one end that can be one, and no conflict: as columns.

    The first columns of the table ``session``, in its order; its ``claims`` is NULL for all.
    ``attributes`` are those of the start as the table has them. Each list has one entry a session.
    """

    partition: list[int]
    tenant: list[str]
    type: list[str]
    session: list[str]
    start: list[int]
    end: list[int | None]
    last_sign: list[int]
    last_append: list[int]
    deadline: list[int | None]
    subject: list[str | None]
    attributes: list[str | None]


@dataclass(slots=True)
class Tally:
    """What became of one partition's events."""

    counted: int = 0
    duplicates: int = 0
    refused: int = 0


@dataclass(slots=True)
class Changes:
    """All that one batch changes.

    ``numbers``, ``sessions``, ``subjects`` and ``keys`` are whole new states, the rest joins what
    is there: items by the greater, places and presences by first, last and sum. Sessions and
    subjects come with their next deadline (append time, None for none). A session stands either in
    ``sessions`` or in one of ``session_columns``: see `store.rows.session_rows`.
    """

    usage: list[UsageDelta] = field(default_factory=list)
    numbers: dict[ProducerKey, Numbers] = field(default_factory=dict)
    sessions: dict[SessionKey, tuple[Session, int | None]] = field(default_factory=dict)
    session_columns: list[SessionColumns] = field(default_factory=list)
    subjects: dict[SubjectKey, tuple[Subject, int | None]] = field(default_factory=dict)
    refused: dict[RefusedNumber, bool] = field(default_factory=dict)
    """Numbers that are refused from now on (True), or were and are counted now (False)."""
    items: dict[ItemKey, Item] = field(default_factory=dict)
    places: dict[Place, Span] = field(default_factory=dict)
    presences: dict[Presence, Span] = field(default_factory=dict)
    keys: dict[tuple[int, str, str], CallerKey] = field(default_factory=dict)
    """By (partition, tenant, key): new states, in place of what is there."""
    dead_letters: list[DeadLetter] = field(default_factory=list)
    tallies: dict[int, Tally] = field(default_factory=dict)
    outbox: list[OutboxMessage] = field(default_factory=list)
    times: npt.NDArray[np.int64] | None = None
    """By row of the batch: 1 counted, -1 taken back, 0 neither. Not stored: thresholds ask it."""
    charge_moves: list[ChargeMove] = field(default_factory=list)
    """Of session meters that a threshold watches. Not stored either."""
    movements: list[Movement] = field(default_factory=list)
    """Steps of watched figures: the store adds them up and tells which values are reached."""
    waiting: list[Waiting] = field(default_factory=list)
    """Steps of accounts that are not known now."""
    told: list[FiredRow] = field(default_factory=list)
    """Values that another store of this log told of: they are not told of again."""

    def tally(self, partition: int) -> Tally:
        """The counters of a partition, begun when first asked for."""
        return self.tallies.setdefault(partition, Tally())


def usage_deltas(meter: Meter, rows: Mapping[UsageKey, tuple[int, int]]) -> list[UsageDelta]:
    """Columns from a mapping of rows to (events, quantity): one delta per arrival, in order."""
    arrivals: dict[int, dict[UsageKey, tuple[int, int]]] = {}
    for key, row in rows.items():
        arrivals.setdefault(key.arrival, {})[key] = row
    return [_usage_delta(meter, arrival, arrivals[arrival]) for arrival in sorted(arrivals)]


def _usage_delta(
    meter: Meter, arrival: int, rows: Mapping[UsageKey, tuple[int, int]]
) -> UsageDelta:
    series: dict[SeriesKey, int] = {}
    index = [series.setdefault(key.series, len(series)) for key in rows]
    quantities: Sequence[int] = [quantity for _, quantity in rows.values()]
    wide = any(not -(2**63) <= quantity < 2**63 for quantity in quantities)
    return UsageDelta(
        meter=meter.name,
        aggregate=meter.aggregate,
        window=meter.window,
        series=list(series),
        index=np.array(index, dtype=np.int64),
        start=np.array([key.start for key in rows], dtype=np.int64),
        scale=np.array([key.scale for key in rows], dtype=np.int64),
        events=np.array([events for events, _ in rows.values()], dtype=np.int64),
        quantity=np.array(quantities, dtype=object if wide else np.int64),
        arrival=arrival,
    )

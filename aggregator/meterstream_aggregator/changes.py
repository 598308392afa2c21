"""What folding a batch changes: plain values that any store can apply in one transaction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from meterstream_aggregator.catalogue import Aggregate
from meterstream_aggregator.dedup import Numbers, ProducerKey, RefusedNumber
from meterstream_aggregator.refusals import Refusal
from meterstream_aggregator.sessions import Session, SessionKey


class SeriesKey(NamedTuple):
    """One line of figures: who, which meter, which group values, told by which partition."""

    partition: int
    tenant: str
    meter: str
    group: tuple[str, ...]


class UsageKey(NamedTuple):
    """One usage row: a series, a window, and the scale its amounts came in."""

    series: SeriesKey
    start: int
    scale: int


ADDED: Final = frozenset({Aggregate.COUNT, Aggregate.SUM, Aggregate.SESSION})
"""Aggregates whose rows join by addition; the others join by the smaller or the greater."""


@dataclass(slots=True)
class UsageDelta:
    """Additions to usage rows of one meter, as parallel columns; no (series, start, scale) twice.

    ``quantity`` is int64, or Python integers (dtype object) where sums outgrow 64 bits.
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

    def rows(self) -> dict[UsageKey, tuple[int, int]]:
        """The same as a mapping to (events, quantity): for tests and small batches."""
        columns = (self.index, self.start, self.scale, self.events, self.quantity)
        return {
            UsageKey(self.series[index], start, scale): (events, int(quantity))
            for index, start, scale, events, quantity in zip(
                *(column.tolist() for column in columns), strict=True
            )
        }


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


class CallerKey(NamedTuple):
    """A caller's key that was counted: its content hash, and when the log took it."""

    partition: int
    tenant: str
    key: str
    content: bytes
    append_time: int


class OutboxMessage(NamedTuple):
    """A message that leaves after the commit, at least once. Its ``partition`` sends it."""

    partition: int
    topic: str
    key: bytes
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]


@dataclass(slots=True)
class Tally:
    """What became of one partition's events."""

    counted: int = 0
    duplicates: int = 0
    refused: int = 0


@dataclass(slots=True)
class Changes:
    """All that one batch changes. ``numbers`` and ``sessions`` are whole new states, the rest adds.

    ``sessions`` come with their next deadline (append time, None for none).
    """

    usage: list[UsageDelta] = field(default_factory=list)
    numbers: dict[ProducerKey, Numbers] = field(default_factory=dict)
    sessions: dict[SessionKey, tuple[Session, int | None]] = field(default_factory=dict)
    refused: dict[RefusedNumber, bool] = field(default_factory=dict)
    """Numbers that are refused from now on (True), or were and are counted now (False)."""
    keys: list[CallerKey] = field(default_factory=list)
    dead_letters: list[DeadLetter] = field(default_factory=list)
    tallies: dict[int, Tally] = field(default_factory=dict)
    outbox: list[OutboxMessage] = field(default_factory=list)

    def tally(self, partition: int) -> Tally:
        """The counters of a partition, begun when first asked for."""
        return self.tallies.setdefault(partition, Tally())


def usage_delta(
    meter: str, aggregate: Aggregate, window: int, rows: dict[UsageKey, tuple[int, int]]
) -> UsageDelta:
    """Columns from a mapping of rows to (events, quantity)."""
    series: dict[SeriesKey, int] = {}
    index = [series.setdefault(key.series, len(series)) for key in rows]
    quantities: Sequence[int] = [quantity for _, quantity in rows.values()]
    wide = any(not -(2**63) <= quantity < 2**63 for quantity in quantities)
    return UsageDelta(
        meter=meter,
        aggregate=aggregate,
        window=window,
        series=list(series),
        index=np.array(index, dtype=np.int64),
        start=np.array([key.start for key in rows], dtype=np.int64),
        scale=np.array([key.scale for key in rows], dtype=np.int64),
        events=np.array([events for events, _ in rows.values()], dtype=np.int64),
        quantity=np.array(quantities, dtype=object if wide else np.int64),
    )

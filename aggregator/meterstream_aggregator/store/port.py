"""The two faces of a store: what the worker writes through and what questions read through.

Times are integer microseconds UTC; amounts are ``quantity * 10**-scale``.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import NamedTuple, Protocol

from meterstream_aggregator.catalogue import Catalogue, Meter
from meterstream_aggregator.changes import (
    CallerKey,
    Changes,
    OutboxMessage,
    Place,
    Span,
)
from meterstream_aggregator.dedup import Numbers, ProducerKey, RefusedNumber
from meterstream_aggregator.sessions import Session, SessionKey
from meterstream_aggregator.state import SeriesOwner
from meterstream_aggregator.store.told import (
    ALL_DEAD_LETTERS,
    DeadLetterRow,
    DeadLettersWanted,
    ItemRow,
    PositionRow,
    ProducerRow,
    ReadingRow,
    SessionRow,
    UsageRow,
)
from meterstream_aggregator.subjects import Subject, SubjectKey
from meterstream_aggregator.thresholds import FiredRow, TotalRow, Waiting


class TopicBinding(NamedTuple):
    """The one topic generation that a store belongs to. ``topic_id`` is the broker's id of it."""

    topic: str
    topic_id: str
    partitions: int


class Claim(NamedTuple):
    """A partition that we own from now on, and where its folding stands.

    ``next_offset`` is None where nothing was folded yet; ``appended`` is the highest append time
    folded, 0 for none.
    """

    partition: int
    epoch: int
    next_offset: int | None
    appended: int


class Advance(NamedTuple):
    """How far one transaction moves one partition: the compare-and-set, and its counters.

    ``first`` is the lowest offset folded. The catalogue that the store is bound to at the commit is
    noted as what reads the partition from there on, when it was another one before.
    """

    partition: int
    epoch: int
    previous: int | None
    first: int
    next_offset: int
    appended: int
    counted: int
    duplicates: int
    refused: int


class OutboxRow(NamedTuple):
    """A message that left the fold and waits for its topic to take it."""

    id: int
    message: OutboxMessage


class StateReader(Protocol):
    """What the fold needs to know before it folds a batch."""

    def numbers(self, wanted: Iterable[ProducerKey]) -> dict[ProducerKey, Numbers]:
        """The seen numbers of producers; those never seen are absent from the answer."""
        ...

    def refused_numbers(self, wanted: Collection[RefusedNumber]) -> set[RefusedNumber]:
        """Those of these numbers that were seen and not counted."""
        ...

    def caller_keys(
        self, partition: int, wanted: Collection[tuple[str, str]]
    ) -> dict[tuple[str, str], CallerKey]:
        """What is known, by (tenant, key)."""
        ...

    def known_sessions(self, wanted: Collection[SessionKey]) -> dict[SessionKey, Session]:
        """The sessions that are known already."""
        ...

    def due_sessions(self, partition: int, appended: int) -> dict[SessionKey, Session]:
        """Sessions of a partition whose next deadline is at or before ``appended``."""
        ...

    def known_subjects(self, wanted: Collection[SubjectKey]) -> dict[SubjectKey, Subject]:
        """The subjects without session ids that are known already."""
        ...

    def due_subjects(self, partition: int, appended: int) -> dict[SubjectKey, Subject]:
        """Subjects of a partition whose next deadline is at or before ``appended``."""
        ...

    def known_series(
        self, wanted: Collection[SeriesOwner]
    ) -> dict[SeriesOwner, set[tuple[str, ...]]]:
        """The group values that have a series; an owner of none has an empty set."""
        ...

    def groups_in_use(self, meter: str, version: str, limit: int) -> set[tuple[str, ...]] | None:
        """The group values of all series of a definition; None where there are more than limit."""
        ...


class Store(StateReader, Protocol):
    """The writing side. Used by one thread. Every method may raise `StoreUnavailable`."""

    def bind(self, binding: TopicBinding, catalogue: Catalogue) -> None:
        """Tie the store to a topic and catalogue. Raises `StoreMismatch` where it has others."""
        ...

    def identity(self) -> str:
        """A random name given when the store was made: another one for every store ever made."""
        ...

    def refused_offsets(self, partition: int, first: int) -> list[int]:
        """Where a partition's dead letters lie from offset ``first`` on, rising."""
        ...

    def claim(self, partition: int, owner: str) -> Claim:
        """Raise the partition's epoch: whoever owned it before is fenced from now on."""
        ...

    def commit(self, advances: Sequence[Advance], changes: Changes) -> None:
        """All of it or nothing, in one transaction. Raises `Fenced`; then nothing was written."""
        ...

    def waiting(self, partitions: Collection[int], limit: int) -> list[tuple[int, Waiting]]:
        """The oldest steps of these partitions that wait for their account, with their ids."""
        ...

    def outbox(self, partitions: Collection[int], limit: int) -> list[OutboxRow]:
        """The oldest messages of these partitions that wait to leave."""
        ...

    def outbox_done(self, ids: Sequence[int]) -> None:
        """Forget messages that their topic has taken. Repeating it is harmless."""
        ...

    def close(self) -> None:
        """Let go of the database. The store must not be used afterwards."""
        ...


class StoreReader(Protocol):
    """The reading side: one thread, one consistent snapshot inside ``with reader.snapshot()``.

    Every method may raise `StoreUnavailable`.
    """

    def snapshot(self) -> AbstractContextManager[None]:
        """Everything read inside sees the same committed state."""
        ...

    def catalogue(self) -> Catalogue:
        """The catalogue that the rows were made with."""
        ...

    def topic(self) -> TopicBinding | None:
        """The topic generation this store belongs to, None before any worker bound it."""
        ...

    def usage(
        self,
        meter: Meter,
        *,
        tenants: Sequence[str] | None,
        start: int,
        end: int,
        periods: Sequence[int] | None = None,
    ) -> Iterator[UsageRow]:
        """Rows of windows that begin in [start, end), of some tenants or of all.

        Of the meter's one definition: `Meter.version` decides. With ``periods``, the boundaries of
        those that are asked for, rows of a series that differ only in their windows may come added
        up by period: as one row that begins with the first of the windows, and one of nothing that
        begins with the last.
        """
        ...

    def items(
        self, meter: Meter, *, tenants: Sequence[str] | None, start: int, end: int
    ) -> Iterator[ItemRow]:
        """The items of windows that begin in [start, end), of some tenants or of all."""
        ...

    def levels_before(
        self, meter: Meter, *, tenants: Sequence[str] | None, start: int
    ) -> Iterator[ItemRow]:
        """What holds at ``start`` of a time-weighted meter: per series its last samples before.

        From the latest back to the latest that came in time (arrival 0), that one included.
        """
        ...

    def changes_before(
        self, meter: Meter, *, tenants: Sequence[str] | None, start: int
    ) -> Iterator[UsageRow]:
        """What all windows before ``start`` add up to, one row per series, arrival and scale.

        For `Aggregate.TIME_WEIGHTED_CHANGES`; first moments are left out. ``start`` of the rows is
        that of the last window.
        """
        ...

    def adjustments(
        self,
        meter: Meter,
        *,
        tenants: Sequence[str] | None,
        start: int,
        end: int,
        arrived_from: int = 0,
        arrived_until: int = 2**62,
    ) -> Iterator[UsageRow]:
        """The rows of `usage` that came late and arrived in [arrived_from, arrived_until)."""
        ...

    def catalogues(self) -> dict[str, Catalogue]:
        """Every catalogue that this store was counted with, by version."""
        ...

    def readings(self) -> list[ReadingRow]:
        """Which catalogue read which part of the log, by partition and offset."""
        ...

    def places(self, partition: int, start: int, end: int) -> list[tuple[Place, Span]]:
        """Where the log has events of the times [start, end), by hour and segment."""
        ...

    def presences(
        self, partition: int, wanted: Mapping[int, tuple[int, int]]
    ) -> list[tuple[str, Span]]:
        """Which producers have events in these segments, one row for each, by name.

        ``wanted``: per segment the offsets (first, last) that are asked for. Whatever of a producer
        in a segment may lie between them counts, with all that it has in that segment.
        """
        ...

    def keys_of(self, tenant: str, start: int, end: int, limit: int) -> tuple[int, list[CallerKey]]:
        """How many callers' keys of a tenant have event times in [start, end), and the first.

        Ordered by (time, partition, key).
        """
        ...

    def awaited(self) -> int:
        """How many VOIDs wait for their original."""
        ...

    def overflowing(self) -> list[tuple[str, str, int]]:
        """(meter, tenant, events in the overflow series), sorted."""
        ...

    def sessions(
        self,
        *,
        tenants: Sequence[str] | None = None,
        type: str | None = None,  # noqa: A002 - the word of every layer
        state: str | None = None,
        start: int | None = None,
        end: int | None = None,
        limit: int = 1000,
        after: str | None = None,
    ) -> list[SessionRow]:
        """Sessions that overlap [start, end), ordered by (tenant, type, session).

        ``state`` is one of `SessionRow`, or ``conflicting``: with conflicts, in any state.
        ``after`` is the cursor of the last one seen: see `session_rows.cursor_of`. A limit of 0
        gives none.
        """
        ...

    def positions(self) -> list[PositionRow]:
        """One row per partition that was ever claimed."""
        ...

    def producers(
        self,
        producer: str | None = None,
        *,
        partition: int | None = None,
        lane: int | None = None,
    ) -> list[ProducerRow]:
        """One row per (producer, partition); with ``lane``, no other lanes are told of."""
        ...

    def dead_letters(
        self,
        wanted: DeadLettersWanted = ALL_DEAD_LETTERS,
        *,
        after: tuple[int, int] | None = None,
        limit: int = 1000,
    ) -> list[DeadLetterRow]:
        """Newest first; with ``after``, a (partition, offset), those that lie behind it, rising."""
        ...

    def threshold_totals(self, thresholds: Collection[str], start: int) -> list[TotalRow]:
        """Running totals of thresholds (see `thresholds.identity`), the latest periods first.

        Of periods that begin at ``start`` or later.
        """
        ...

    def threshold_notices(self, thresholds: Collection[str] | None, start: int) -> list[FiredRow]:
        """Which values were told of, of the same periods; of all thresholds ever for None."""
        ...

    def tenants(self) -> list[str]:
        """Every tenant that ever had usage, sorted."""
        ...

    def close(self) -> None:
        """Let go of the database."""
        ...

"""One worker's work, without Kafka and without a clock: raw records in, one commit out.

A batch goes through these steps; an error in any of them leaves store and memory as they were.

1. what is not ours or was folded before is left out;
2. append times become log times, which never fall within a partition;
3. records are decoded; what is no event becomes a dead letter;
4. what must be known is loaded, then the events are folded over it;
5. a flood of dead letters ends here;
6. whoever watches adds what follows from the changes, such as notices;
7. everything is committed at once.

What a worker remembers between batches is a cache of the store and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import numpy as np

from meterstream_aggregator.batch import Batch, appended_after, log_times
from meterstream_aggregator.changes import Changes
from meterstream_aggregator.columnar import fold_columns
from meterstream_aggregator.loading import load_state
from meterstream_aggregator.state import Memory, Readings, State
from meterstream_aggregator.store.port import Advance, Store
from meterstream_consumers.deadletters import add_outbox, add_undecodable
from meterstream_consumers.decode import Decoder
from meterstream_consumers.flood import FloodGuard
from meterstream_consumers.records import RawBatch, rows_to_fold

Watch: TypeAlias = Callable[[Batch, State, Changes], None]
"""Sees each folded batch before its commit, and may add to the changes."""


@dataclass(slots=True)
class Progress:
    """A partition that this worker owns. ``stored`` is the position the store has for it."""

    epoch: int
    stored: int | None
    position: int
    appended: int


class Folded(NamedTuple):
    """What one commit did."""

    records: int
    counted: int
    duplicates: int
    refused: int
    positions: dict[int, int]
    appended: int
    """The highest append time of the batch, microseconds; 0 for an empty one."""
    changes: Changes | None


class Folding:
    """Owns partitions of one store and folds batches into it. One thread.

    ``readings`` may be replaced between two batches by those of a catalogue that the store was
    bound to anew.
    """

    def __init__(
        self,
        store: Store,
        readings: Readings,
        decoder: Decoder,
        *,
        owner: str,
        topic: str,
        deadletters_topic: str,
        producers_cached_max: int = 20_000,
        commit_timer: Callable[[], AbstractContextManager[object]] = nullcontext,
        watch: Watch | None = None,
        flood: FloodGuard | None = None,
    ) -> None:
        self._store = store
        self.readings = readings
        self._decoder = decoder
        self._owner = owner
        self._topic = topic
        self._deadletters_topic = deadletters_topic
        self._producers_cached_max = producers_cached_max
        self._commit_timer = commit_timer
        self._watch = watch
        self._flood = flood
        self._memory = Memory()
        self.owned: dict[int, Progress] = {}

    def take(self, partition: int, lowest: Callable[[], int]) -> int:
        """Claim a partition; the offset to read from. ``lowest`` tells where a new one begins."""
        claim = self._store.claim(partition, self._owner)
        position = claim.next_offset if claim.next_offset is not None else lowest()
        self.owned[partition] = Progress(claim.epoch, claim.next_offset, position, claim.appended)
        self._memory.drop({partition})
        if self._flood is not None:
            stored = claim.next_offset or 0
            begin = self._flood.begins_at(stored)
            self._flood.take(partition, stored, self._store.refused_offsets(partition, begin))
        return position

    def let_go(self, partitions: Iterable[int]) -> None:
        """Own these no more. What was not committed is left to the next owner."""
        gone = set(partitions)
        for partition in gone:
            self.owned.pop(partition, None)
            if self._flood is not None:
                self._flood.let_go(partition)
        self._memory.drop(gone)

    def fold(self, raw: RawBatch) -> Folded:
        """Fold and commit what of ``raw`` is ours and new. On any error nothing has moved.

        Raises `Fenced`, `StoreUnavailable`, `SchemaUnavailable`; then claim anew. Raises
        `DeadLetterFlood`; then stop.
        """
        rows = rows_to_fold(raw, {p: progress.position for p, progress in self.owned.items()})
        if len(rows) < len(raw):
            raw = raw.kept(rows)
        if not len(raw):
            return Folded(0, 0, 0, 0, {}, 0, None)
        try:
            return self._fold(raw)
        except BaseException:
            # Numbers are changed in place: what was folded in vain must not be remembered.
            self._memory.clear()
            raise

    def _fold(self, raw: RawBatch) -> Folded:
        before = {partition: progress.appended for partition, progress in self.owned.items()}
        partitions, _, append_times = raw.places()
        highest = int(append_times.max())
        raw.read_at(log_times(partitions, append_times, before))
        after = appended_after(before, partitions, raw.places().append_time)
        decoded = self._decoder.decode(raw)
        state = load_state(decoded.batch, self._store, before, after, self._memory, self.readings)
        changes = fold_columns(decoded.batch, state, self.readings)
        add_undecodable(changes, raw, decoded.refused)
        changes.dead_letters.sort(key=lambda letter: (letter.partition, letter.offset))
        if self._flood is not None:
            self._flood.check(raw, changes.dead_letters)
        add_outbox(changes, raw, self._topic, self._deadletters_topic)
        if self._watch is not None:
            self._watch(decoded.batch, state, changes)
        advances = self._advances(raw, changes, after)
        with self._commit_timer():
            self._store.commit(advances, changes)
        if self._flood is not None:
            self._flood.committed()
        for advance in advances:
            progress = self.owned[advance.partition]
            progress.stored = progress.position = advance.next_offset
            progress.appended = advance.appended
        if len(self._memory.numbers) > self._producers_cached_max:
            self._memory.clear()
        self._memory.trim()
        return Folded(
            records=len(raw),
            counted=sum(advance.counted for advance in advances),
            duplicates=sum(advance.duplicates for advance in advances),
            refused=sum(advance.refused for advance in advances),
            positions={advance.partition: advance.next_offset for advance in advances},
            appended=highest,
            changes=changes,
        )

    def _advances(self, raw: RawBatch, changes: Changes, appended: dict[int, int]) -> list[Advance]:
        partitions, offsets, _ = raw.places()
        # Offsets rise within each partition: of an assignment to one place the last one stays.
        first = np.zeros(int(partitions.max()) + 1, dtype=np.int64)
        last = first.copy()
        first[partitions[::-1]] = offsets[::-1]
        last[partitions] = offsets
        advances: list[Advance] = []
        for partition in np.flatnonzero(np.bincount(partitions)).tolist():
            progress, tally = self.owned[partition], changes.tally(partition)
            advances.append(
                Advance(
                    partition=partition,
                    epoch=progress.epoch,
                    previous=progress.stored,
                    first=int(first[partition]),
                    next_offset=int(last[partition]) + 1,
                    appended=appended[partition],
                    counted=tally.counted,
                    duplicates=tally.duplicates,
                    refused=tally.refused,
                )
            )
        return advances

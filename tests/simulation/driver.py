"""Folds a log into a store the way a worker does: batch by batch, each with one commit."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from meterstream_aggregator.batch import LogRecord, appended_after, batch_of_records, log_times
from meterstream_aggregator.catalogue import Catalogue
from meterstream_aggregator.changes import Changes
from meterstream_aggregator.columnar import fold_columns
from meterstream_aggregator.fold import fold
from meterstream_aggregator.loading import load_state
from meterstream_aggregator.state import Memory, Readings, State
from meterstream_aggregator.store.port import Advance, Claim, Store, StoreReader, TopicBinding

BINDING = TopicBinding("meterstream.events", "topic-id", 4)
Fold = Callable[[Sequence[LogRecord], State, Readings], Changes]


def by_columns(records: Sequence[LogRecord], state: State, readings: Readings) -> Changes:
    """The fold that workers run."""
    return fold_columns(batch_of_records(records), state, readings)


def plainly(records: Sequence[LogRecord], state: State, readings: Readings) -> Changes:
    """The reference fold."""
    return fold(records, state, readings)


class Folder:
    """One worker's memory: claims, positions, and what it knows from earlier batches.

    Append times may fall: they are made log times first, as in a worker.
    """

    def __init__(self, store: Store, catalogue: Catalogue, folding: Fold = by_columns) -> None:
        store.bind(BINDING, catalogue)
        self._store = store
        self._readings = Readings(catalogue)
        self._folding = folding
        self._claims: dict[int, Claim] = {}
        self._memory = Memory()

    def claim(self, partitions: Iterable[int], owner: str = "worker") -> dict[int, Claim]:
        """Own partitions from now on; what was known of them may be old by now."""
        partitions = list(partitions)
        self._memory.drop(partitions)
        for partition in partitions:
            self._claims[partition] = self._store.claim(partition, owner)
        return dict(self._claims)

    def release(self, partition: int) -> None:
        """Own a partition no longer, and forget what is known of it."""
        del self._claims[partition]
        self._memory.drop([partition])

    @property
    def positions(self) -> dict[int, int]:
        """The next offset of each partition that is owned."""
        return {partition: claim.next_offset or 0 for partition, claim in self._claims.items()}

    def fold(self, records: Sequence[LogRecord]) -> Changes:
        """Fold one batch and commit it. On an error nothing is remembered of it."""
        appended = {partition: claim.appended for partition, claim in self._claims.items()}
        records = at_log_times(records, appended)
        batch = batch_of_records(records)
        try:
            after = appended_after(appended, batch.partition, batch.append_time)
            state = load_state(batch, self._store, appended, after, self._memory, self._readings)
            changes = self._folding(records, state, self._readings)
            advances = [self._advance(p, records, after[p], changes) for p in _partitions(records)]
            self._store.commit(advances, changes)
        except BaseException:
            self._memory.clear()
            raise
        for advance in advances:
            self._claims[advance.partition] = Claim(
                advance.partition, advance.epoch, advance.next_offset, advance.appended
            )
        return changes

    def _advance(
        self, partition: int, records: Sequence[LogRecord], appended: int, changes: Changes
    ) -> Advance:
        claim, tally = self._claims[partition], changes.tally(partition)
        offsets = [record.offset for record in records if record.partition == partition]
        return Advance(
            partition=partition,
            epoch=claim.epoch,
            previous=claim.next_offset,
            first=min(offsets),
            next_offset=max(offsets) + 1,
            appended=appended,
            counted=tally.counted,
            duplicates=tally.duplicates,
            refused=tally.refused,
        )


def at_log_times(records: Sequence[LogRecord], before: Mapping[int, int]) -> Sequence[LogRecord]:
    """The same records at the log's times: within a partition an append time never falls."""
    places = np.array([record[:3] for record in records], dtype=np.int64).reshape(-1, 3)
    times = log_times(places[:, 0], places[:, 2], before).tolist()
    return [record._replace(append_time=time) for record, time in zip(records, times, strict=True)]


def everything(reader: StoreReader, catalogue: Catalogue) -> dict[str, Any]:
    """All that a store can tell, in comparable form."""
    partitions = range(BINDING.partitions)
    places = {at: reader.places(at, 0, 2**62) for at in partitions}
    segments = {at: {place.segment for place, _ in found} for at, found in places.items()}
    return {
        "usage": {
            (meter.name, meter.version): sorted(
                reader.usage(meter, tenants=None, start=0, end=2**55)
            )
            for meter in catalogue.meters
        },
        "items": {
            (meter.name, meter.version): sorted(
                reader.items(meter, tenants=None, start=0, end=2**55)
            )
            for meter in catalogue.meters
        },
        "positions": [row._replace(epoch=0, owner="") for row in reader.positions()],
        "producers": reader.producers(),
        "sessions": reader.sessions(limit=10**9),
        "dead_letters": reader.dead_letters(limit=10**9),
        "tenants": reader.tenants(),
        "keys": {tenant: reader.keys_of(tenant, 0, 2**62, 10**9) for tenant in reader.tenants()},
        "awaited": reader.awaited(),
        "overflowing": reader.overflowing(),
        "places": places,
        "presences": {
            (at, segment): reader.presences(at, {segment: (0, 2**62)})
            for at in partitions
            for segment in segments[at]
        },
        "readings": reader.readings(),
    }


def _partitions(records: Sequence[LogRecord]) -> list[int]:
    return sorted({record.partition for record in records})

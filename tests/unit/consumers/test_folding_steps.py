"""The steps between fold and commit: log times, ticks, who watches, and a flood's end."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from meterstream_aggregator.changes import OutboxMessage
from meterstream_aggregator.store.memory import MemoryStore
from meterstream_consumers.decode import Decoder
from meterstream_consumers.errors import DeadLetterFlood
from meterstream_consumers.flood import FloodGuard, FloodLimits
from meterstream_consumers.folding import Folding, Watch
from meterstream_consumers.ticks import tick
from meterstream_schemas.codec import LATEST_ID
from meterstream_schemas.registry import BundledSchemas
from tests.simulation.driver import BINDING
from tests.unit.aggregator import making
from tests.unit.aggregator.making import NOW, READINGS, boundary, numbered
from tests.unit.consumers.making import Record, framed, raw_of

if TYPE_CHECKING:
    from meterstream_aggregator.batch import Batch
    from meterstream_aggregator.changes import Changes
    from meterstream_aggregator.state import State

MINUTE_MS = 60_000
LIMITS = FloodLimits(run_max=5, ratio_max=1.0)


@pytest.fixture
def store() -> MemoryStore:
    """A store for the small catalogue."""
    store = MemoryStore()
    store.bind(BINDING, making.CATALOGUE)
    return store


def worker(
    store: MemoryStore, *, watch: Watch | None = None, flood: FloodGuard | None = None
) -> Folding:
    """A worker that has just claimed partition 0."""
    made = Folding(
        store,
        READINGS,
        Decoder(BundledSchemas()),
        owner="worker",
        topic="events",
        deadletters_topic="letters",
        watch=watch,
        flood=flood,
    )
    made.take(0, lambda: 0)
    return made


def bad(offset: int) -> Record:
    """A record that is no event."""
    return Record(0, offset, NOW // 1000, b"\x07")


def test_a_tick_passes_time_and_nothing_else(store: MemoryStore) -> None:
    """A session times out by it; no tally, no dead letter, no producer."""
    mine = worker(store)
    mine.fold(raw_of([Record(0, 0, NOW // 1000, framed(boundary("START", NOW)))]))
    later = NOW // 1000 + 31 * MINUTE_MS

    folded = mine.fold(raw_of([Record(0, 1, later, tick(5, LATEST_ID), own_key=None)]))

    [session] = store.sessions()
    assert (folded.records, folded.counted, folded.duplicates, folded.refused) == (1, 0, 0, 0)
    assert mine.owned[0].appended == later * 1000
    assert session.state == "timed_out"
    assert store.dead_letters() == []
    assert [row.producer for row in store.producers()] == []


def test_a_clock_that_steps_back_reopens_nothing(store: MemoryStore) -> None:
    """Within a partition log time never falls: dead letters and the position carry the highest."""
    mine = worker(store)
    high = NOW // 1000 + 90 * MINUTE_MS
    mine.fold(raw_of([Record(0, 0, high, framed(numbered(1)))]))

    mine.fold(raw_of([Record(0, 1, high - MINUTE_MS, b"\x07")]))

    assert mine.owned[0].appended == high * 1000
    assert [letter.append_time for letter in store.dead_letters()] == [high * 1000]


def test_who_watches_sees_the_fold_and_adds_to_the_commit(store: MemoryStore) -> None:
    """Called once per batch, before the commit; what it adds to the outbox is committed."""
    seen: list[tuple[int, int, int]] = []

    def watch(batch: Batch, state: State, changes: Changes) -> None:
        committed = sum(row.counted for row in store.positions())
        seen.append((len(batch), state.after[0] // 1000, committed))
        changes.outbox.append(OutboxMessage(0, "notices", b"n", b"v", ()))

    mine = worker(store, watch=watch)
    mine.fold(raw_of([Record(0, 0, NOW // 1000, framed(numbered(1))), bad(1)]))
    mine.fold(raw_of([]))

    assert seen == [(1, NOW // 1000, 0)]
    assert [row.message.topic for row in store.outbox([0], 10)] == ["letters", "notices"]


def test_a_flood_commits_nothing_and_stands_at_a_new_start(store: MemoryStore) -> None:
    """The batch that goes beyond the limit leaves no trace, however often a worker begins."""
    mine = worker(store, flood=FloodGuard(LIMITS))
    mine.fold(raw_of([Record(0, 0, NOW // 1000, framed(numbered(1))), *map(bad, range(1, 4))]))
    for _ in range(3):
        with pytest.raises(DeadLetterFlood) as flood:
            mine.fold(raw_of(map(bad, range(4, 8))))
        assert flood.value.offset == 6
        mine = worker(store, flood=FloodGuard(LIMITS))

    assert [row.refused for row in store.positions()] == [3]
    assert len(store.outbox([0], 100)) == 3
    mine.fold(raw_of([*map(bad, range(4, 6)), Record(0, 6, NOW // 1000, framed(numbered(2)))]))
    assert [(row.counted, row.refused) for row in store.positions()] == [(2, 5)]


def test_a_storm_of_repeats_is_no_flood(store: MemoryStore) -> None:
    """One refused event that comes a hundred times is one refusal."""
    mine = worker(store, flood=FloodGuard(LIMITS))
    again = framed(numbered(1, type="nobody.reads"))

    mine.fold(raw_of(Record(0, n, NOW // 1000, again) for n in range(100)))

    assert [(row.duplicates, row.refused) for row in store.positions()] == [(99, 1)]

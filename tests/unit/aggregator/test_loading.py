"""What is asked of the store before a batch is folded: everything it needs, nothing twice."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from meterstream_aggregator.batch import batch_of_records
from meterstream_aggregator.catalogue import MINUTE
from meterstream_aggregator.dedup import Numbers, ProducerKey
from meterstream_aggregator.loading import load_state
from meterstream_aggregator.sessions import SessionKey
from meterstream_aggregator.store.memory import MemoryStore
from tests.simulation.driver import Folder
from tests.unit.aggregator.making import CATALOGUE, NOW, PRODUCER, boundary, event, logged, numbered

if TYPE_CHECKING:
    from collections.abc import Iterable

BEFORE = {0: NOW, 1: NOW}


class _Asked(MemoryStore):
    """Remembers which producers it was asked about."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[ProducerKey] = []

    def numbers(self, wanted: Iterable[ProducerKey]) -> dict[ProducerKey, Numbers]:
        self.asked = list(wanted)
        return super().numbers(self.asked)


@pytest.fixture
def store() -> _Asked:
    """A store that has folded a session, a key and a producer of partition 0."""
    store = _Asked()
    folder = Folder(store, CATALOGUE)
    folder.claim([0, 1])
    folder.fold(logged([numbered(1, key="k"), boundary("START", NOW), event(key="foreign")]))
    store.asked = []
    return store


def test_what_a_batch_names_is_loaded(store: _Asked) -> None:
    """Producers, keys and sessions of the batch, each in its own partition."""
    said = [numbered(2, key="k"), boundary("END", NOW, key="new"), numbered(3, producer="b")]
    records = logged(said) + [r._replace(partition=1) for r in logged(said)]

    state = load_state(batch_of_records(records), store, BEFORE, BEFORE, {})

    assert state.numbers.keys() == {ProducerKey(0, PRODUCER)}
    assert state.keys.keys() == {(0, "acme", "k")}
    assert state.sessions.keys() == {SessionKey(0, "acme", "run", "s1")}
    assert state.due == []
    assert set(store.asked) == {ProducerKey(p, name) for p in (0, 1) for name in (PRODUCER, "b")}


def test_what_is_known_is_not_asked_again(store: _Asked) -> None:
    """Producers known from earlier batches are used as they are in memory."""
    mine = Numbers()
    numbers = {ProducerKey(0, PRODUCER): mine}

    state = load_state(batch_of_records(logged([numbered(2)])), store, BEFORE, BEFORE, numbers)

    assert store.asked == []
    assert state.numbers[ProducerKey(0, PRODUCER)] is mine


def test_a_session_is_due_by_time_alone(store: _Asked) -> None:
    """Where a partition's time passes a deadline its sessions are loaded, events or not."""
    due = NOW + 1000 + 30 * MINUTE
    nothing = batch_of_records([])

    before = load_state(nothing, store, BEFORE, BEFORE | {0: due - 1}, {})
    after = load_state(nothing, store, BEFORE, BEFORE | {0: due}, {})
    elsewhere = load_state(nothing, store, BEFORE, BEFORE | {1: due}, {})

    key = SessionKey(0, "acme", "run", "s1")
    assert (list(before.due), list(after.due), list(elsewhere.due)) == ([], [key], [])
    assert key in after.sessions

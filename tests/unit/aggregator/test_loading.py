"""What is asked of the store before a batch is folded: everything it needs, nothing twice."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from meterstream_aggregator.batch import LogRecord, batch_of_records
from meterstream_aggregator.catalogue import HOUR, MINUTE
from meterstream_aggregator.catalogue_file import parse_catalogue
from meterstream_aggregator.changes import OVERFLOW
from meterstream_aggregator.dedup import Numbers, ProducerKey
from meterstream_aggregator.loading import load_state
from meterstream_aggregator.sessions import SessionKey
from meterstream_aggregator.state import KnownSeries, Memory, Readings, SeriesOwner, State
from meterstream_aggregator.store.memory import MemoryStore
from meterstream_aggregator.subjects import SubjectKey
from tests.simulation.driver import Folder
from tests.unit.aggregator.making import (
    CATALOGUE,
    NOW,
    PRODUCER,
    READINGS,
    boundary,
    event,
    logged,
    numbered,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

BEFORE = {0: NOW, 1: NOW}


SERIES = {meter.name: meter for meter in CATALOGUE.meters}


def load(
    records: Sequence[LogRecord],
    store: MemoryStore,
    memory: Memory,
    after: Mapping[int, int] = BEFORE,
    readings: Readings = READINGS,
) -> State:
    """The state to fold these records over."""
    return load_state(batch_of_records(records), store, BEFORE, after, memory, readings)


class _Asked(MemoryStore):
    """Remembers which producers it was asked about."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[ProducerKey] = []
        self.owners: list[SeriesOwner] = []
        self.definitions: list[str] = []

    def known_series(
        self, wanted: Collection[SeriesOwner]
    ) -> dict[SeriesOwner, set[tuple[str, ...]]]:
        self.owners = list(wanted)
        return super().known_series(wanted)

    def groups_in_use(self, meter: str, version: str, limit: int) -> set[tuple[str, ...]] | None:
        self.definitions.append(meter)
        return super().groups_in_use(meter, version, limit)

    def numbers(self, wanted: Iterable[ProducerKey]) -> dict[ProducerKey, Numbers]:
        self.asked = list(wanted)
        return super().numbers(self.asked)


@pytest.fixture
def store() -> _Asked:
    """A store that has folded a session, a key and a producer of partition 0."""
    store = _Asked()
    folder = Folder(store, CATALOGUE)
    folder.claim([0, 1])
    said = [numbered(1, key="k"), boundary("START", NOW), event(key="foreign")]
    folder.fold(logged([*said, boundary("START", NOW, session=None, subject="u")]))
    store.asked, store.owners, store.definitions = [], [], []
    return store


def test_what_a_batch_names_is_loaded(store: _Asked) -> None:
    """Producers, keys and sessions of the batch, each in its own partition."""
    said = [numbered(2, key="k"), boundary("END", NOW, key="new"), numbered(3, producer="b")]
    said += [boundary("END", NOW, session=None, subject=who) for who in ("u", None)]
    records = logged(said) + [r._replace(partition=1) for r in logged(said)]

    state = load(records, store, Memory())

    assert state.numbers.keys() == {ProducerKey(0, PRODUCER)}
    assert state.keys.keys() == {(0, "acme", "k")}
    assert state.sessions.keys() == {SessionKey(0, "acme", "run", "s1")}
    assert state.subjects.keys() == {SubjectKey(0, "acme", "run", "u")}
    assert state.due == []
    assert set(store.asked) == {ProducerKey(p, name) for p in (0, 1) for name in (PRODUCER, "b")}


def test_what_is_known_is_not_asked_again(store: _Asked) -> None:
    """Producers known from earlier batches are used as they are in memory."""
    mine = Numbers()
    memory = Memory()
    memory.numbers[ProducerKey(0, PRODUCER)] = mine

    state = load(logged([numbered(2)]), store, memory)

    assert store.asked == []
    assert state.numbers[ProducerKey(0, PRODUCER)] is mine


def test_a_session_is_due_by_time_alone(store: _Asked) -> None:
    """Where a partition's time passes a deadline its sessions are loaded, events or not."""
    due = NOW + 1000 + 30 * MINUTE
    before = load([], store, Memory(), BEFORE | {0: due - 1})
    after = load([], store, Memory(), BEFORE | {0: due})
    elsewhere = load([], store, Memory(), BEFORE | {1: due})

    key, subject = SessionKey(0, "acme", "run", "s1"), SubjectKey(0, "acme", "run", "u")
    assert (list(before.due), list(elsewhere.due)) == ([], [])
    assert list(after.due) == [key]
    assert after.sessions.keys() == {key}
    later = load([], store, Memory(), BEFORE | {0: due + 2000})
    assert list(later.due) == [key, subject]
    assert later.subjects.keys() == {subject}


def test_a_roomy_definition_asks_for_no_tenant(store: _Asked) -> None:
    """While an attribute has had few values no tenant can be over the limit."""
    memory = Memory()

    for n in range(3):
        load(logged([event(tenant=f"t{n}", attributes={"route": "/"})]), store, memory)

    assert store.definitions == ["calls", "bytes"]
    assert not store.owners
    assert SERIES["bytes"].version in memory.series.roomy


def test_a_crowded_definition_asks_for_each_tenant_once(store: _Asked) -> None:
    """With more values than the limit the tenants of the batch are asked for, and remembered."""
    memory, pay = Memory(), SERIES["pay"].version
    routes = [event(type="pay", attributes={"route": route}) for route in "abc"]

    load(logged(routes), store, memory)
    first = set(store.owners)
    store.owners = []
    load(logged(routes), store, memory)

    assert SeriesOwner(0, "acme", pay) in first
    assert {owner.tenant for owner in first} == {"acme"}
    assert pay in memory.series.crowded
    assert not store.owners


def test_sessions_count_for_what_nobody_saw(store: _Asked) -> None:
    """A known session may bring a group that is not in the batch: each takes room."""
    readings = Readings(
        parse_catalogue(
            "meters: [{name: run, aggregate: session, group_by: [route], timeout: 30m, "
            "limits: {series_per_tenant: 2}}]"
        )
    )
    [meter] = readings.session_meters
    due = BEFORE | {0: NOW + HOUR}

    state = load([], store, Memory(), due, readings)

    assert meter.version in state.series.crowded
    assert store.owners == [SeriesOwner(0, "acme", meter.version)]


def test_too_many_groups_in_the_store_make_a_crowd() -> None:
    """A store that says so is believed; what is over the limit shares a series from then on."""
    store = MemoryStore()
    folder = Folder(store, CATALOGUE)
    folder.claim([0])
    folder.fold(logged([event(type="pay", attributes={"route": route}) for route in "abc"]))
    memory, pay = Memory(), SERIES["pay"]

    state = load(logged([event(type="pay", attributes={"route": "d"})]), store, memory)

    assert pay.version in state.series.crowded
    owner = SeriesOwner(0, "acme", pay.version)
    assert state.admitted(owner, ("a",), 2) == ("a",)
    assert state.admitted(owner, ("d",), 2) == (OVERFLOW,)


def test_memory_is_bounded_and_may_be_dropped(store: _Asked) -> None:
    """Series are forgotten when there are too many, or when a partition is claimed."""
    memory = Memory(series_max=3)
    load(logged([numbered(2, attributes={"route": "/"})]), store, memory)
    assert memory.series.held > 0
    assert memory.numbers

    memory.drop({1})
    assert memory.numbers
    assert memory.series.held == 0

    load(logged([event(attributes={"route": route}) for route in "abcd"]), store, memory)
    memory.trim()
    assert memory.series.held == 0
    memory.drop({0})
    assert not memory.numbers
    load(logged([numbered(2)]), store, memory)
    memory.clear()
    assert not memory.numbers
    assert not memory.series.roomy


def test_what_sessions_admit_in_a_roomy_definition_is_seen() -> None:
    """Groups that come by themselves count for the room that is left."""
    series, meter = KnownSeries(), SERIES["pay"]
    series.begin(meter, [("a",)])
    assert not series.look(meter, others=0)

    assert series.admitted(SeriesOwner(0, "t", meter.version), ("b",), 2) == ("b",)

    assert series.look(meter, others=0)
    assert series.look(meter, others=0)
    series.saw("nobody's", ["x"])
    assert series.held == 3

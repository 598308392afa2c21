"""Folding a log: crashes, redelivery and zombies leave what one clean run leaves."""

from __future__ import annotations

import random
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from meterstream_aggregator.catalogue_file import parse_catalogue
from meterstream_aggregator.errors import Fenced, StoreUnavailable
from meterstream_aggregator.state import Readings
from meterstream_aggregator.store.memory import MemoryStore
from meterstream_aggregator.store.sqlite import SqliteStore
from meterstream_aggregator.store.sqlite_reader import open_reader
from meterstream_consumers.decode import Decoder
from meterstream_consumers.folding import Folding
from meterstream_schemas.registry import BundledSchemas
from tests.simulation.driver import BINDING, everything
from tests.simulation.generator import CATALOGUE, world
from tests.unit.aggregator import making
from tests.unit.aggregator.making import NOW, boundary, numbered
from tests.unit.consumers.making import Record, folding, framed, raw_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from meterstream_aggregator.changes import Changes, OutboxMessage
    from meterstream_aggregator.store.port import Advance, Store, StoreReader
    from meterstream_consumers.records import RawBatch

WORLD = parse_catalogue(CATALOGUE)
READINGS = Readings(WORLD)
PARTITIONS = 4
Log = dict[int, list[Record]]


def log_of(seed: int) -> Log:
    """A world's log with garbage, tombstones and holes between the events."""
    rng = random.Random(seed)
    log: Log = {partition: [] for partition in range(PARTITIONS)}
    for partition, offset, append_time, event in world(seed, 250)[1]:
        records = log[partition]
        records.append(Record(partition, 2 * offset, append_time // 1000, framed(event)))
        if rng.random() < 0.05:
            value = rng.choice((None, b"", b"\x00\x00\x00\x00\x01\xff", framed(event)[:-3]))
            later = append_time // 1000 + rng.choice((0, 0, 3_600_000))
            records.append(Record(partition, 2 * offset + 1, later, value))
    return log


def worker(store: Store, partitions: Sequence[int] = range(PARTITIONS)) -> Folding:
    """A worker that has just claimed these partitions."""
    made = Folding(
        store,
        READINGS,
        Decoder(BundledSchemas()),
        owner="w",
        topic="events",
        deadletters_topic="letters",
        producers_cached_max=3,
    )
    for partition in partitions:
        made.take(partition, lambda: 0)
    return made


def outcome(store: Store, reader: StoreReader) -> dict[str, Any]:
    """All that a store tells, and what waits to leave, in the order of each partition."""
    left = {p: [row.message for row in store.outbox([p], 10**6)] for p in range(PARTITIONS)}
    return everything(reader, WORLD) | {"outbox": left}


def clean_run(log: Log) -> dict[str, Any]:
    """The whole log at once, in memory."""
    store = MemoryStore()
    store.bind(BINDING, WORLD)
    worker(store).fold(raw_of(record for records in log.values() for record in records))
    return outcome(store, store)


class _Crash(Exception):
    """The process dies here."""


class _Failing:
    """A store whose commit dies before or after it is done, when it is told to."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.dies: str | None = None

    def commit(self, advances: Sequence[Advance], changes: Changes) -> None:
        dies, self.dies = self.dies, None
        if dies == "before":
            raise StoreUnavailable("the disk is full")
        self.store.commit(advances, changes)
        if dies == "after":
            raise _Crash

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever the store has
        return getattr(self.store, name)


def _fetched(rng: random.Random, log: Log, owned: Folding) -> list[Record]:
    """What a client may hand out: from each position on, from before it, twice, not ours."""
    fetched: list[Record] = []
    for partition, records in log.items():
        progress = owned.owned.get(partition)
        at = progress.position if progress is not None else 0
        begin = next((n for n, r in enumerate(records) if r.offset >= at), len(records))
        begin = max(begin - rng.choice((0, 0, 0, 5)), 0)
        piece = records[begin : begin + rng.choice((0, 1, 5, 40))]
        fetched += piece
        if rng.random() < 0.1:
            fetched += piece[len(piece) // 2 :]
    return fetched


def hostile_run(store: Store, log: Log, rng: random.Random) -> int:
    """Fold the log to its end with every kind of accident; how many accidents there were."""
    failing = _Failing(store)
    mine = worker(failing)
    zombies: list[Folding] = []
    accidents = 0
    while any(mine.owned[p].position <= records[-1].offset for p, records in log.items()):
        failing.dies = rng.choice((None, None, None, "before", "after"))
        partition = rng.randrange(PARTITIONS)
        if rng.random() < 0.1:
            mine.let_go([partition])
            if failing.dies is None:
                mine.fold(raw_of(_fetched(rng, log, mine)))
            mine.take(partition, lambda: 0)
        try:
            mine.fold(raw_of(_fetched(rng, log, mine)))
        except (_Crash, StoreUnavailable):
            accidents += 1
            zombies.append(mine)
            mine = worker(failing)
        failing.dies = None
        if zombies and rng.random() < 0.5:
            zombie = zombies.pop()
            _must_be_fenced(zombie, raw_of(_fetched(rng, log, zombie)))
    return accidents


def _must_be_fenced(zombie: Folding, fetched: RawBatch) -> None:
    """A former owner folds what it has: nothing of it may be written."""
    try:
        folded = zombie.fold(fetched)
    except Fenced:
        return
    assert folded.records == 0


@pytest.mark.parametrize("seed", range(10))
def test_accidents_leave_no_trace(seed: int) -> None:
    """Killed before and after commits, redelivered, fenced: the store of one clean run."""
    log = log_of(seed)
    store = MemoryStore()
    store.bind(BINDING, WORLD)

    accidents = hostile_run(store, log, random.Random(seed + 100))

    assert accidents > 1
    assert outcome(store, store) == clean_run(log)


@pytest.mark.parametrize("seed", range(20, 23))
def test_accidents_leave_no_trace_on_disk(seed: int, tmp_path: Path) -> None:
    """The same in SQLite, where a commit is a transaction."""
    log = log_of(seed)
    store = SqliteStore(tmp_path / "s.sqlite3")
    store.bind(BINDING, WORLD)

    accidents = hostile_run(store, log, random.Random(seed))

    reader = open_reader(tmp_path / "s.sqlite3")
    assert accidents > 1
    assert outcome(store, reader) == clean_run(log)
    reader.close()
    store.close()


@pytest.fixture
def store() -> MemoryStore:
    """A store for the small catalogue."""
    store = MemoryStore()
    store.bind(BINDING, making.CATALOGUE)
    return store


def test_garbage_passes_time(store: MemoryStore) -> None:
    """A session is over when the log's time says so, also where only garbage carried the time."""
    start = [
        Record(0, 0, NOW // 1000, framed(boundary("START", NOW))),
        Record(0, 1, NOW // 1000, framed(boundary("HEARTBEAT", NOW + 60_000_000))),
    ]
    garbage = [Record(0, 2, NOW // 1000 + 31 * 60_000, b"\x07")]
    late = [Record(0, 3, NOW // 1000 + 32 * 60_000, framed(numbered(1)))]
    mine = folding(store)

    mine.fold(raw_of(start))
    mine.fold(raw_of(garbage))
    [timed_out] = store.sessions()
    mine.fold(raw_of(late))

    usage = store.usage(making.CATALOGUE.meter("run"), tenants=None, start=0, end=2**55)
    assert timed_out.state == "timed_out"
    assert [(row.events, row.quantity) for row in usage] == [(1, 60_000_000)]


def test_a_batch_of_garbage_moves_the_position(store: MemoryStore) -> None:
    """Nothing but garbage: dead letters, a step on, and the partition goes on."""
    mine = folding(store)

    folded = mine.fold(raw_of([Record(0, 7, 5, None), Record(1, 9, 6, b"\x07")]))

    assert (folded.records, folded.refused, folded.positions) == (2, 2, {0: 8, 1: 10})
    assert folded.appended == 6_000
    assert [letter.offset for letter in store.dead_letters()] == [9, 7]
    assert mine.take(0, lambda: 99) == 8


def test_nothing_new_is_no_commit(store: MemoryStore) -> None:
    """Records that are not ours or were folded before are left out without a trace."""
    mine = folding(store, [0])
    record = Record(0, 5, NOW // 1000, framed(numbered(1)))
    mine.fold(raw_of([record]))

    again = mine.fold(raw_of([record, Record(1, 0, 5, framed(numbered(2)))]))

    assert again.records == 0
    assert again.changes is None
    assert [row.counted for row in store.positions()] == [1]


def test_a_dead_letter_keeps_the_record(store: MemoryStore) -> None:
    """Bytes, key and headers as they came, and who, where and why in headers of our own."""
    bad = framed(numbered(1, tenant="\x00é"))
    mine = folding(store)
    mine.fold(
        raw_of(
            [
                Record(0, 4, 1_234, bad, [("own", b"\xff"), ("none", None)], b"\xfe"),
                Record(0, 5, 1_235, None, own_key=None),
            ]
        )
    )

    first, second = (row.message for row in store.outbox([0], 10))
    headers: dict[str, bytes] = dict(first.headers)

    assert (first.topic, first.key, first.value) == ("letters", b"0-4", bad)
    assert headers.pop("meterstream-detail").startswith(b"tenant: ")
    assert headers == {
        "meterstream-reason": b"invalid_tenant", "meterstream-topic": b"events",
        "meterstream-partition": b"0", "meterstream-offset": b"4",
        "meterstream-append-time": b"1234", "meterstream-key": b"\xfe", "own": b"\xff", "none": b"",
    }  # fmt: skip
    assert (second.key, second.value) == (b"0-5", None)
    assert "meterstream-key" not in dict(second.headers)


def test_messages_leave_in_the_order_of_the_log(store: MemoryStore) -> None:
    """Undecodable and refused records stand in the outbox by partition and offset."""
    values = [None, framed(numbered(1, type="x")), b"", framed(numbered(2, type="y"))]
    mine = folding(store)

    mine.fold(raw_of(Record(n % 2, n, 5, value) for n, value in enumerate(values)))

    messages: list[OutboxMessage] = [row.message for row in store.outbox([0, 1], 10)]
    assert [message.key for message in messages] == [b"0-0", b"0-2", b"1-1", b"1-3"]


def test_a_commit_is_timed(store: MemoryStore) -> None:
    """Whoever measures commits is entered once for each of them."""
    entered: list[str] = []

    @contextmanager
    def timer() -> Iterator[None]:
        entered.append("in")
        yield
        entered.append("out")

    mine = folding(store)
    mine._commit_timer = timer
    mine.fold(raw_of([Record(0, 5, NOW // 1000, framed(numbered(1)))]))
    mine.fold(raw_of([]))

    assert entered == ["in", "out"]

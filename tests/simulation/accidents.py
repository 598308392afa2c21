"""Workers in trouble on one store: everything that may happen to them while they fold a log.

They die before, inside and after their commits, come back with empty memories, read records again,
win and lose partitions, and go on writing as zombies, which the store must fence. Inside a commit
they die at a random instruction of SQLite's own machine, or PostgreSQL ends their session at a
random statement.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from meterstream_aggregator.errors import Fenced, StoreUnavailable
from meterstream_aggregator.store.opening import open_store
from meterstream_aggregator.store.postgres.connection import Connection, connect
from meterstream_aggregator.store.postgres.store import PostgresStore
from meterstream_aggregator.store.sqlite import SqliteStore
from tests.simulation.driver import BINDING, Folder

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Generator, Mapping, Sequence

    from meterstream_aggregator.batch import LogRecord
    from meterstream_aggregator.catalogue import Catalogue
    from meterstream_aggregator.store.address import PostgresAddress, StoreAddress
    from meterstream_aggregator.store.port import Store

Log = dict[int, list["LogRecord"]]


def by_partition(records: Sequence[LogRecord]) -> Log:
    """The log of each partition."""
    log: Log = {partition: [] for partition in range(BINDING.partitions)}
    for record in records:
        log[record.partition].append(record)
    return log


@dataclass
class _Worker:
    """One process: its connection, its memory, and the partitions it is to have."""

    place: StoreAddress
    catalogue: Catalogue
    owned: set[int]
    store: Store = field(init=False)
    folder: Folder = field(init=False)

    def __post_init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        """Start as a new process does."""
        self.store = open_store(self.place)
        self.claim()

    def claim(self) -> None:
        """Begin anew on the same connection, after an error."""
        self.folder = Folder(self.store, self.catalogue)
        self.folder.claim(sorted(self.owned))

    def die(self) -> None:
        """Die and come back."""
        self.store.close()
        self.begin()

    def fold(self, log: Log, rng: random.Random) -> None:
        """Fold what comes next in some of the partitions that this worker believes to own."""
        batch: list[LogRecord] = []
        for partition, position in self.folder.positions.items():
            upto = rng.choice((0, 1, 3, 9, 40))
            batch += [r for r in log[partition] if r.offset >= position][:upto]
        if batch:
            self.folder.fold(_mixed(batch, rng))


def _mixed(batch: list[LogRecord], rng: random.Random) -> list[LogRecord]:
    """The same records; those of one partition stay in order."""
    queues = [queue for queue in by_partition(batch).values() if queue]
    mixed: list[LogRecord] = []
    while queues:
        queue = rng.choice(queues)
        upto = rng.choice((1, 1, 10))
        mixed += queue[:upto]
        del queue[:upto]
        queues = [each for each in queues if each]
    return mixed


def fold_with_accidents(
    place: StoreAddress,
    catalogue: Catalogue,
    records: Sequence[LogRecord],
    rng: random.Random,
    look: Callable[[], None] = lambda: None,
) -> Mapping[str, int]:
    """Fold the log to its end; how often each kind of accident happened.

    ``look`` is called now and then, between two commits.
    """
    log = by_partition(records)
    homes = {partition: rng.randrange(3) for partition in log}
    workers = [
        _Worker(place, catalogue, {p for p, home in homes.items() if home == number})
        for number in range(3)
    ]
    happened = {"inside": 0, "after": 0, "fenced": 0, "moved": 0, "restarted": 0}
    while any(_rest(log, worker) for worker in workers):
        worker = rng.choice(workers)
        match rng.choice(
            ("fold", "fold", "fold", "inside", "inside", "after", "move", "die", "look")
        ):
            case "inside":
                happened["inside"] += _dies_inside(worker, log, rng)
            case "move":
                happened["moved"] += _moves(worker, rng.choice(workers), rng)
            case "die":
                worker.die()
                happened["restarted"] += 1
            case "look":
                look()
            case what:
                happened["fenced"] += _folds(worker, log, rng)
                if what == "after":
                    worker.die()
                    happened["after"] += 1
    look()
    for worker in workers:
        worker.store.close()
    return happened


def _rest(log: Log, worker: _Worker) -> bool:
    """Whether there is something left to fold in a partition that is really this worker's."""
    positions = worker.folder.positions
    return any(
        log[p] and (p not in positions or positions[p] <= log[p][-1].offset) for p in worker.owned
    )


def _folds(worker: _Worker, log: Log, rng: random.Random) -> bool:
    """One commit; a worker that is fenced begins anew with what is really its own."""
    try:
        worker.fold(log, rng)
    except Fenced:
        assert set(worker.folder.positions) != worker.owned, "fenced in its own partitions"
        worker.claim()
        return True
    return False


def _dies_inside(worker: _Worker, log: Log, rng: random.Random) -> bool:
    """One commit that the database breaks off somewhere, if it lasts that long."""
    store = worker.store
    try:
        with _broken_off(store, rng):
            _folds(worker, log, rng)
    except StoreUnavailable:
        if rng.random() < 0.5:
            worker.die()
        elif isinstance(store, PostgresStore):
            worker.claim()
        return True
    return False


@contextmanager
def _broken_off(store: Store, rng: random.Random) -> Generator[None]:
    if isinstance(store, PostgresStore):
        with store._link.session() as connection:
            pass
        with _ended(store._address, connection, rng.randrange(1, 30)):
            yield
        return
    assert isinstance(store, SqliteStore)
    steps = rng.choice((1, 10, 100, 1_000, 10_000))
    left = rng.randrange(1, 10)

    def broken() -> bool:
        nonlocal left
        left -= 1
        return left == 0  # once: what takes it back is not disturbed

    store._db.set_progress_handler(broken, steps)
    try:
        yield
    finally:
        store._db.set_progress_handler(None, 0)


@contextmanager
def _ended(address: PostgresAddress, connection: Connection, left: int) -> Generator[None]:
    """Before so many statements more the server ends the session."""
    execute = connection.execute
    backend = connection.info.backend_pid

    def counted(*asked: Any, **more: Any) -> Any:  # noqa: ANN401 - as psycopg takes it
        nonlocal left
        left -= 1
        if left == 0:
            with connect(address, "migrate") as other:
                other.execute("SELECT pg_terminate_backend(%s, 5000)", (backend,))
        return execute(*asked, **more)

    connection.execute = counted  # type: ignore[method-assign] # of this one session
    try:
        yield
    finally:
        connection.execute = execute  # type: ignore[method-assign] # as it was


def _moves(old: _Worker, new: _Worker, rng: random.Random) -> bool:
    """A partition changes hands; the old owner may not have noticed."""
    if old is new or not old.owned:
        return False
    partition = rng.choice(sorted(old.owned))
    old.owned.remove(partition)
    new.owned.add(partition)
    new.folder.claim([partition])
    if rng.random() < 0.5 and partition in old.folder.positions:
        old.folder.release(partition)
    return True

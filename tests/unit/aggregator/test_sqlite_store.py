"""The store in one SQLite file: all or nothing, snapshots, and files that are something else."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING, Any

import pytest

from meterstream_aggregator.catalogue import Aggregate
from meterstream_aggregator.changes import (
    CallerKey,
    Changes,
    DeadLetter,
    OutboxMessage,
    SeriesKey,
    UsageKey,
    usage_delta,
)
from meterstream_aggregator.dedup import Numbers, ProducerKey, RefusedNumber
from meterstream_aggregator.errors import StoreMismatch, StoreUnavailable
from meterstream_aggregator.refusals import Reason, Refusal
from meterstream_aggregator.sessions import Session, SessionKey
from meterstream_aggregator.store import sqlite
from meterstream_aggregator.store.port import Advance, TopicBinding
from meterstream_aggregator.store.sqlite import SqliteStore
from meterstream_aggregator.store.sqlite_reader import open_reader
from tests.unit.aggregator.making import CATALOGUE, NOW, PRODUCER

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

BINDING = TopicBinding("events", "id-1", 4)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the store of a test lies."""
    return tmp_path / "store.sqlite3"


@pytest.fixture
def store(path: Path) -> Iterator[SqliteStore]:
    """A bound store."""
    store = SqliteStore(path)
    store.bind(BINDING, CATALOGUE)
    yield store
    store.close()


def whole(quantity: int = 5) -> Changes:
    """Changes with something of every kind."""
    key = UsageKey(SeriesKey(0, "acme", "credit", ()), 0, 0)
    why = Refusal(Reason.INVALID_TIME, "sentence")
    credit = CATALOGUE.meter("credit")
    return Changes(
        usage=[usage_delta("credit", Aggregate.SUM, credit.window, {key: (1, quantity)})],
        numbers={ProducerKey(0, PRODUCER): Numbers(counted=1)},
        sessions={SessionKey(0, "acme", "run", "s"): (Session((), (), NOW, NOW), None)},
        refused={RefusedNumber(0, PRODUCER, 7, 1): True},
        keys=[CallerKey(0, "acme", "k", b"x" * 16, NOW)],
        dead_letters=[DeadLetter(0, 3, NOW, why, "t", "y", "", 0, 0)],
        outbox=[OutboxMessage(0, "letters", b"k", b"v", ())],
    )


def content(path: Path) -> dict[str, list[Any]]:
    """Every row of every table."""
    db = sqlite3.connect(path)
    names = [row[0] for row in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    rows = {name: db.execute(f"SELECT * FROM {name}").fetchall() for name in names}
    db.close()
    return rows


@pytest.mark.parametrize(
    "table",
    [
        *("series", "usage", "producer", "session"),
        *("refused_number", "caller_key", "dead_letter", "outbox"),
    ],
)
def test_a_failure_anywhere_leaves_nothing(store: SqliteStore, path: Path, table: str) -> None:
    """Whichever write fails, the file is as before; the same commit then goes through."""
    claim = store.claim(0, "a")
    advance = Advance(0, claim.epoch, None, 4, NOW, 1, 0, 1)
    before = content(path)
    store._db.execute(
        f"CREATE TEMP TRIGGER fails BEFORE INSERT ON main.{table}"
        " BEGIN SELECT raise(ABORT, 'database or disk is full'); END"
    )

    with pytest.raises(sqlite3.IntegrityError):
        store.commit([advance], whole())

    assert content(path) == before
    store._db.execute("DROP TRIGGER fails")
    store.commit([advance], whole())
    after = content(path)
    assert all(after[name] for name in after if name != "sqlite_sequence")
    assert len(after["usage"]) == len(after["series"]) == 1


def test_a_full_disk_is_to_be_waited_out(store: SqliteStore, path: Path) -> None:
    """SQLite's full disk is `StoreUnavailable`; nothing was written, and later it goes on."""
    claim = store.claim(0, "a")
    advance = Advance(0, claim.epoch, None, 4, NOW, 1, 0, 1)
    before = content(path)
    pages = store._db.execute("PRAGMA page_count").fetchone()[0]
    store._db.execute(f"PRAGMA max_page_count = {pages}")
    large = whole()
    large.outbox = [OutboxMessage(0, "letters", b"k", b"v" * 100_000, ())]

    with pytest.raises(StoreUnavailable, match="full; nothing was written"):
        store.commit([advance], large)

    assert content(path) == before
    store._db.execute("PRAGMA max_page_count = 1000000")
    store.commit([advance], large)
    assert content(path)["outbox"]


def test_a_locked_store_is_to_be_waited_out(
    store: SqliteStore, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody else's long transaction is `StoreUnavailable` once patience ends."""
    monkeypatch.setattr(sqlite, "_BUSY_SECONDS", 0.05)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    impatient = pytest.raises(StoreUnavailable, match="locked; nothing was written")

    with impatient:
        SqliteStore(path)

    other.execute("ROLLBACK")
    other.close()
    SqliteStore(path).close()


def test_a_reader_sees_one_moment(store: SqliteStore, path: Path) -> None:
    """Inside a snapshot nothing changes, whatever is committed; after it, everything is new."""
    claim = store.claim(0, "a")
    store.commit([Advance(0, claim.epoch, None, 4, NOW, 1, 0, 1)], whole(5))
    reader, meter = open_reader(path), CATALOGUE.meter("credit")

    def seen() -> tuple[int, int]:
        [row] = reader.usage(meter, tenants=["acme"], start=0, end=NOW)
        [position] = reader.positions()
        return row.quantity, position.next_offset

    with reader.snapshot():
        first = seen()
        store.commit([Advance(0, claim.epoch, 4, 9, NOW, 1, 0, 0)], whole(7))
        again = seen()
    after = seen()

    assert (first, again, after) == ((5, 4), (5, 4), (12, 9))
    with reader.snapshot():
        assert seen() == (12, 9)
    reader.close()


def test_no_store_yet(path: Path) -> None:
    """A reader waits for the first worker, and does not make a file."""
    with pytest.raises(StoreUnavailable, match="there is no store yet; start a worker"):
        open_reader(path)

    assert not path.exists()


def test_a_store_in_the_making(path: Path) -> None:
    """An empty file is a store that a worker is just making."""
    path.touch()

    with pytest.raises(StoreUnavailable, match="is being made; try again"):
        open_reader(path)
    SqliteStore(path).close()


def test_a_file_that_is_no_database(path: Path) -> None:
    """Text in place of a database is not overwritten: another file must be named."""
    path.write_text("not a database at all\n" * 200)

    with pytest.raises(StoreMismatch, match=r"is not a SQLite database.*name another file"):
        SqliteStore(path)
    with pytest.raises((StoreMismatch, StoreUnavailable)):
        open_reader(path)
    assert path.read_text().startswith("not a database")


def test_a_database_of_somebody_else(path: Path) -> None:
    """Neither another program's tables nor another version's are touched."""
    db = sqlite3.connect(path)
    db.execute("CREATE TABLE theirs (x)")
    db.commit()

    with pytest.raises(StoreMismatch, match="version 0, this program keeps version 1"):
        SqliteStore(path)
    db.execute("PRAGMA user_version = 99")
    with pytest.raises(StoreMismatch, match=r"version 99.*rebuild the store from the log"):
        SqliteStore(path)
    with pytest.raises(StoreMismatch, match="has version 99, this program reads 1"):
        open_reader(path)

    assert db.execute("SELECT name FROM sqlite_master").fetchall() == [("theirs",)]
    assert db.execute("PRAGMA journal_mode").fetchone() == ("delete",)
    db.close()


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    """A missing directory may still be mounted: to be waited out, with its path told."""
    with pytest.raises(StoreUnavailable, match=r"nowhere/s\.sqlite3: unable to open"):
        SqliteStore(tmp_path / "nowhere" / "s.sqlite3")


def test_a_reader_cannot_write(store: SqliteStore, path: Path) -> None:
    """The reading side has no way to change a figure."""
    reader = open_reader(path)

    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        reader._db.execute("DELETE FROM usage")
    reader.close()


def test_series_are_found_again(
    store: SqliteStore, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A series has one row however often its id was forgotten."""
    monkeypatch.setattr(sqlite, "SERIES_CACHED_MAX", 2)
    meter, claim = CATALOGUE.meter("credit.most"), store.claim(0, "a")
    for turn in range(3):
        rows = {
            UsageKey(SeriesKey(0, f"t{n}", meter.name, ("é\x00\ud7ff",)), 0, 0): (1, turn + n)
            for n in range(5)
        }
        changes = Changes(usage=[usage_delta(meter.name, meter.aggregate, meter.window, rows)])
        position = None if turn == 0 else turn
        store.commit([Advance(0, claim.epoch, position, turn + 1, NOW, 0, 0, 0)], changes)

    assert len(content(path)["series"]) == 5
    reader = open_reader(path)
    found = sorted(reader.usage(meter, tenants=None, start=0, end=1))
    assert [(row.tenant, row.group, row.events, row.quantity) for row in found] == [
        (f"t{n}", ("é\x00\ud7ff",), 3, n + 2) for n in range(5)
    ]
    reader.close()

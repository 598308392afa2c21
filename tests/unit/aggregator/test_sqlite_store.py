"""The store in one SQLite file: all or nothing, snapshots, and files that are something else."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING, Any

import pytest

from meterstream_aggregator.catalogue import MINUTE
from meterstream_aggregator.changes import (
    Changes,
    DeadLetter,
    Item,
    ItemKey,
    OutboxMessage,
    Place,
    Presence,
    Span,
)
from meterstream_aggregator.dedup import Numbers, ProducerKey, RefusedNumber
from meterstream_aggregator.errors import StoreMismatch, StoreUnavailable
from meterstream_aggregator.refusals import Reason, Refusal
from meterstream_aggregator.sessions import Session, SessionKey, Start
from meterstream_aggregator.state import SeriesOwner
from meterstream_aggregator.store import sqlite, sqlite_series
from meterstream_aggregator.store.port import Advance, TopicBinding
from meterstream_aggregator.store.sqlite import SqliteStore
from meterstream_aggregator.store.sqlite_reader import open_reader
from meterstream_aggregator.subjects import Subject
from tests.contract.stores import CATALOGUE, NOW, added, caller_key, keys, row, series, subject_key

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

BINDING = TopicBinding("events", "id-1", 4)
PRODUCER = "a" * 32


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
    why = Refusal(Reason.INVALID_TIME, "sentence")
    return Changes(
        usage=added({row(0): (1, quantity)}).usage,
        items={ItemKey(series(), 0, 0, "x"): Item(5, 0, "", 3, quantity, 0)},
        numbers={ProducerKey(0, PRODUCER): Numbers(counted=1)},
        sessions={SessionKey(0, "acme", "run", "s"): (Session((), (), NOW, NOW), None)},
        subjects={subject_key("u"): (Subject(last_append=NOW), None)},
        refused={RefusedNumber(0, PRODUCER, 7, 1): True},
        keys=keys(caller_key()).keys,
        places={Place(0, 5, 0): Span(1, 2, 2)},
        presences={Presence(0, PRODUCER, 0): Span(1, 2, 2)},
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
        *("reading", "series", "usage", "late", "item", "producer", "session", "subject"),
        *("place", "presence", "refused_number", "caller_key", "dead_letter", "outbox"),
    ],
)
def test_a_failure_anywhere_leaves_nothing(store: SqliteStore, path: Path, table: str) -> None:
    """Whichever write fails, the file is as before; the same commit then goes through."""
    claim = store.claim(0, "a")
    advance = Advance(0, claim.epoch, None, 0, 4, NOW, 1, 0, 1)
    before = content(path)
    store._db.execute(
        f"CREATE TEMP TRIGGER fails BEFORE INSERT ON main.{table}"
        " BEGIN SELECT raise(ABORT, 'database or disk is full'); END"
    )

    changes = whole()
    changes.usage += added({row(0, arrival=NOW): (1, 2)}).usage

    with pytest.raises(sqlite3.IntegrityError):
        store.commit([advance], changes)

    assert content(path) == before
    store._db.execute("DROP TRIGGER fails")
    store.commit([advance], changes)
    after = content(path)
    unused = ("sqlite_", "threshold_")
    assert all(after[name] for name in after if not name.startswith(unused))
    assert len(after["late"]) == len(after["series"]) == 1
    assert len(after["usage"]) == 2


def test_late_keys_are_those_of_the_late_rows(store: SqliteStore, path: Path) -> None:
    """None is missing and none is left over when late rows come, leave and come again."""
    claim = store.claim(0, "a")
    both = [row(0, arrival=NOW), row(60 * MINUTE, arrival=NOW, scale=2), row(0)]
    least = row(0, arrival=NOW, meter="credit.least")
    found: list[int] = []
    for turn, amount in enumerate([(2, 5), (-2, -5), (0, 0), (0, 7), (0, -7), (1, 1)]):
        rows = dict.fromkeys(both, amount)
        changes = added(rows | {least: (1, turn)} if turn % 2 else rows)
        advance = Advance(0, claim.epoch, turn or None, turn, turn + 1, NOW, 1, 0, 1)
        store.commit([advance], changes)

        tables = content(path)
        late = {(key[1], key[3], key[0], key[2], key[4]) for key in tables["usage"] if key[3]}
        assert set(tables["late"]) == late
        found.append(len(late))
    assert found == [2, 1, 1, 3, 1, 3]


def test_a_full_disk_is_to_be_waited_out(store: SqliteStore, path: Path) -> None:
    """SQLite's full disk is `StoreUnavailable`; nothing was written, and later it goes on."""
    claim = store.claim(0, "a")
    advance = Advance(0, claim.epoch, None, 0, 4, NOW, 1, 0, 1)
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
    store.commit([Advance(0, claim.epoch, None, 0, 4, NOW, 1, 0, 1)], whole(5))
    reader, meter = open_reader(path), CATALOGUE.meter("credit")

    def seen() -> tuple[int, int]:
        [row] = reader.usage(meter, tenants=["acme"], start=0, end=NOW)
        [position] = reader.positions()
        return row.quantity, position.next_offset

    with reader.snapshot():
        first = seen()
        store.commit([Advance(0, claim.epoch, 4, 4, 9, NOW, 1, 0, 0)], whole(7))
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

    for version in (0, 2, 3, 99):
        db.execute(f"PRAGMA user_version = {version}")
        for opened in (SqliteStore, open_reader):
            with pytest.raises(StoreMismatch, match=f"version {version}, and no store of meters"):
                opened(path)

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
        reader._read.db.execute("DELETE FROM usage")
    reader.close()


def test_series_are_found_again(
    store: SqliteStore, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A series has one row however often its id was forgotten."""
    monkeypatch.setattr(sqlite_series, "SERIES_CACHED_MAX", 2)
    meter, claim = CATALOGUE.meter("credit.most"), store.claim(0, "a")
    for turn in range(3):
        rows = {
            row(0, meter=meter.name, tenant=f"t{n}", group=("é\x00\ud7ff",)): (1, turn + n)
            for n in range(5)
        }
        changes = added(rows)
        position = None if turn == 0 else turn
        store.commit([Advance(0, claim.epoch, position, turn, turn + 1, NOW, 0, 0, 0)], changes)

    assert len(content(path)["series"]) == 5
    reader = open_reader(path)
    found = sorted(reader.usage(meter, tenants=None, start=0, end=1))
    assert [(row.tenant, row.group, row.events, row.quantity) for row in found] == [
        (f"t{n}", ("é\x00\ud7ff",), 3, n + 2) for n in range(5)
    ]
    reader.close()


def test_a_limited_question_reads_little(store: SqliteStore, path: Path) -> None:
    """A page of sessions, the open ones, what came late, a tenant's month: not the whole table."""
    late = {row(n * 30 * MINUTE, arrival=NOW, tenant="late"): (1, n) for n in range(3)}
    rows = {row(n * 30 * MINUTE, tenant=f"t{n % 500:03d}"): (1, n) for n in range(20_000)}
    changes = added(rows | late)
    over = (Session((Start(5, "", ()),), (9,), 9, NOW), None)
    changes.sessions = {
        SessionKey(0, f"t{n % 500:03d}", "run", f"s{n}"): over for n in range(20_000)
    }
    changes.sessions[SessionKey(0, "t499", "run", "x")] = (Session(over[0][0], (), 5, NOW), None)
    claim = store.claim(0, "a")
    store.commit([Advance(0, claim.epoch, None, 0, 4, NOW, 1, 0, 1)], changes)
    reader, meter = open_reader(path), CATALOGUE.meter("credit")
    asked: dict[str, Callable[[], object]] = {
        "page": lambda: reader.sessions(limit=20),
        "later page": lambda: reader.sessions(limit=20, after="t400\x1frun\x1fs7"),
        "a tenant's": lambda: reader.sessions(tenants=["t007"], limit=20),
        "open": lambda: reader.sessions(state="open"),
        "conflicting": lambda: reader.sessions(state="conflicting"),
        "late": lambda: list(reader.adjustments(meter, tenants=["late"], start=0, end=NOW)),
        "a hundred windows": lambda: list(
            reader.usage(meter, tenants=["t007"], start=0, end=3000 * MINUTE)
        ),
    }
    steps = [0]

    def count() -> int:
        steps[0] += 1
        return 0

    def cost(question: Callable[[], object]) -> int:
        steps[0] = 0
        assert question() is not None
        return steps[0]

    reader._read.db.set_progress_handler(count, 100)
    everything = cost(lambda: reader.sessions(limit=10**6))
    costs = {name: cost(question) for name, question in asked.items()}
    reader.close()

    assert everything > 2_000
    assert {name: steps for name, steps in costs.items() if steps > everything / 10} == {}


def test_what_a_worker_does_reads_no_table_from_end_to_end(store: SqliteStore, path: Path) -> None:
    """No statement of a commit, nor of what is asked before it, costs more with more behind it."""
    said: list[str] = []
    store._db.set_trace_callback(said.append)
    claim = store.claim(0, "a")
    changes = whole()
    more = {row(0, arrival=NOW): (-1, 2), row(0, meter="credit.least", tenant="t"): (1, 1)}
    changes.usage += added(more).usage
    changes.refused[RefusedNumber(0, PRODUCER, 7, 2)] = False
    store.commit([Advance(0, claim.epoch, None, 0, 4, NOW, 1, 0, 1)], changes)
    store._series.clear()
    store.commit([Advance(0, claim.epoch, 4, 4, 9, NOW, 1, 0, 1)], changes)
    store.numbers(changes.numbers)
    store.refused_numbers(changes.refused)
    store.refused_offsets(0, 3)
    store.caller_keys(0, [("acme", "k")])
    store.known_sessions(changes.sessions)
    store.due_sessions(0, NOW)
    store.known_subjects(changes.subjects)
    store.due_subjects(0, NOW)
    owner = SeriesOwner(0, "acme", CATALOGUE.meter("credit").version)
    assert store.known_series([owner])[owner]
    store.groups_in_use("credit", owner.version, 5)
    store._db.set_trace_callback(None)

    db = sqlite3.connect(path)
    small = {"position", "made", "binding", "catalogue_version"}
    tables = {row[0] for row in db.execute("SELECT name FROM sqlite_master")} - small
    asked = [said_ for said_ in said if said_.lstrip().startswith(("SELECT", "WITH", "INS", "DEL"))]
    scans = [
        (said_, step)
        for said_ in asked
        for *_, step in db.execute(f"EXPLAIN QUERY PLAN {said_}")
        if step.startswith("SCAN") and not tables.isdisjoint(step.split()[1:2])
    ]
    db.close()
    assert len(asked) > 40
    assert scans == []

"""Stores of older versions: refused with the command that helps, and brought here whole."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Final

import pytest

from meterstream_aggregator.errors import StoreMismatch, StoreUnavailable
from meterstream_aggregator.store import rows, sqlite_migrations
from meterstream_aggregator.store.canonical import TABLES
from meterstream_aggregator.store.canonical_sqlite import opened, snapshot_into
from meterstream_aggregator.store.port import Advance, TopicBinding
from meterstream_aggregator.store.sqlite import SqliteStore
from meterstream_aggregator.store.sqlite_migrations import SCHEMA_VERSION, migrate, migrations
from meterstream_aggregator.store.sqlite_reader import open_reader
from tests.contract.stores import CATALOGUE, NOW, added, row

RELEASED: Final = Path(__file__).with_name("released_schemas")
"""schema.sql of each released version, as it was released."""
BINDING: Final = TopicBinding("events", "id-1", 4)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the older store of a test lies."""
    return tmp_path / "store.sqlite3"


def make_old(path: Path, version: int) -> dict[str, list[bytes]]:
    """A store of an older version, with rows; its canonical rows."""
    now = path.with_suffix(".now")
    store = SqliteStore(now)
    store.bind(BINDING, CATALOGUE)
    claim = store.claim(1, "worker")
    changes = added({row(0): (2, 2**70), row(60_000_000, arrival=NOW): (1, -5)})
    store.commit([Advance(1, claim.epoch, None, 3, 9, NOW, 3, 1, 0)], changes)
    store.close()
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("PRAGMA journal_mode = WAL")
        for statement in rows.statements((RELEASED / f"{version:03}.sql").read_text("utf-8")):
            db.execute(statement)
        db.execute("ATTACH ? AS now", (str(now),))
        names = "SELECT name FROM main.sqlite_master WHERE type = 'table' AND name NOT LIKE 'sql%'"
        for (name,) in db.execute(names).fetchall():
            db.execute(f"INSERT INTO main.{name} SELECT * FROM now.{name}")
        db.execute(f"PRAGMA user_version = {version}")
    return canonical(now)


def canonical(path: Path) -> dict[str, list[bytes]]:
    """Every canonical row."""
    with opened(path) as found:
        return {table.name: list(found.lines(table)) for table in TABLES}


def dump(path: Path) -> list[str]:
    """The whole file as SQL."""
    with closing(sqlite3.connect(path)) as db:
        version = db.execute("PRAGMA user_version").fetchone()[0]
        return [str(version), *db.iterdump()]


def shape(path: Path) -> set[tuple[str, str, str]]:
    """Tables and indexes, without the blanks and comments of their texts."""
    with closing(sqlite3.connect(path)) as db:
        found = db.execute("SELECT type, name, coalesce(sql, '') FROM sqlite_master").fetchall()
    return {(kind, name, re.sub(r"--.*|\s+", " ", sql)) for kind, name, sql in found}


def test_every_version_has_its_step() -> None:
    """From the oldest version to this one without a gap, and the schema says which it is."""
    versions = [step.version for step in migrations()]

    assert versions == list(range(sqlite_migrations.OLDEST + 1, SCHEMA_VERSION + 1))
    schema = Path(rows.__file__).with_name("schema.sql").read_text("utf-8")
    assert schema.startswith(f"-- The SQLite store, version {SCHEMA_VERSION}.")


@pytest.mark.parametrize("version", range(sqlite_migrations.OLDEST, SCHEMA_VERSION))
def test_an_older_store_is_brought_here(path: Path, version: int) -> None:
    """Its canonical rows stay what they were, it is shaped like a new store, and it goes on."""
    before = make_old(path, version)
    assert before["usage"]
    assert before["position"]

    steps = migrate(path)

    assert [step.version for step in steps] == list(range(version + 1, SCHEMA_VERSION + 1))
    assert canonical(path) == before
    assert shape(path) == shape(path.with_suffix(".now"))
    store = SqliteStore(path)
    store.bind(BINDING, CATALOGUE)
    assert len(store.identity()) == 32
    assert store.claim(1, "next").next_offset == 9
    store.close()
    assert migrate(path) == []


def test_two_migrated_stores_have_two_names(tmp_path: Path) -> None:
    """A copy that is migrated by itself is another store."""
    names: set[str] = set()
    for name in ("one", "two"):
        make_old(tmp_path / name, 2)
        migrate(tmp_path / name)
        with closing(SqliteStore(tmp_path / name)) as store:
            names.add(store.identity())

    assert len(names) == 2


def test_an_older_store_is_refused_with_the_command(path: Path) -> None:
    """Neither worker nor reader changes it; both say what does."""
    make_old(path, 2)
    before = dump(path)

    for use in (SqliteStore, open_reader, canonical):
        with pytest.raises(StoreMismatch, match=f"migrate --store {re.escape(str(path))}$"):
            use(path)
    with pytest.raises(StoreMismatch, match="meterstream migrate"):
        snapshot_into(path, path.with_suffix(".copy"))

    assert dump(path) == before


@pytest.mark.parametrize(
    ("version", "remedy"),
    [(SCHEMA_VERSION + 1, "install the meterstream that made it"), (1, "rebuild the store")],
)
def test_versions_without_a_way_here(path: Path, version: int, remedy: str) -> None:
    """A newer one needs a newer program, the oldest a rebuild; migrating says the same."""
    SqliteStore(path).close()
    with closing(sqlite3.connect(path)) as db:
        db.execute(f"PRAGMA user_version = {version}")

    for use in (SqliteStore, open_reader, migrate):
        with pytest.raises(StoreMismatch, match=f"of version {version}.*{remedy}"):
            use(path)


def test_a_store_in_use_is_not_migrated(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker of the older program may have it open: nothing is changed before it is stopped."""
    monkeypatch.setattr(sqlite_migrations, "_PATIENCE_SECONDS", 0.05)
    make_old(path, 2)
    before = dump(path)
    worker = sqlite3.connect(path)
    worker.execute("SELECT * FROM position").fetchall()

    with pytest.raises(StoreUnavailable, match="another process has the store open"):
        migrate(path)

    worker.close()
    assert dump(path) == before
    assert migrate(path)


def test_a_step_that_fails_leaves_the_older_store(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each step is all or nothing, its version number included."""
    make_old(path, 2)
    before = dump(path)
    step = migrations()[0]
    broken = step._replace(text=step.text + "\nINSERT INTO nowhere VALUES (1);\n")
    monkeypatch.setattr(sqlite_migrations, "migrations", lambda: [broken])

    with pytest.raises(StoreUnavailable, match="no such table: nowhere; nothing was written"):
        migrate(path)

    assert dump(path) == before


def test_nothing_is_made_where_nothing_is(path: Path) -> None:
    """A path that was mistyped does not become a store."""
    with pytest.raises(StoreUnavailable, match="there is no store yet"):
        migrate(path)

    assert not path.exists()


def test_somebody_elses_database_is_not_migrated(path: Path) -> None:
    """Whatever version it calls itself."""
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE theirs (x)")
        db.execute("PRAGMA user_version = 2")

    with pytest.raises(StoreMismatch, match="no store of meterstream"):
        migrate(path)

"""Versions of the SQLite file, and the way from an older one to this one.

1. A version is ``PRAGMA user_version``; ``migrations/NNN_name.sql`` leads to NNN from the one
   before. The oldest with a way from it is `OLDEST`.
2. Nobody else may have the file open: a worker of the older program would go on writing what it
   knows. SQLite leaves its WAL mode only for the last one who has the file open, and that is asked.
3. Each step is one transaction, the new version number in it: a crash leaves the older store or the
   newer one, whole.

A worker or reader changes no store of another version: it says what is to be done.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from importlib import resources
from pathlib import Path
from typing import Final, NamedTuple

from meterstream_aggregator.errors import StoreMismatch, StoreUnavailable
from meterstream_aggregator.store import rows
from meterstream_aggregator.store.network_files import refuse_network_file
from meterstream_aggregator.store.sqlite_errors import unavailable

OLDEST: Final = 2
SCHEMA_VERSION: Final = 3
_PACKAGE: Final = "meterstream_aggregator.store"
_PATIENCE_SECONDS: Final = 5.0
"""How long to wait for others to let go of the file."""


class Migration(NamedTuple):
    """One step: the version it leads to, its name without the ending, its statements."""

    version: int
    name: str
    text: str


def migrations() -> list[Migration]:
    """All steps of this program, by version."""
    found: list[Migration] = []
    for file in resources.files(_PACKAGE).joinpath("migrations").iterdir():
        if file.name.endswith(".sql"):
            name = file.name.removesuffix(".sql")
            found.append(Migration(int(name.partition("_")[0]), name, file.read_text("utf-8")))
    return sorted(found)


def migrate(path: Path) -> list[Migration]:
    """Bring the store to this version; the steps taken just now, none where it had it. Blocks.

    Workers and readers of the store must be stopped: raises `StoreUnavailable` after a few seconds
    while one has it open, or where there is no store. Raises `StoreMismatch` for a newer one, one
    too old, or another kind of file. Then nothing was changed.
    """
    refuse_network_file(path)
    if not path.exists():
        raise StoreUnavailable(f"{path}: there is no store yet; start a worker, which makes it")
    with (
        unavailable(path),
        closing(sqlite3.connect(path, timeout=_PATIENCE_SECONDS, isolation_level=None)) as db,
    ):
        wanted = pending(path, db)
        if wanted:
            _leave_wal(path, db)
            db.execute("PRAGMA synchronous = FULL")
        for step in wanted:
            _take(db, step)
        if wanted:
            db.execute("PRAGMA journal_mode = WAL")
        return wanted


def pending(path: Path, db: sqlite3.Connection) -> list[Migration]:
    """The steps that this store lacks. Raises `StoreMismatch` where no steps lead here."""
    version = version_of(path, db)
    if version < OLDEST:
        raise StoreMismatch(
            f"{path}: is a store of version {version}, and no way leads from there to "
            f"{SCHEMA_VERSION}; rebuild the store from the log: meterstream rebuild --into FILE"
        )
    if version > SCHEMA_VERSION:
        raise StoreMismatch(
            f"{path}: is a store of version {version}, newer than this program's "
            f"{SCHEMA_VERSION}; install the meterstream that made it, or a later one"
        )
    return [step for step in migrations() if step.version > version]


def check_version(path: Path, db: sqlite3.Connection) -> None:
    """Is it a store of this version? Raises `StoreMismatch`, with what to do, where it is not."""
    if pending(path, db):
        version = db.execute("PRAGMA user_version").fetchone()[0]
        raise StoreMismatch(
            f"{path}: is a store of version {version}, this program keeps version "
            f"{SCHEMA_VERSION}; stop what uses it and run: meterstream migrate --store {path}"
        )


def version_of(path: Path, db: sqlite3.Connection) -> int:
    """The version of a store. Raises `StoreMismatch` where the tables are somebody else's."""
    version: int = db.execute("PRAGMA user_version").fetchone()[0]
    ours = "SELECT count(*) FROM sqlite_master WHERE name IN ('binding', 'position', 'usage')"
    if version == 0 or db.execute(ours).fetchone()[0] != 3:
        raise StoreMismatch(
            f"{path}: is a SQLite database of version {version}, and no store of meterstream; "
            "name another file"
        )
    return version


def _leave_wal(path: Path, db: sqlite3.Connection) -> None:
    """Be the only one who has the file open."""
    try:
        [mode] = db.execute("PRAGMA journal_mode = DELETE").fetchone()
    except sqlite3.OperationalError as problem:
        mode = str(problem)
    if mode != "delete":
        raise StoreUnavailable(
            f"{path}: another process has the store open ({mode}), nothing was changed; stop its "
            "workers and readers, then migrate"
        )


def _take(db: sqlite3.Connection, step: Migration) -> None:
    db.execute("BEGIN EXCLUSIVE")
    try:
        for statement in rows.statements(step.text):
            db.execute(statement)
        db.execute(f"PRAGMA user_version = {step.version}")
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise

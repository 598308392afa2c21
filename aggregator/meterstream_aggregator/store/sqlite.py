"""The store in one SQLite file: the worker's side. One writer thread per process.

``commit`` is the one transaction of DESIGN section 10:

1. ``BEGIN IMMEDIATE``: no other writer from here to the end;
2. each partition's compare-and-set on (epoch, next offset): no row changed means `Fenced`; what
   reads the partition from here on is noted when it is another catalogue than before;
3. series, usage, items, numbers, keys, sessions, the index of the log, dead letters, outbox;
4. ``COMMIT``, synchronous: when it returns, it is on the disk. Its outcome is never in doubt here;
   whoever crashes before it has moved nothing.
"""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import Collection, Generator, Iterable, Sequence
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import Any, Final

from meterstream_aggregator.catalogue import Catalogue, dump_catalogue, undump_catalogue
from meterstream_aggregator.changes import CallerKey, Changes, OutboxMessage
from meterstream_aggregator.dedup import Numbers, ProducerKey, RefusedNumber
from meterstream_aggregator.sessions import Session, SessionKey
from meterstream_aggregator.state import SeriesOwner
from meterstream_aggregator.store import asking, rows, sqlite_writing
from meterstream_aggregator.store.binding import check_binding
from meterstream_aggregator.store.network_files import refuse_network_file
from meterstream_aggregator.store.port import Advance, Claim, OutboxRow, TopicBinding
from meterstream_aggregator.store.sqlite_errors import unavailable
from meterstream_aggregator.store.sqlite_migrations import SCHEMA_VERSION, check_version
from meterstream_aggregator.store.sqlite_series import SeriesIds
from meterstream_aggregator.store.sqlite_thresholds import SqliteLedger
from meterstream_aggregator.store.sqlite_usage import write_items, write_usage
from meterstream_aggregator.store.thresholds import settle, unwatched
from meterstream_aggregator.subjects import Subject, SubjectKey
from meterstream_aggregator.thresholds import Waiting

_PACKAGE: Final = "meterstream_aggregator.store"
_BUSY_SECONDS: Final = 60.0


class SqliteStore:
    """A `Store` in the file ``path``, made when it is not there.

    Raises `StoreUnavailable` when the file cannot be opened or is locked for a minute, and
    `StoreMismatch` when it is not a store of this version, or lies on a network file system.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._catalogue, self._catalogue_version = Catalogue(0, ()), ""
        refuse_network_file(path)
        with unavailable(path):
            self._db = sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None)
        self._series = SeriesIds(self._db)
        self._ledger = SqliteLedger(self._db)
        try:
            with unavailable(path):
                self._open()
        except BaseException:
            self._db.close()
            raise

    def bind(self, binding: TopicBinding, catalogue: Catalogue) -> None:
        """Tie the store to a topic and catalogue: see `Store.bind`."""
        text = dump_catalogue(catalogue)
        with self._transaction():
            known = self._db.execute("SELECT * FROM binding").fetchone()
            if known is not None:
                bound = TopicBinding(*known[1:4])
                texts = self._db.execute("SELECT catalogue FROM catalogue_version").fetchall()
                counted_by = [undump_catalogue(dumped) for (dumped,) in [*texts, known[4:]]]
                [appended] = self._db.execute("SELECT max(appended) FROM position").fetchone()
                check_binding(bound, counted_by, binding, catalogue, appended=appended or 0)
                self._ledger.forget(unwatched(counted_by[-1], catalogue))
            self._db.execute(
                "INSERT OR REPLACE INTO binding VALUES (1, ?, ?, ?, ?)", (*binding, text)
            )
            self._db.execute(
                "INSERT OR IGNORE INTO catalogue_version VALUES (?, ?)", (catalogue.version, text)
            )
        self._catalogue, self._catalogue_version = catalogue, catalogue.version

    def identity(self) -> str:
        """A random name given when the store was made."""
        with unavailable(self._path):
            return str(self._db.execute("SELECT identity FROM made").fetchone()[0])

    def claim(self, partition: int, owner: str) -> Claim:
        """Own a partition from now on: see `Store.claim`."""
        with self._transaction():
            epoch, next_offset, appended = self._db.execute(
                "INSERT INTO position VALUES (?, 1, ?, NULL, 0, 0, 0, 0) ON CONFLICT DO UPDATE"
                " SET epoch = epoch + 1, owner = excluded.owner"
                " RETURNING epoch, next_offset, appended",
                (partition, owner),
            ).fetchone()
        return Claim(partition, epoch, next_offset, appended)

    def commit(self, advances: Sequence[Advance], changes: Changes) -> None:
        """Write one batch, all of it or nothing: see `Store.commit`."""
        db = self._db
        try:
            with self._transaction():
                sqlite_writing.advance_positions(db, advances, self._catalogue_version)
                told = settle(self._ledger, self._catalogue, changes)
                sqlite_writing.write_messages(db, told)
                write_usage(db, self._series, changes.usage)
                write_items(db, self._series, changes.items)
                sqlite_writing.write_numbers(db, changes)
                sqlite_writing.write_keys(db, changes, advances)
                sqlite_writing.write_sessions(db, changes)
                sqlite_writing.write_log_index(db, changes)
                sqlite_writing.write_letters(db, changes)
        except BaseException:
            self._series.clear()
            raise

    def waiting(self, partitions: Collection[int], limit: int) -> list[tuple[int, Waiting]]:
        """The oldest steps of these partitions that wait for their account, with their ids."""
        with unavailable(self._path):
            return self._ledger.waiting(partitions, limit)

    def outbox(self, partitions: Collection[int], limit: int) -> list[OutboxRow]:
        """The oldest messages of these partitions that wait to leave."""
        with unavailable(self._path):
            found = self._db.execute(
                "SELECT id, partition, topic, key, value, headers FROM outbox"  # noqa: S608 - marks, no values
                f" WHERE partition IN ({_marks(partitions)}) ORDER BY id LIMIT ?",
                (*partitions, limit),
            ).fetchall()
        return [
            OutboxRow(i, OutboxMessage(partition, topic, key, value, rows.undump_headers(told)))
            for i, partition, topic, key, value, told in found
        ]

    def outbox_done(self, ids: Sequence[int]) -> None:
        """Forget messages that their topic has taken."""
        with self._transaction():
            self._db.executemany("DELETE FROM outbox WHERE id = ?", ((done,) for done in ids))

    def close(self) -> None:
        """Let go of the database."""
        self._db.close()

    def numbers(self, wanted: Iterable[ProducerKey]) -> dict[ProducerKey, Numbers]:
        """The seen numbers of those producers that are known."""
        with unavailable(self._path):
            return asking.numbers(self._db, wanted)

    def refused_numbers(self, wanted: Collection[RefusedNumber]) -> set[RefusedNumber]:
        """Those of these numbers that were seen and not counted."""
        with unavailable(self._path):
            return asking.refused_numbers(self._db, wanted)

    def refused_offsets(self, partition: int, first: int) -> list[int]:
        """Where a partition's dead letters lie from offset ``first`` on, rising."""
        with unavailable(self._path):
            found = self._db.execute(
                'SELECT "offset" FROM dead_letter WHERE partition = ? AND "offset" >= ?'
                ' ORDER BY "offset"',
                (partition, first),
            ).fetchall()
        return [row[0] for row in found]

    def caller_keys(
        self, partition: int, wanted: Collection[tuple[str, str]]
    ) -> dict[tuple[str, str], CallerKey]:
        """What is known, by (tenant, key)."""
        with unavailable(self._path):
            return asking.caller_keys(self._db, partition, wanted)

    def known_sessions(self, wanted: Collection[SessionKey]) -> dict[SessionKey, Session]:
        """Those of these sessions that are known."""
        with unavailable(self._path):
            return asking.known_sessions(self._db, wanted)

    def due_sessions(self, partition: int, appended: int) -> dict[SessionKey, Session]:
        """Sessions of a partition whose next deadline is at or before ``appended``."""
        with unavailable(self._path):
            return asking.due_sessions(self._db, partition, appended)

    def known_subjects(self, wanted: Collection[SubjectKey]) -> dict[SubjectKey, Subject]:
        """Those of these subjects that are known."""
        with unavailable(self._path):
            return asking.known_subjects(self._db, wanted)

    def due_subjects(self, partition: int, appended: int) -> dict[SubjectKey, Subject]:
        """Subjects of a partition whose next deadline is at or before ``appended``."""
        with unavailable(self._path):
            return asking.due_subjects(self._db, partition, appended)

    def known_series(
        self, wanted: Collection[SeriesOwner]
    ) -> dict[SeriesOwner, set[tuple[str, ...]]]:
        """The group values that have a series; an owner of none has an empty set."""
        with unavailable(self._path):
            return asking.known_series(self._db, wanted)

    def groups_in_use(self, meter: str, version: str, limit: int) -> set[tuple[str, ...]] | None:
        """The group values of all series of a definition; None where there are more than limit."""
        del meter  # the version is of this one alone
        with unavailable(self._path):
            return asking.groups_in_use(self._db, version, limit)

    def _open(self) -> None:
        self._is_new()
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")
        self._db.execute("PRAGMA wal_autocheckpoint = 8000")
        self._db.execute("PRAGMA cache_size = -65536")
        with self._transaction():
            if self._is_new():
                schema = resources.files(_PACKAGE).joinpath("schema.sql").read_text("utf-8")
                for statement in rows.statements(schema):
                    self._db.execute(statement)
                self._db.execute("INSERT INTO made VALUES (1, ?)", (secrets.token_hex(16),))
                self._db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")

    def _is_new(self) -> bool:
        """Is the file empty? Raises `StoreMismatch` when it is neither that nor a store of ours."""
        version = self._db.execute("PRAGMA user_version").fetchone()[0]
        if version == 0 and not self._db.execute("SELECT 1 FROM sqlite_master").fetchone():
            return True
        check_version(self._path, self._db)
        return False

    @contextmanager
    def _transaction(self) -> Generator[None]:
        with unavailable(self._path):
            try:
                self._db.execute("BEGIN IMMEDIATE")
                yield
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise


def _marks(values: Collection[Any]) -> str:
    return ", ".join("?" * len(values))

"""Small tables in a file of SQLite (WAL): readers never wait for a writer."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from meterstream_services.sql.port import (
    IDLE_MAX,
    DatabaseUnavailable,
    Row,
    Session,
    Tables,
    Value,
    statements,
)

BUSY_SECONDS: Final = 5.0
"""How long a writer waits for another before it says so."""
_AGAIN_SECONDS: Final = 0.02


class SqliteDatabase:
    """See `meterstream_services.sql.port.Database`."""

    def __init__(self, path: Path, tables: Tables) -> None:
        self._path: Final = path
        self._tables: Final = tables
        self._lock = threading.Lock()
        self._idle: list[sqlite3.Connection] = []
        self._ready = False
        self._closed = False

    def rows(self, statement: str, parameters: Sequence[Value] = ()) -> list[Row]:
        """See `Database`."""
        with self._connection() as connection:
            return _Session(connection).rows(statement, parameters)

    @contextmanager
    def reading(self) -> Generator[Session]:
        """See `Database`."""
        with self._transaction("BEGIN") as session:
            yield session

    @contextmanager
    def writing(self) -> Generator[Session]:
        """See `Database`."""
        with self._transaction("BEGIN IMMEDIATE") as session:
            yield session

    def close(self) -> None:
        """See `Database`."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    @contextmanager
    def _transaction(self, begin: str) -> Generator[Session]:
        with self._connection() as connection:
            connection.execute(begin)
            yield _Session(connection)
            try:
                connection.execute("COMMIT")
            except sqlite3.Error as problem:
                if begin == "BEGIN":
                    raise
                raise self._unavailable(problem, in_doubt=True) from problem

    @contextmanager
    def _connection(self) -> Generator[sqlite3.Connection]:
        """A connection from the pool; it goes back there unless something failed."""
        connection: sqlite3.Connection | None = None
        try:
            connection = self._take()
            yield connection
        except sqlite3.Error as problem:
            _drop(connection)
            raise self._unavailable(problem, in_doubt=False) from problem
        except BaseException:
            _drop(connection)
            raise
        self._put_back(connection)

    def _unavailable(self, problem: sqlite3.Error, *, in_doubt: bool) -> DatabaseUnavailable:
        doubt = "; what was written may or may not be kept" if in_doubt else ""
        return DatabaseUnavailable(
            f"{self._path}: cannot be used: {problem}{doubt}", in_doubt=in_doubt
        )

    def _take(self) -> sqlite3.Connection:
        with self._lock:
            if self._idle:
                return self._idle.pop()
        # Nobody else's to read; SQLite gives its journals the same mode.
        with suppress(OSError):
            os.close(os.open(self._path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        connection = sqlite3.connect(
            self._path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
        )
        try:
            connection.execute("PRAGMA foreign_keys = ON")
            connection.execute("PRAGMA synchronous = FULL")
            with self._lock:
                if not self._ready:
                    self._prepare(connection)
                    self._ready = True
        except BaseException:
            connection.close()
            raise
        return connection

    def _put_back(self, connection: sqlite3.Connection) -> None:
        with self._lock:
            if not self._closed and len(self._idle) < IDLE_MAX:
                self._idle.append(connection)
                return
        connection.close()

    def _prepare(self, connection: sqlite3.Connection) -> None:
        """Bring the file up to date; raise, and change nothing, for a file that is another's."""
        self._version(connection)
        _keep_a_log(connection)
        connection.execute("BEGIN IMMEDIATE")
        try:
            version = self._version(connection)  # Again: another process may have been faster.
            for number, migration in enumerate(self._tables.migrations[version:], version + 1):
                for statement in statements(migration):
                    connection.execute(statement)
                connection.execute(f"PRAGMA user_version = {number}")
            connection.execute(f"PRAGMA application_id = {self._tables.application_id}")
        except BaseException:
            connection.execute("ROLLBACK")
            raise
        connection.execute("COMMIT")

    def _version(self, connection: sqlite3.Connection) -> int:
        # One statement, so one snapshot: another process may be at work here.
        application, version, tables = connection.execute(
            "SELECT (SELECT application_id FROM pragma_application_id),"
            " (SELECT user_version FROM pragma_user_version),"
            " (SELECT count(*) FROM sqlite_master)"
        ).fetchone()
        newest = len(self._tables.migrations)
        if application == self._tables.application_id and version <= newest:
            return int(version)
        if (application, version, tables) == (0, 0, 0):
            return 0
        raise DatabaseUnavailable(
            f"{self._path}: is no file of {self._tables.name} up to version {newest}; name another"
        )


class _Session:
    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def rows(self, statement: str, parameters: Sequence[Value] = ()) -> list[Row]:
        return self._connection.execute(statement, parameters).fetchall()

    def many(self, statement: str, rows: Iterable[Sequence[Value]]) -> None:
        self._connection.executemany(statement, rows)

    def add(self, table: str, columns: Sequence[str], rows: Iterable[Sequence[Value]]) -> None:
        marks = ", ".join("?" * len(columns))
        self.many(f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({marks})", rows)  # noqa: S608 - names


def _keep_a_log(connection: sqlite3.Connection) -> None:
    """Switch to WAL. SQLite does not wait for another process here, so it is tried again."""
    until = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as problem:
            if problem.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > until:
                raise
            time.sleep(_AGAIN_SECONDS)
        else:
            return


def _drop(connection: sqlite3.Connection | None) -> None:
    if connection is not None:
        connection.close()  # Rolls back what is open.

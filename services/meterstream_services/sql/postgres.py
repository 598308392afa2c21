"""Small tables in a schema of PostgreSQL: sessions are pooled, writers take turns by a lock.

A session that lay in the pool may have ended meanwhile: the server was started anew, or gave up an
idle one. The first statement of a transaction shows it, before anything is done, so then another
session is made; so it is for a statement that reads by itself. From there on a lost session is an
error of this transaction.

Statements are prepared by the client's library: those that a session runs for the sixth time.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Final, LiteralString

import psycopg

from meterstream_aggregator.errors import StoreError
from meterstream_aggregator.store.address import PostgresAddress
from meterstream_aggregator.store.postgres.connection import Connection, connect
from meterstream_aggregator.store.postgres.errors import explained
from meterstream_services.sql.port import (
    IDLE_MAX,
    DatabaseUnavailable,
    Row,
    Session,
    Tables,
    Value,
    statements,
)

_LOCK_SPACE: Final = 0x6D737074
"""First half of the advisory locks, so that nobody else's are taken ("mspt")."""
_LOCK: Final = "SELECT pg_advisory_xact_lock(?, hashtext(?))"
_BEGIN_READING: Final = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
# Not what the server has by default: who waited for the lock must see what was written meanwhile.
_BEGIN_WRITING: Final = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE"


class PostgresDatabase:
    """See `meterstream_services.sql.port.Database`."""

    def __init__(self, address: PostgresAddress, tables: Tables) -> None:
        self._address: Final = address
        self._tables: Final = tables
        self._lock = threading.Lock()
        self._idle: list[Connection] = []
        self._ready = False
        self._closed = False

    def rows(self, statement: str, parameters: Sequence[Value] = ()) -> list[Row]:
        """See `Database`. No BEGIN, no COMMIT: each would be a round trip more."""
        while True:
            pooled = self._pooled()
            connection = pooled
            try:
                connection = connection or self._connected()
                found = _Session(connection).rows(statement, parameters)
            except (psycopg.Error, StoreError) as problem:
                ended = pooled is not None and pooled.broken
                _drop(connection)
                if not ended:
                    raise self._unavailable(problem, in_doubt=False) from problem
            except BaseException:
                _drop(connection)
                raise
            else:
                self._put_back(connection)
                return found

    @contextmanager
    def reading(self) -> Generator[Session]:
        """See `Database`."""
        with self._transaction(_BEGIN_READING) as session:
            yield session

    @contextmanager
    def writing(self) -> Generator[Session]:
        """See `Database`."""
        with self._transaction(_BEGIN_WRITING) as session:
            session.rows(_LOCK, (_LOCK_SPACE, f"{self._address.schema}.{self._tables.name}"))
            yield session

    def close(self) -> None:
        """See `Database`."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    @contextmanager
    def _transaction(self, begin: LiteralString) -> Generator[Session]:
        connection: Connection | None = None
        committing = False
        try:
            connection = self._begun(begin)
            yield _Session(connection)
            committing = begin is _BEGIN_WRITING
            _commit(connection)
        except (psycopg.Error, StoreError) as problem:
            _drop(connection)
            doubtful = committing and not isinstance(problem, psycopg.errors.InFailedSqlTransaction)
            raise self._unavailable(problem, in_doubt=doubtful) from problem
        except BaseException:
            _drop(connection)
            raise
        self._put_back(connection)

    def _unavailable(
        self, problem: psycopg.Error | StoreError, *, in_doubt: bool
    ) -> DatabaseUnavailable:
        """The error in our words, without a password."""
        ours = problem if isinstance(problem, StoreError) else explained(self._address, problem)
        said = str(ours or f"{self._address}: cannot be used: {problem}")
        if in_doubt:
            said += "; what was written may or may not be kept"
        return DatabaseUnavailable(said, in_doubt=in_doubt)

    def _begun(self, begin: LiteralString) -> Connection:
        """A session in a new transaction."""
        while True:
            pooled = self._pooled()
            connection = pooled or self._connected()
            try:
                connection.execute(begin)
            except psycopg.Error:
                _drop(connection)
                if pooled is None:
                    raise
            except BaseException:
                _drop(connection)
                raise
            else:
                return connection

    def _pooled(self) -> Connection | None:
        with self._lock:
            return self._idle.pop() if self._idle else None

    def _connected(self) -> Connection:
        # A worker's session goes to a server that takes writes: so must these.
        connection = connect(self._address, "worker")
        try:
            _Session(connection).rows(
                "SELECT set_config('application_name', ?, false)",
                (f"meterstream {self._tables.name}",),
            )
            with self._lock:
                if not self._ready:
                    self._prepare(connection)
                    self._ready = True
        except BaseException:
            connection.close()
            raise
        return connection

    def _put_back(self, connection: Connection) -> None:
        with self._lock:
            if not self._closed and len(self._idle) < IDLE_MAX:
                self._idle.append(connection)
                return
        connection.close()

    def _prepare(self, connection: Connection) -> None:
        """Make the schema and bring the part's tables up to date, one process at a time.

        Tables that are up to date are only looked at: a user who may not make any can use them.
        """
        newest = len(self._tables.migrations)
        if self._version(connection) == newest:
            return
        with connection.transaction():
            session = _Session(connection)
            session.rows(_LOCK, (_LOCK_SPACE, self._address.schema))
            if not session.rows(
                "SELECT 1 FROM pg_namespace WHERE nspname = ?", (self._address.schema,)
            ):
                session.rows(f'CREATE SCHEMA "{self._address.schema}"')
            session.rows(
                "CREATE TABLE IF NOT EXISTS meterstream_part"
                " (name TEXT PRIMARY KEY, version BIGINT NOT NULL)"
            )
            version = self._version(connection)  # Again: another process may have been faster.
            for migration in self._tables.migrations[version:]:
                for statement in statements(migration):
                    session.rows(_definition(statement))
            session.rows(
                "INSERT INTO meterstream_part (name, version) VALUES (?, ?)"
                " ON CONFLICT (name) DO UPDATE SET version = excluded.version",
                (self._tables.name, newest),
            )

    def _version(self, connection: Connection) -> int:
        session = _Session(connection)
        if not session.rows(
            "SELECT 1 FROM pg_tables WHERE schemaname = ? AND tablename = 'meterstream_part'",
            (self._address.schema,),
        ):
            return 0
        found = session.rows(
            "SELECT version FROM meterstream_part WHERE name = ?", (self._tables.name,)
        )
        version, newest = int(found[0][0]) if found else 0, len(self._tables.migrations)
        if version > newest:
            raise DatabaseUnavailable(
                f"{self._address}: its {self._tables.name} have version {version}, made by a newer "
                f"meterstream; this one knows {newest}"
            )
        return version


class _Session:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def rows(self, statement: str, parameters: Sequence[Value] = ()) -> list[Row]:
        cursor = self._connection.execute(_dialect(statement), tuple(parameters))
        return cursor.fetchall() if cursor.description else []

    def many(self, statement: str, rows: Iterable[Sequence[Value]]) -> None:
        with self._connection.cursor() as cursor:
            cursor.executemany(_dialect(statement), rows)

    def add(self, table: str, columns: Sequence[str], rows: Iterable[Sequence[Value]]) -> None:
        into: Any = f"COPY {table} ({', '.join(columns)}) FROM STDIN"
        with self._connection.cursor() as cursor, cursor.copy(into) as copy:
            for row in rows:
                copy.write_row(row)


def _commit(connection: Connection) -> None:
    """COMMIT; the server takes it for a ROLLBACK where a statement had failed, and so says it."""
    if connection.execute("COMMIT").statusmessage != "COMMIT":
        raise psycopg.errors.InFailedSqlTransaction("a statement in the transaction had failed")


def _dialect(statement: str) -> Any:  # noqa: ANN401 - psycopg's type for statements
    """``?`` as psycopg writes parameters. Statements are constants of this package."""
    return statement.replace("%", "%%").replace("?", "%s")


def _definition(statement: str) -> str:
    """A table's definition with SQLite's meaning: integers of 64 bits, texts by code point."""
    wide = re.sub(r"\bINTEGER\b", "BIGINT", statement)
    sorted_ = re.sub(r"\bTEXT\b", 'TEXT COLLATE "C"', wide)
    return sorted_.replace("WITHOUT ROWID", "")


def _drop(connection: Connection | None) -> None:
    if connection is not None:
        with suppress(psycopg.Error):
            connection.close()

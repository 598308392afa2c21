"""Small tables in a schema of PostgreSQL: sessions are pooled, writers take turns by a lock."""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Final, LiteralString

import psycopg

from meterstream_aggregator.errors import StoreError
from meterstream_aggregator.store.address import PostgresAddress
from meterstream_aggregator.store.postgres.connection import Connection, connect
from meterstream_services.sql.port import DatabaseUnavailable, Row, Session, Tables, Value

_LOCK_SPACE: Final = 0x6D737074
"""First half of the advisory locks, so that nobody else's are taken ("mspt")."""


class PostgresDatabase:
    """See `meterstream_services.sql.port.Database`."""

    def __init__(self, address: PostgresAddress, tables: Tables) -> None:
        self._address: Final = address
        self._tables: Final = tables
        self._lock = threading.Lock()
        self._idle: list[Connection] = []
        self._ready = False

    @contextmanager
    def reading(self) -> Generator[Session]:
        """See `Database`."""
        with self._transaction("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY") as session:
            yield session

    @contextmanager
    def writing(self) -> Generator[Session]:
        """See `Database`."""
        with self._transaction("BEGIN") as session:
            session.rows(
                "SELECT pg_advisory_xact_lock(?, hashtext(?))",
                (_LOCK_SPACE, f"{self._address.schema}.{self._tables.name}"),
            )
            yield session

    def close(self) -> None:
        """See `Database`."""
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    @contextmanager
    def _transaction(self, begin: LiteralString) -> Generator[Session]:
        connection: Connection | None = None
        try:
            connection = self._take()
            connection.execute(begin)
            yield _Session(connection)
            connection.execute("COMMIT")
        except (psycopg.Error, StoreError) as problem:
            _drop(connection)
            raise DatabaseUnavailable(f"{self._address}: cannot be used: {problem}") from problem
        except BaseException:
            _drop(connection)
            raise
        with self._lock:
            self._idle.append(connection)

    def _take(self) -> Connection:
        with self._lock:
            while self._idle:
                connection = self._idle.pop()
                if not connection.closed and not connection.broken:
                    return connection
        connection = connect(self._address, "reader")
        try:
            with self._lock:
                if not self._ready:
                    self._prepare(connection)
                    self._ready = True
        except BaseException:
            connection.close()
            raise
        return connection

    def _prepare(self, connection: Connection) -> None:
        """Make the schema and bring the part's tables up to date, one process at a time."""
        name, newest = self._tables.name, len(self._tables.migrations)
        with connection.transaction():
            session = _Session(connection)
            session.rows(
                "SELECT pg_advisory_xact_lock(?, hashtext(?))", (_LOCK_SPACE, self._address.schema)
            )
            if not session.rows(
                "SELECT 1 FROM pg_namespace WHERE nspname = ?", (self._address.schema,)
            ):
                session.rows(f'CREATE SCHEMA "{self._address.schema}"')
            session.rows(
                "CREATE TABLE IF NOT EXISTS meterstream_part"
                " (name TEXT PRIMARY KEY, version BIGINT NOT NULL)"
            )
            found = session.rows("SELECT version FROM meterstream_part WHERE name = ?", (name,))
            version = int(found[0][0]) if found else 0
            if version > newest:
                raise DatabaseUnavailable(
                    f"{self._address}: its {name} have version {version}, made by a newer "
                    f"meterstream; this one knows {newest}"
                )
            for migration in self._tables.migrations[version:]:
                for statement in filter(str.strip, migration.split(";\n")):
                    session.rows(statement)
            session.rows(
                "INSERT INTO meterstream_part (name, version) VALUES (?, ?)"
                " ON CONFLICT (name) DO UPDATE SET version = excluded.version",
                (name, newest),
            )


class _Session:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def rows(self, statement: str, parameters: Sequence[Value] = ()) -> list[Row]:
        cursor = self._connection.execute(_dialect(statement), parameters or None)
        return cursor.fetchall() if cursor.description else []

    def many(self, statement: str, rows: Iterable[Sequence[Value]]) -> None:
        with self._connection.cursor() as cursor:
            cursor.executemany(_dialect(statement), rows)


def _dialect(statement: str) -> Any:  # noqa: ANN401 - psycopg's type for statements
    """``?`` as psycopg writes parameters. Statements are constants of this package."""
    return statement.replace("%", "%%").replace("?", "%s")


def _drop(connection: Connection | None) -> None:
    if connection is not None:
        with suppress(psycopg.Error):
            connection.close()

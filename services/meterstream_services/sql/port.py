"""Small tables that services keep: one port over SQLite and PostgreSQL, one dialect for both.

Statements use ``?`` for parameters, never inside a quoted text, and only what both databases share
(``ON CONFLICT``, ``LIMIT``); a sum is cast (``CAST(SUM(x) AS BIGINT)``). Tables have ``TEXT`` and
``BIGINT`` columns; texts sort by code point in both. In migrations a ``;`` ends a line only where
it ends a statement. PostgreSQL keeps no NUL in a text: check texts before they come here.

Writers take turns in both, so that what a writer read stays true until it commits.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Any, Final, NamedTuple, Protocol

Value = str | int | None
Row = tuple[Any, ...]

IDLE_MAX: Final = 8
"""Connections that a database keeps for the next transaction; more are closed after theirs."""


class Tables(NamedTuple):
    """What a part keeps: its name, and its migrations in order, each some statements of SQL.

    ``application_id`` marks a file of SQLite as this part's. A file of version n has had the first
    n migrations. In PostgreSQL the part's version is a row of the table ``meterstream_part``.
    """

    name: str
    application_id: int
    migrations: Sequence[str]


class DatabaseUnavailable(Exception):
    """It cannot be read or written now, or is not what was expected; the message says which.

    ``in_doubt``: the answer to a COMMIT was lost, so what was written may be kept or may not.
    Read it again, or write the same once more where that changes nothing.
    """

    def __init__(self, message: str, *, in_doubt: bool = False) -> None:
        super().__init__(message)
        self.in_doubt = in_doubt


class Reading(Protocol):
    """What answers statements that read."""

    def rows(self, statement: str, parameters: Sequence[Value] = ()) -> list[Row]:
        """Run a statement; all rows of its answer, none for those that have no answer."""
        ...


class Session(Reading, Protocol):
    """One transaction."""

    def many(self, statement: str, rows: Iterable[Sequence[Value]]) -> None:
        """Run a statement for each of the rows."""
        ...

    def add(self, table: str, columns: Sequence[str], rows: Iterable[Sequence[Value]]) -> None:
        """Insert new rows, in the quickest way that the database has."""
        ...


class Database(Reading, Protocol):
    """Safe from several threads; blocks. Opens, and makes its tables, when first used.

    Everything raises `DatabaseUnavailable`. One thread has one transaction at a time: a writer
    that begins another inside its own would wait for itself.
    """

    def rows(self, statement: str, parameters: Sequence[Value] = ()) -> list[Row]:
        """One statement that reads, by itself: a snapshot of its own, one round trip.

        It may run twice: where a session had ended while it lay in the pool.
        """
        ...

    def reading(self) -> AbstractContextManager[Session]:
        """A consistent snapshot for several statements."""
        ...

    def writing(self) -> AbstractContextManager[Session]:
        """A transaction among writers that take turns: committed at the end, durable then.

        Rolled back when the block raises.
        """
        ...

    def close(self) -> None:
        """Let go of files and connections. Idempotent."""
        ...


def statements(migration: str) -> list[str]:
    """The single statements of a migration."""
    return [part for part in migration.split(";\n") if part.strip()]

"""Small tables that services keep: one port over SQLite and PostgreSQL, one dialect for both.

Statements use ``?`` for parameters and only what both databases share (``ON CONFLICT``, ``LIMIT``);
tables have ``TEXT`` and ``BIGINT`` columns. Writers take turns in both, so that what a writer read
stays true until it commits.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple, Protocol

Value = str | int | None
Row = tuple[Any, ...]


class Tables(NamedTuple):
    """What a part keeps: its name, and its migrations in order, each some statements of SQL.

    ``application_id`` marks a file of SQLite as this part's. A file of version n has had the first
    n migrations. In PostgreSQL the part's version is a row of the table ``meterstream_part``.
    """

    name: str
    application_id: int
    migrations: Sequence[str]


class DatabaseUnavailable(Exception):
    """It cannot be read or written now, or is not what was expected; the message says which."""


class Session(Protocol):
    """One transaction."""

    def rows(self, statement: str, parameters: Sequence[Value] = ()) -> list[Row]:
        """Run a statement; all rows of its answer, none for those that have no answer."""
        ...

    def many(self, statement: str, rows: Iterable[Sequence[Value]]) -> None:
        """Run a statement for each of the rows."""
        ...


class Database(Protocol):
    """Safe from several threads; blocks. Opens, and makes its tables, when first used.

    Everything raises `DatabaseUnavailable`.
    """

    def reading(self) -> AbstractContextManager[Session]:
        """A consistent snapshot."""
        ...

    def writing(self) -> AbstractContextManager[Session]:
        """A transaction among writers that take turns: committed at the end, durable then.

        Rolled back when the block raises.
        """
        ...

    def close(self) -> None:
        """Let go of files and connections. Idempotent."""
        ...

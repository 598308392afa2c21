"""A connection that only reads: rows in portions, and SQLite's errors as ours."""

from __future__ import annotations

import sqlite3
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any, Final

from meterstream_aggregator.errors import StoreMismatch, StoreUnavailable
from meterstream_aggregator.store.sqlite import SCHEMA_VERSION

Row = tuple[Any, ...]
Given = Sequence[Any] | Mapping[str, Any]
_PORTION: Final = 1_000


class ReadConnection:
    """A store's file, opened to be read. For one thread at a time.

    Raises `StoreUnavailable` when no worker has made the store yet, `StoreMismatch` when the file
    is something else.
    """

    def __init__(self, path: Path) -> None:
        self.path: Final = path
        if not path.exists():
            raise StoreUnavailable(f"{path}: there is no store yet; start a worker")
        with self._reading():
            self.db: Final = sqlite3.connect(
                f"{path.absolute().as_uri()}?mode=ro",
                uri=True,
                timeout=10.0,
                isolation_level=None,
                check_same_thread=False,
            )
            version = self.db.execute("PRAGMA user_version").fetchone()[0]
        if version != SCHEMA_VERSION:
            self.db.close()
            if version == 0:
                raise StoreUnavailable(f"{path}: the store is being made; try again")
            raise StoreMismatch(
                f"{path}: has version {version}, this program reads {SCHEMA_VERSION}"
            )

    @contextmanager
    def snapshot(self) -> Generator[None]:
        """Everything read inside sees the same committed state."""
        with self._reading():
            self.db.execute("BEGIN")
            try:
                yield
            finally:
                self.db.execute("COMMIT")

    def one(self, query: str, given: Given = ()) -> Row | None:
        """The first row, None where there is none."""
        with self._reading():
            row: Row | None = self.db.execute(query, given).fetchone()
            return row

    def all(self, query: str, given: Given = ()) -> list[Row]:
        """Every row."""
        with self._reading():
            return self.db.execute(query, given).fetchall()

    def portions(
        self, query: str, given: Given = (), *, size: int = _PORTION
    ) -> Iterator[list[Row]]:
        """Every row, read as it is wanted."""
        with self._reading():
            cursor = self.db.execute(query, given)
        while True:
            with self._reading():
                portion = cursor.fetchmany(size)
            if not portion:
                return
            yield portion

    def each(self, query: str, given: Given = (), *, size: int = _PORTION) -> Iterator[Row]:
        """Every row, one by one, read in portions."""
        return chain.from_iterable(self.portions(query, given, size=size))

    def close(self) -> None:
        """Let go of the database."""
        self.db.close()

    @contextmanager
    def _reading(self) -> Generator[None]:
        try:
            yield
        except sqlite3.DatabaseError as problem:
            raise StoreUnavailable(f"{self.path}: cannot be read now: {problem}") from problem

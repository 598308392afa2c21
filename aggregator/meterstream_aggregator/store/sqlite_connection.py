"""A connection that only reads: rows in portions, and SQLite's errors as ours."""

from __future__ import annotations

import sqlite3
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any, Final

from meterstream_aggregator.errors import StoreUnavailable
from meterstream_aggregator.store.network_files import refuse_network_file
from meterstream_aggregator.store.sqlite_errors import unreadable
from meterstream_aggregator.store.sqlite_migrations import check_version

Row = tuple[Any, ...]
Given = Sequence[Any] | Mapping[str, Any]
_PORTION: Final = 1_000


class ReadConnection:
    """A store's file, opened to be read. For one thread at a time.

    Raises `StoreUnavailable` when no worker has made the store yet, `StoreMismatch` when the file
    is something else or lies on a network file system.
    """

    def __init__(self, path: Path) -> None:
        self.path: Final = path
        refuse_network_file(path)
        if not path.exists():
            raise StoreUnavailable(f"{path}: there is no store yet; start a worker")
        with unreadable(self.path):
            self.db: Final = sqlite3.connect(
                f"{path.absolute().as_uri()}?mode=ro",
                uri=True,
                timeout=10.0,
                isolation_level=None,
                check_same_thread=False,
            )
            try:
                self._check()
            except BaseException:
                self.db.close()
                raise

    @contextmanager
    def snapshot(self) -> Generator[None]:
        """Everything read inside sees the same committed state."""
        with unreadable(self.path):
            self.db.execute("BEGIN")
            try:
                yield
            finally:
                self.db.execute("COMMIT")

    def one(self, query: str, given: Given = ()) -> Row | None:
        """The first row, None where there is none."""
        with unreadable(self.path):
            row: Row | None = self.db.execute(query, given).fetchone()
            return row

    def all(self, query: str, given: Given = ()) -> list[Row]:
        """Every row."""
        with unreadable(self.path):
            return self.db.execute(query, given).fetchall()

    def portions(
        self, query: str, given: Given = (), *, size: int = _PORTION
    ) -> Iterator[list[Row]]:
        """Every row, read as it is wanted."""
        with unreadable(self.path):
            cursor = self.db.execute(query, given)
        while True:
            with unreadable(self.path):
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

    def _check(self) -> None:
        if not self.db.execute("SELECT 1 FROM sqlite_master").fetchone():
            raise StoreUnavailable(f"{self.path}: the store is being made; try again")
        check_version(self.path, self.db)

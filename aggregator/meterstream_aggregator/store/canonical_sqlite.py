"""The canonical rows of a store in a SQLite file."""

from __future__ import annotations

import sqlite3
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

import orjson

from meterstream_aggregator.errors import StoreUnavailable
from meterstream_aggregator.store.canonical import SERIES, Table
from meterstream_aggregator.store.sqlite_migrations import check_version
from meterstream_aggregator.store.sqlite_usage import LOW_BITS

_CELLS: Final = {
    ("usage", "quantity"): (
        "CASE WHEN quantity_high BETWEEN -2 AND 1"
        f" THEN quantity_high * {1 << LOW_BITS} + quantity_low"
        " ELSE meterstream_amount(quantity_high, quantity_low) END"
    ),
    ("producer", "upto"): "hex(upto)",
    ("caller_key", "content"): "hex(content)",
}
"""What is not canonical as it stands; an amount that has more than 64 bits is rare."""
_ONLY: Final = {"position": "WHERE next_offset IS NOT NULL"}


class SqliteRows:
    """The canonical rows of an open file."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        db.create_function("meterstream_amount", 2, _amount, deterministic=True)

    def lines(self, table: Table) -> Iterator[bytes]:
        """See `Canonical.lines`."""
        return map(orjson.dumps, self._db.execute(_query(table)))


@contextmanager
def opened(store: Path) -> Generator[SqliteRows]:
    """The rows of a file. Raises `StoreUnavailable` and `StoreMismatch`."""
    with _open(store) as db:
        yield SqliteRows(db)


def snapshot_into(store: Path, copy: Path) -> None:
    """A copy of the store as one reader sees it now; writers go on meanwhile.

    A copy, and no long read: while a reader stays in one snapshot, SQLite's log of later writes
    grows without end. Raises `StoreUnavailable` or `StoreMismatch`.
    """
    with _open(store) as source, closing(sqlite3.connect(copy)) as target:
        source.backup(target)


def _query(table: Table) -> str:
    chosen = [_cell(table, column) for column in table.columns]
    of_series = " AS own JOIN series ON series.id = own.series" if table.of_series else ""
    return (
        f"SELECT {', '.join(chosen)} FROM {table.name}{of_series} {_ONLY.get(table.name, '')}"  # noqa: S608 - names of our own
        f" ORDER BY {', '.join(chosen[: table.keys])}"
    )


def _cell(table: Table, column: str) -> str:
    if (table.name, column) in _CELLS:
        return _CELLS[table.name, column]
    if not table.of_series:
        return f'"{column}"'
    return f'series."{column}"' if column in SERIES else f'own."{column}"'


def _amount(high: int, low: int) -> str:
    return str((high << LOW_BITS) + low)


@contextmanager
def _open(store: Path) -> Generator[sqlite3.Connection]:
    if not store.exists():
        raise StoreUnavailable(f"{store}: there is no store there")
    try:
        db = sqlite3.connect(
            f"{store.absolute().as_uri()}?mode=ro", uri=True, timeout=60.0, isolation_level=None
        )
        with closing(db):
            check_version(store, db)
            yield db
    except sqlite3.DatabaseError as problem:
        raise StoreUnavailable(f"{store}: cannot be read now: {problem}") from problem

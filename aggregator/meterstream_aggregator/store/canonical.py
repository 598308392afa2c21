"""A SQLite store as canonical rows: what two stores of one log must agree in, and one hash of it.

What is a function of the log and its catalogues is compared, by natural keys: the ids of series,
which tell only in which order they were first written, are replaced by what they stand for. What
is left out, and why, stands in `LEFT_OUT`.

The hash of a table is BLAKE2b over its rows in the order of their keys, each as a JSON array on a
line of its own; the hash of a store is that over its tables' names and hashes. Memory is bounded:
rows are streamed, and SQLite sorts what it must within one block of usage or on disk.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple

import orjson

from meterstream_aggregator.errors import StoreMismatch, StoreUnavailable
from meterstream_aggregator.store.sqlite import SCHEMA_VERSION

DIFFERENCES_SHOWN: Final = 10
_HASH_BYTES: Final = 16
_LINES: Final = 4_096

Row = tuple[Any, ...]


class Table(NamedTuple):
    """A table's canonical rows. The first ``keys`` columns are its natural key, which orders it."""

    name: str
    columns: tuple[str, ...]
    keys: int
    query: str


_SERIES: Final = ("meter", "tenant", "groups", "partition", "version")


def _table(name: str, columns: str, keys: int, where: str = "") -> Table:
    """A table that is canonical as it stands."""
    names = tuple(columns.split())
    chosen = ", ".join(
        f"hex({column})" if column in {"upto", "content"} else f'"{column}"' for column in names
    )
    order = ", ".join(f'"{column}"' for column in names[:keys])
    return Table(
        name,
        names,
        keys,
        f"SELECT {chosen} FROM {name} {where} ORDER BY {order}",  # noqa: S608 - names of our own
    )


def _of_series(name: str, before: str, after: str, keys: int) -> Table:
    """A table whose rows belong to a series. ``before`` are key columns in front of the series."""
    first, rest = tuple(before.split()), tuple(after.split())
    columns = (*first, *_SERIES, *rest)
    chosen = [
        f'series."{column}"' if column in _SERIES else f'own."{column}"' for column in columns
    ]
    return Table(
        name,
        columns,
        keys,
        f"SELECT {', '.join(chosen)} FROM {name} AS own JOIN series ON series.id = own.series"  # noqa: S608 - names of our own
        f" ORDER BY {', '.join(chosen[:keys])}",
    )


TABLES: Final = (
    _table(
        "position",
        "partition next_offset appended counted duplicates refused",
        1,
        "WHERE next_offset IS NOT NULL",
    ),
    _table("reading", "partition first_offset version", 2),
    _table("series", " ".join(_SERIES), 5),
    _of_series("usage", "block", "start arrival scale events quantity_high quantity_low", 9),
    _of_series("late", "", "arrival block start scale", 9),
    _of_series("item", "", "start item arrival time sequence producer offset quantity scale", 8),
    _table("place", "partition hour segment first last events", 3),
    _table("presence", "partition segment producer first last events", 3),
    _table(
        "producer",
        "producer partition upto irregular closed counted duplicates refused last_append",
        2,
    ),
    _table("refused_number", "producer partition lane sequence", 4),
    _table("caller_key", "partition tenant key content append_time state time", 3),
    _table(
        "session",
        "tenant type session partition start end last_sign last_append deadline subject"
        " attributes claims",
        4,
    ),
    _table("subject", "tenant type subject partition facts last_append deadline", 4),
    _table(
        "dead_letter",
        "partition offset append_time reason detail tenant type producer lane sequence",
        2,
    ),
)
"""Every table that is compared."""

LEFT_OUT: Final = {
    "made": "a random name of this very store",
    "binding": "which topic and catalogue a store was last started with: given, not folded",
    "catalogue_version": "the catalogues themselves are given; which read what is in 'reading'",
    "outbox": "what waits to leave; when it left is no fact of the log",
    "threshold_total": "follows from usage, accounts and what is watched just now",
    "threshold_fired": "what was watched when, and what was told of it",
    "threshold_waiting": "steps whose accounts could not be asked for just then",
    "position.epoch": "how often a partition was claimed",
    "position.owner": "by whom",
    "series.id": "in which order series were first written",
}
"""What is in a store and is not a function of the log, and why."""


class Difference(NamedTuple):
    """A row that one side lacks (None), or that differs. Columns: those of its table."""

    live: Row | None
    rebuilt: Row | None


@dataclass(slots=True)
class Compared:
    """What a comparison found in one table. ``differences`` are the first few."""

    table: str
    columns: tuple[str, ...]
    rows: int = 0
    different: int = 0
    differences: list[Difference] = field(default_factory=list)
    live_hash: str = ""
    rebuilt_hash: str = ""


def snapshot_into(store: Path, copy: Path) -> None:
    """A copy of the store as one reader sees it now; writers go on meanwhile.

    A copy, and no long read: while a reader stays in one snapshot, SQLite's log of later writes
    grows without end. Raises `StoreUnavailable` or `StoreMismatch`.
    """
    with _open(store) as source, closing(sqlite3.connect(copy)) as target:
        source.backup(target)


def canonical_hash(store: Path) -> str:
    """The hash of a store's canonical rows. Equal stores have equal ones."""
    hashes: list[tuple[str, str]] = []
    with _open(store) as db:
        for table in TABLES:
            lines = _Lines()
            for row in _rows(db, table):
                lines.add(row)
            hashes.append((table.name, lines.hash()))
    return store_hash(hashes)


def store_hash(hashes: list[tuple[str, str]]) -> str:
    """The hash of a store from the hashes of its tables, in the order of `TABLES`."""
    return hashlib.blake2b(orjson.dumps(hashes), digest_size=_HASH_BYTES).hexdigest()


def compare(live: Path, rebuilt: Path) -> Iterator[Compared]:
    """Both stores, table by table and row by row. Nobody may write to them meanwhile."""
    with _open(live) as left, _open(rebuilt) as right:
        for table in TABLES:
            yield _compared(table, _rows(left, table), _rows(right, table))


def _compared(table: Table, left: Iterator[Row], right: Iterator[Row]) -> Compared:
    """Two sorted streams, merged by key."""
    found = Compared(table.name, table.columns)
    lines = (_Lines(), _Lines())
    mine, other = next(left, None), next(right, None)
    while mine is not None or other is not None:
        found.rows += 1
        if mine == other:
            step = (True, True)
        elif mine is None or other is None:
            step = (mine is not None, other is not None)
        else:
            here, there = mine[: table.keys], other[: table.keys]
            step = (here <= there, there <= here)
        if mine != other:
            found.different += 1
            if len(found.differences) < DIFFERENCES_SHOWN:
                shown = (mine if step[0] else None, other if step[1] else None)
                found.differences.append(Difference(*shown))
        if step[0]:
            lines[0].add(mine)
            mine = next(left, None)
        if step[1]:
            lines[1].add(other)
            other = next(right, None)
    found.live_hash, found.rebuilt_hash = lines[0].hash(), lines[1].hash()
    return found


class _Lines:
    """Hashes rows a few thousand at a time."""

    def __init__(self) -> None:
        self._hash = hashlib.blake2b(digest_size=_HASH_BYTES)
        self._waiting: list[bytes] = []

    def add(self, row: Row | None) -> None:
        self._waiting.append(orjson.dumps(row))
        if len(self._waiting) >= _LINES:
            self._flush()

    def hash(self) -> str:
        self._flush()
        return self._hash.hexdigest()

    def _flush(self) -> None:
        for line in self._waiting:
            self._hash.update(line)
            self._hash.update(b"\n")
        self._waiting.clear()


def _rows(db: sqlite3.Connection, table: Table) -> Iterator[Row]:
    yield from db.execute(table.query)


@contextmanager
def _open(store: Path) -> Generator[sqlite3.Connection]:
    if not store.exists():
        raise StoreUnavailable(f"{store}: there is no store there")
    try:
        db = sqlite3.connect(
            f"{store.absolute().as_uri()}?mode=ro", uri=True, timeout=60.0, isolation_level=None
        )
        with closing(db):
            version = db.execute("PRAGMA user_version").fetchone()[0]
            if version != SCHEMA_VERSION:
                raise StoreMismatch(
                    f"{store}: has version {version}, this program reads {SCHEMA_VERSION}"
                )
            yield db
    except sqlite3.DatabaseError as problem:
        raise StoreUnavailable(f"{store}: cannot be read now: {problem}") from problem

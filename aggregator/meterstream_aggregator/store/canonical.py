"""A store as canonical rows: what two stores of one log must agree in, and one hash of it.

The two may be of different kinds: a SQLite file against a schema of PostgreSQL. What is a function
of the log and its catalogues is compared, by natural keys: the ids of series, which tell only in
which order they were first written, are replaced by what they stand for. What is left out, and why,
stands in `LEFT_OUT`.

A canonical row is a JSON array, so that equal rows have equal bytes. Its texts are texts, whatever
the database keeps them in; bytes are hexadecimal; truths are 0 and 1; amounts are one integer, as
text where it needs more than 64 bits. Rows come in the order of their keys, texts byte by byte.

The hash of a table is BLAKE2b over its rows, each on a line of its own; the hash of a store is that
over its tables' names and hashes. Memory is bounded: rows are streamed, and the database sorts what
it must on disk.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, Protocol

import orjson

DIFFERENCES_SHOWN: Final = 10
_HASH_BYTES: Final = 16
_LINES: Final = 4_096

Row = tuple[Any, ...]


class Table(NamedTuple):
    """A table's canonical rows. The first ``keys`` columns are its natural key, which orders it.

    ``of_series``: it has the id of a series where these rows have what the series stands for.
    """

    name: str
    columns: tuple[str, ...]
    keys: int
    of_series: bool = False


SERIES: Final = ("meter", "tenant", "groups", "partition", "version")


def _table(name: str, columns: str, keys: int) -> Table:
    return Table(name, tuple(columns.split()), keys)


def _of_series(name: str, before: str, after: str, keys: int) -> Table:
    """``before`` are key columns in front of the series."""
    return Table(name, (*before.split(), *SERIES, *after.split()), keys, of_series=True)


TABLES: Final = (
    _table("position", "partition next_offset appended counted duplicates refused", 1),
    _table("reading", "partition first_offset version", 2),
    _table("series", " ".join(SERIES), 5),
    _of_series("usage", "block", "start arrival scale events quantity", 9),
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


class Canonical(Protocol):
    """A store's canonical rows, table by table."""

    def lines(self, table: Table) -> Iterator[bytes]:
        """The rows of a table in order, each as JSON, without its line's end."""
        ...


def hash_of(store: Canonical) -> str:
    """The hash of a store's canonical rows. Equal stores have equal ones."""
    hashes: list[tuple[str, str]] = []
    for table in TABLES:
        hashed = _Hash()
        for line in store.lines(table):
            hashed.add(line)
        hashes.append((table.name, hashed.end()))
    return store_hash(hashes)


def store_hash(hashes: list[tuple[str, str]]) -> str:
    """The hash of a store from the hashes of its tables, in the order of `TABLES`."""
    return hashlib.blake2b(orjson.dumps(hashes), digest_size=_HASH_BYTES).hexdigest()


def compared(live: Canonical, rebuilt: Canonical) -> Iterator[Compared]:
    """Both stores, table by table and row by row. Nobody may write to them meanwhile."""
    for table in TABLES:
        yield _compared(table, live.lines(table), rebuilt.lines(table))


def _compared(table: Table, left: Iterator[bytes], right: Iterator[bytes]) -> Compared:
    """Two sorted streams, merged by key."""
    found = Compared(table.name, table.columns)
    hashes = (_Hash(), _Hash())
    mine, other = next(left, None), next(right, None)
    while mine is not None or other is not None:
        found.rows += 1
        step = (True, True)
        if mine != other:
            here, there = _row(mine), _row(other)
            step = _first_of(here, there, table.keys)
            found.different += 1
            if len(found.differences) < DIFFERENCES_SHOWN:
                shown = (here if step[0] else None, there if step[1] else None)
                found.differences.append(Difference(*shown))
        if step[0] and mine is not None:
            hashes[0].add(mine)
            mine = next(left, None)
        if step[1] and other is not None:
            hashes[1].add(other)
            other = next(right, None)
    found.live_hash, found.rebuilt_hash = hashes[0].end(), hashes[1].end()
    return found


def _row(line: bytes | None) -> Row | None:
    return None if line is None else tuple(orjson.loads(line))


def _first_of(here: Row | None, there: Row | None, keys: int) -> tuple[bool, bool]:
    """Which of two rows comes first by its key, or both where it is one key."""
    if here is None or there is None:
        return here is not None, there is not None
    return here[:keys] <= there[:keys], there[:keys] <= here[:keys]


class _Hash:
    """Hashes lines, a few thousand at a time."""

    def __init__(self) -> None:
        self._hash = hashlib.blake2b(digest_size=_HASH_BYTES)
        self._waiting: list[bytes] = []

    def add(self, line: bytes) -> None:
        self._waiting.append(line)
        if len(self._waiting) >= _LINES:
            self._flush()

    def end(self) -> str:
        self._flush()
        return self._hash.hexdigest()

    def _flush(self) -> None:
        if self._waiting:
            self._hash.update(b"\n".join(self._waiting))
            self._hash.update(b"\n")
            self._waiting.clear()

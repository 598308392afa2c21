"""A store as it stands in one moment, of either kind: read, kept as canonical rows, and compared.

SQLite is copied whole, and the copy is read: its log of later writes grows without end while a
reader stays in one snapshot. PostgreSQL is read in one snapshot, and what is compared later is kept
as lines in files: a snapshot that stayed open while the log is folded again would keep the database
from clearing away what its writers replace meanwhile.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol, TypeAlias

from meterstream_aggregator.changes import OutboxMessage
from meterstream_aggregator.store import canonical, canonical_sqlite
from meterstream_aggregator.store.address import PostgresAddress, StoreAddress
from meterstream_aggregator.store.canonical import TABLES, Canonical, Compared, Table
from meterstream_aggregator.store.port import StoreReader
from meterstream_aggregator.store.sqlite import SqliteStore
from meterstream_aggregator.store.sqlite_reader import SqliteReader

if TYPE_CHECKING:
    from meterstream_aggregator.store.postgres.reader import PostgresReader

Comparable: TypeAlias = StoreAddress | Canonical
_OUTBOX_ROWS: Final = 1_000_000


class Standing(Protocol):
    """A store in one moment. Its reader is in a snapshot of it."""

    @property
    def reader(self) -> StoreReader:
        """What it answers."""
        ...

    def outbox(self) -> tuple[OutboxMessage, ...]:
        """The messages that wait to leave, in their order."""
        ...

    def keep(self) -> Canonical:
        """Its canonical rows, to be read as long as the scratch directory is there."""
        ...


@contextmanager
def standing(store: StoreAddress, scratch: Path) -> Generator[Standing]:
    """The store as it stands now; its writers go on meanwhile. Files go to ``scratch``.

    Raises `StoreUnavailable` or `StoreMismatch`.
    """
    if isinstance(store, Path):
        copy = scratch / "live.sqlite3"
        canonical_sqlite.snapshot_into(store, copy)
        with closing(SqliteReader(copy)) as reader, reader.snapshot():
            yield _File(copy, reader)
    else:
        with _snapshot(store) as postgres:
            yield _Schema(postgres, scratch / "live")


def canonical_hash(store: Comparable) -> str:
    """The hash of a store's canonical rows. Equal stores have equal ones, of whatever kind."""
    with _rows(store) as rows:
        return canonical.hash_of(rows)


def compare(live: Comparable, rebuilt: Comparable) -> Iterator[Compared]:
    """Both stores, table by table and row by row. Nobody may write to a file meanwhile."""
    with ExitStack() as opened:
        mine, other = [opened.enter_context(_rows(store)) for store in (live, rebuilt)]
        yield from canonical.compared(mine, other)


class _File:
    """A copy of a file."""

    def __init__(self, copy: Path, reader: StoreReader) -> None:
        self._copy = copy
        self.reader: Final = reader

    def outbox(self) -> tuple[OutboxMessage, ...]:
        with closing(SqliteStore(self._copy)) as store:
            found = store.outbox(range(self._partitions()), _OUTBOX_ROWS)
        return tuple(row.message for row in found)

    def keep(self) -> Canonical:
        return _Kept(self._copy)

    def _partitions(self) -> int:
        topic = self.reader.topic()
        return 0 if topic is None else topic.partitions


class _Schema:
    """A schema in a snapshot."""

    def __init__(self, reader: PostgresReader, scratch: Path) -> None:
        self._scratch = scratch
        self._postgres = reader
        self.reader: Final = reader

    def outbox(self) -> tuple[OutboxMessage, ...]:
        return self._postgres.outbox()

    def keep(self) -> Canonical:
        self._scratch.mkdir()
        rows = self._postgres.canonical()
        for table in TABLES:
            with _lines_of(self._scratch, table).open("wb") as file:
                for line in rows.lines(table):
                    file.write(line + b"\n")
        return _Lines(self._scratch)


class _Kept:
    """The rows of a file that is opened when they are wanted."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def lines(self, table: Table) -> Iterator[bytes]:
        with canonical_sqlite.opened(self._path) as rows:
            yield from rows.lines(table)


class _Lines:
    """Rows that were written to files, one for each table."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def lines(self, table: Table) -> Iterator[bytes]:
        with _lines_of(self._directory, table).open("rb") as file:
            for line in file:
                yield line[:-1]


def _lines_of(directory: Path, table: Table) -> Path:
    return directory / f"{table.name}.jsonl"


@contextmanager
def _rows(store: Comparable) -> Generator[Canonical]:
    if isinstance(store, Path):
        with canonical_sqlite.opened(store) as rows:
            yield rows
    elif isinstance(store, PostgresAddress):
        with _snapshot(store) as reader:
            yield reader.canonical()
    else:
        yield store


@contextmanager
def _snapshot(store: PostgresAddress) -> Generator[PostgresReader]:
    from meterstream_aggregator.store.postgres.reader import PostgresReader  # noqa: PLC0415 - one of two

    with closing(PostgresReader(store, patient=True)) as reader, reader.snapshot():
        yield reader

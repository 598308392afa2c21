"""The store in one SQLite file: the worker's side. One writer thread per process.

``commit`` is the one transaction of DESIGN section 10:

1. ``BEGIN IMMEDIATE``: no other writer from here to the end;
2. each partition's compare-and-set on (epoch, next offset): no row changed means `Fenced`;
3. series, usage, numbers, keys, sessions, dead letters, outbox;
4. ``COMMIT``, synchronous: when it returns, it is on the disk. Its outcome is never in doubt here;
   whoever crashes before it has moved nothing.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Generator, Iterable, Sequence
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import orjson

from meterstream_aggregator.catalogue import (
    MINUTE,
    Catalogue,
    dump_catalogue,
    undump_catalogue,
)
from meterstream_aggregator.changes import ADDED, Changes, OutboxMessage, SeriesKey, UsageDelta
from meterstream_aggregator.dedup import Numbers, ProducerKey, RefusedNumber, pack
from meterstream_aggregator.errors import Fenced, StoreMismatch
from meterstream_aggregator.sessions import Session, SessionKey
from meterstream_aggregator.store import rows
from meterstream_aggregator.store.asking import KNOWN_KEYS, KNOWN_SESSIONS, REFUSED_NUMBERS
from meterstream_aggregator.store.binding import check_binding
from meterstream_aggregator.store.port import Advance, Claim, OutboxRow, TopicBinding
from meterstream_aggregator.store.sqlite_errors import unavailable
from meterstream_aggregator.store.sqlite_usage import (
    LOW_BITS,
    LOW_MASK,
    REMOVE_EMPTY,
    UPSERTS,
    WINDOWS_PER_BLOCK,
    alike,
    table_order,
)

SCHEMA_VERSION: Final = 1
SERIES_CACHED_MAX: Final = 200_000
_PACKAGE: Final = "meterstream_aggregator.store"
_BUSY_SECONDS: Final = 60.0

_ADVANCE: Final = (
    "UPDATE position SET next_offset = ?, appended = ?, counted = counted + ?,"
    " duplicates = duplicates + ?, refused = refused + ?"
    " WHERE partition = ? AND epoch = ? AND next_offset IS ?"
)


class SqliteStore:
    """A `Store` in the file ``path``, made when it is not there.

    Raises `StoreUnavailable` when the file cannot be opened or is locked for a minute, and
    `StoreMismatch` when it is not a store of this version.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._series: dict[SeriesKey, int] = {}
        with unavailable(path):
            self._db = sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None)
        try:
            with unavailable(path):
                self._open()
        except BaseException:
            self._db.close()
            raise

    def bind(self, binding: TopicBinding, catalogue: Catalogue) -> None:
        """Tie the store to a topic and catalogue: see `Store.bind`."""
        text = dump_catalogue(catalogue)
        with self._transaction():
            known = self._db.execute("SELECT * FROM binding").fetchone()
            if known is not None:
                bound = TopicBinding(*known[1:4])
                texts = self._db.execute("SELECT catalogue FROM catalogue_version").fetchall()
                counted_by = [undump_catalogue(dumped) for (dumped,) in [*texts, known[4:]]]
                check_binding(bound, counted_by, binding, catalogue)
            self._db.execute(
                "INSERT OR REPLACE INTO binding VALUES (1, ?, ?, ?, ?)", (*binding, text)
            )
            self._db.execute(
                "INSERT OR IGNORE INTO catalogue_version VALUES (?, ?)", (catalogue.version, text)
            )
        self._versions = {meter.name: meter.version for meter in catalogue.meters}
        self._series.clear()

    def claim(self, partition: int, owner: str) -> Claim:
        """Own a partition from now on: see `Store.claim`."""
        with self._transaction():
            epoch, next_offset, appended = self._db.execute(
                "INSERT INTO position VALUES (?, 1, ?, NULL, 0, 0, 0, 0) ON CONFLICT DO UPDATE"
                " SET epoch = epoch + 1, owner = excluded.owner"
                " RETURNING epoch, next_offset, appended",
                (partition, owner),
            ).fetchone()
        return Claim(partition, epoch, next_offset, appended)

    def commit(self, advances: Sequence[Advance], changes: Changes) -> None:
        """Write one batch, all of it or nothing: see `Store.commit`."""
        try:
            with self._transaction():
                for advance in advances:
                    self._advance(advance)
                for deltas in alike(changes.usage):
                    self._add_usage(deltas)
                self._write_numbers(changes)
                self._write_sessions(changes)
                self._write_rest(changes)
        except BaseException:
            self._series.clear()
            raise

    def outbox(self, partitions: Collection[int], limit: int) -> list[OutboxRow]:
        """The oldest messages of these partitions that wait to leave."""
        with unavailable(self._path):
            found = self._db.execute(
                "SELECT id, partition, topic, key, value, headers FROM outbox"  # noqa: S608 - marks, no values
                f" WHERE partition IN ({_marks(partitions)}) ORDER BY id LIMIT ?",
                (*partitions, limit),
            ).fetchall()
        return [
            OutboxRow(i, OutboxMessage(partition, topic, key, value, rows.undump_headers(told)))
            for i, partition, topic, key, value, told in found
        ]

    def outbox_done(self, ids: Sequence[int]) -> None:
        """Forget messages that their topic has taken."""
        with self._transaction():
            self._db.executemany("DELETE FROM outbox WHERE id = ?", ((done,) for done in ids))

    def close(self) -> None:
        """Let go of the database."""
        self._db.close()

    def numbers(self, wanted: Iterable[ProducerKey]) -> dict[ProducerKey, Numbers]:
        """The seen numbers of those producers that are known."""
        found: dict[ProducerKey, Numbers] = {}
        with unavailable(self._path):
            for key in wanted:
                row = self._db.execute(
                    "SELECT upto, irregular, closed, counted, duplicates, refused, last_append"
                    " FROM producer WHERE producer = ? AND partition = ?",
                    (key.producer, key.partition),
                ).fetchone()
                if row is not None:
                    found[key] = rows.numbers_of_row(row)
        return found

    def refused_numbers(self, wanted: Collection[RefusedNumber]) -> set[RefusedNumber]:
        """Those of these numbers that were seen and not counted."""
        numbers = list(wanted)
        with unavailable(self._path):
            found = self._db.execute(REFUSED_NUMBERS, (json.dumps(numbers),)).fetchall()
        return {numbers[row[0]] for row in found}

    def caller_keys(
        self, partition: int, wanted: Collection[tuple[str, str]]
    ) -> dict[tuple[str, str], tuple[bytes, int]]:
        """Content hash and append time by (tenant, key), for those that are known."""
        pairs = list(wanted)
        with unavailable(self._path):
            rows_found = self._db.execute(KNOWN_KEYS, (json.dumps(pairs), partition)).fetchall()
        return {pairs[at]: (content, append_time) for at, content, append_time in rows_found}

    def known_sessions(self, wanted: Collection[SessionKey]) -> dict[SessionKey, Session]:
        """Those of these sessions that are known."""
        keys = list(wanted)
        with unavailable(self._path):
            found = self._db.execute(KNOWN_SESSIONS, (json.dumps(keys),)).fetchall()
        return {keys[row[0]]: rows.session_of_row(row[1:]) for row in found}

    def due_sessions(self, partition: int, appended: int) -> dict[SessionKey, Session]:
        """Sessions of a partition whose next deadline is at or before ``appended``."""
        with unavailable(self._path):
            found = self._db.execute(
                f"SELECT tenant, type, session, {rows.SESSION_FACTS} FROM session"  # noqa: S608 - marks, no values
                " WHERE partition = ? AND deadline <= ?",
                (partition, appended),
            ).fetchall()
        return {SessionKey(partition, *row[:3]): rows.session_of_row(row[3:]) for row in found}

    def _open(self) -> None:
        self._is_new()
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")
        self._db.execute("PRAGMA wal_autocheckpoint = 8000")
        self._db.execute("PRAGMA cache_size = -65536")
        with self._transaction():
            if self._is_new():
                schema = resources.files(_PACKAGE).joinpath("schema.sql").read_text("utf-8")
                for statement in rows.statements(schema):
                    self._db.execute(statement)
                self._db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")

    def _is_new(self) -> bool:
        """Is the file empty? Raises `StoreMismatch` when it is neither that nor a store of ours."""
        version = self._db.execute("PRAGMA user_version").fetchone()[0]
        if version == 0 and not self._db.execute("SELECT 1 FROM sqlite_master").fetchone():
            return True
        if version != SCHEMA_VERSION:
            raise StoreMismatch(
                f"{self._path}: is a database of version {version}, this program keeps version "
                f"{SCHEMA_VERSION}; name another file, or rebuild the store from the log"
            )
        return False

    @contextmanager
    def _transaction(self) -> Generator[None]:
        with unavailable(self._path):
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise

    def _advance(self, advance: Advance) -> None:
        moved = self._db.execute(
            _ADVANCE,
            (
                advance.next_offset,
                advance.appended,
                advance.counted,
                advance.duplicates,
                advance.refused,
                advance.partition,
                advance.epoch,
                advance.previous,
            ),
        )
        if moved.rowcount != 1:
            raise Fenced(advance.partition, advance.epoch, advance.previous or 0)

    def _add_usage(self, deltas: list[UsageDelta]) -> None:
        """Deltas that join alike, written in one go in the order of the table."""
        columns = [self._columns(delta) for delta in deltas]
        joined = [np.concatenate(parts) for parts in zip(*columns, strict=True)]
        order = table_order(joined[0], joined[1], joined[2], joined[3])
        block, series, start, scale, events, high, low = (column[order] for column in joined)
        ordered = [column.tolist() for column in (block, series, start, scale, events, high, low)]
        aggregate = deltas[0].aggregate
        self._db.executemany(UPSERTS[aggregate], zip(*ordered, strict=True))
        shrunk = (events < 0) | (high < 0)
        if aggregate in ADDED and shrunk.any():
            keys = zip(*ordered[:4], strict=True)
            emptied = [key for key, less in zip(keys, shrunk, strict=True) if less]
            self._db.executemany(REMOVE_EMPTY, emptied)

    def _columns(self, delta: UsageDelta) -> tuple[npt.NDArray[Any], ...]:
        """The columns of the table ``usage`` for a delta."""
        known = self._series
        series = [known.get(key) or self._series_id(key) for key in delta.series]
        return (
            delta.start // (delta.window * WINDOWS_PER_BLOCK),
            np.array(series, dtype=np.int64)[delta.index],
            delta.start // MINUTE,
            delta.scale,
            delta.events,
            delta.quantity >> LOW_BITS,
            delta.quantity & LOW_MASK,
        )

    def _series_id(self, key: SeriesKey) -> int:
        known = self._series.get(key)
        if known is None:
            if len(self._series) >= SERIES_CACHED_MAX:
                self._series.clear()
            known = self._series[key] = self._find_series(key)
        return known

    def _find_series(self, key: SeriesKey) -> int:
        groups = orjson.dumps(key.group).decode()
        row = self._db.execute(
            "INSERT INTO series (meter, tenant, groups, partition, version) VALUES (?, ?, ?, ?, ?)"
            " ON CONFLICT DO UPDATE SET partition = excluded.partition RETURNING id",
            (key.meter, key.tenant, groups, key.partition, self._versions[key.meter]),
        ).fetchone()
        return int(row[0])

    def _write_numbers(self, changes: Changes) -> None:
        self._db.executemany(
            "INSERT OR REPLACE INTO producer VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                (
                    key.partition,
                    key.producer,
                    *pack(numbers),
                    numbers.closed,
                    numbers.counted,
                    numbers.duplicates,
                    numbers.refusals,
                    numbers.last_append,
                )
                for key, numbers in changes.numbers.items()
            ),
        )

    def _write_sessions(self, changes: Changes) -> None:
        self._db.executemany(
            "INSERT OR REPLACE INTO session VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                rows.row_of_session(key, session, deadline)
                for key, (session, deadline) in changes.sessions.items()
            ),
        )

    def _write_rest(self, changes: Changes) -> None:
        self._db.executemany(
            "INSERT OR IGNORE INTO refused_number VALUES (?, ?, ?, ?)",
            [number for number, refused in changes.refused.items() if refused],
        )
        self._db.executemany(
            "DELETE FROM refused_number"
            " WHERE partition = ? AND producer = ? AND lane = ? AND sequence = ?",
            [number for number, refused in changes.refused.items() if not refused],
        )
        self._db.executemany(
            "INSERT OR REPLACE INTO caller_key VALUES (?, ?, ?, ?, ?)", changes.keys
        )
        self._db.executemany(
            "INSERT OR REPLACE INTO dead_letter VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (rows.row_of_dead_letter(letter) for letter in changes.dead_letters),
        )
        self._db.executemany(
            "INSERT INTO outbox (partition, topic, key, value, headers) VALUES (?, ?, ?, ?, ?)",
            ((*message[:4], rows.dump_headers(message.headers)) for message in changes.outbox),
        )


def _marks(values: Collection[Any]) -> str:
    return ", ".join("?" * len(values))

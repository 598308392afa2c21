"""The store in one SQLite file: what questions read. Never writes, never blocks a writer."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from meterstream_aggregator.catalogue import MINUTE, Catalogue, Meter, undump_catalogue
from meterstream_aggregator.errors import StoreMismatch, StoreUnavailable
from meterstream_aggregator.sessions import state_of
from meterstream_aggregator.store import rows
from meterstream_aggregator.store.port import (
    ALL_DEAD_LETTERS,
    DeadLetterRow,
    DeadLettersWanted,
    PositionRow,
    ProducerRow,
    SessionRow,
    TopicBinding,
    UsageRow,
)
from meterstream_aggregator.store.sqlite import SCHEMA_VERSION
from meterstream_aggregator.store.sqlite_usage import LOW_BITS, WINDOWS_PER_BLOCK

_USAGE: Final = """
    WITH RECURSIVE blocks (block) AS (
        SELECT ? UNION ALL SELECT block + 1 FROM blocks WHERE block < ?
    )
    SELECT series.tenant, series.groups, usage.start, usage.events,
           usage.quantity_high, usage.quantity_low, usage.scale
    FROM series CROSS JOIN blocks CROSS JOIN usage
    WHERE series.meter = ? {tenants} AND usage.block = blocks.block AND usage.series = series.id
      AND usage.start >= ? AND usage.start < ?
"""
_ALL_USAGE: Final = """
    SELECT series.tenant, series.groups, usage.start, usage.events,
           usage.quantity_high, usage.quantity_low, usage.scale
    FROM usage CROSS JOIN series
    WHERE usage.block BETWEEN ? AND ? AND series.id = usage.series AND series.meter = ?
      AND usage.start >= ? AND usage.start < ?
"""


def open_reader(path: Path) -> SqliteReader:
    """A reader on the store in ``path``.

    Raises `StoreUnavailable` when no worker has made the store yet, `StoreMismatch` when the file
    is something else.
    """
    return SqliteReader(path)


class SqliteReader:
    """A `StoreReader` on one file. For one thread at a time."""

    def __init__(self, path: Path) -> None:
        self._path = path
        if not path.exists():
            raise StoreUnavailable(f"{path}: there is no store yet; start a worker")
        with self._reading():
            self._db = sqlite3.connect(
                f"{path.absolute().as_uri()}?mode=ro",
                uri=True,
                timeout=10.0,
                isolation_level=None,
                check_same_thread=False,
            )
            version = self._db.execute("PRAGMA user_version").fetchone()[0]
        if version != SCHEMA_VERSION:
            self._db.close()
            if version == 0:
                raise StoreUnavailable(f"{path}: the store is being made; try again")
            raise StoreMismatch(
                f"{path}: has version {version}, this program reads {SCHEMA_VERSION}"
            )

    @contextmanager
    def snapshot(self) -> Generator[None]:
        """Everything read inside sees the same committed state."""
        with self._reading():
            self._db.execute("BEGIN")
            try:
                yield
            finally:
                self._db.execute("COMMIT")

    def catalogue(self) -> Catalogue:
        """The catalogue that the rows were made with."""
        row = self._one("SELECT catalogue FROM binding")
        if row is None:
            raise StoreUnavailable(f"{self._path}: no worker has bound this store yet; start one")
        return undump_catalogue(row[0])

    def topic(self) -> TopicBinding | None:
        """The topic generation this store belongs to, None before any worker bound it."""
        row = self._one("SELECT topic, topic_id, partitions FROM binding")
        return None if row is None else TopicBinding(*row)

    def usage(
        self, meter: Meter, *, tenants: Sequence[str] | None, start: int, end: int
    ) -> Iterator[UsageRow]:
        """Rows of windows that begin in [start, end), of some tenants or of all."""
        if end <= start:
            return
        block = meter.window * WINDOWS_PER_BLOCK
        first, last = start // block, (end - 1) // block
        span = (-(-start // MINUTE), -(-end // MINUTE))
        if tenants is None:
            found = self._each(_ALL_USAGE, (first, last, meter.name, *span))
        else:
            found = self._of_tenants(meter, tenants, (first, last), span)
        groups: dict[str, tuple[str, ...]] = {}
        for tenant, packed, minute, events, high, low, scale in found:
            group = groups.get(packed)
            if group is None:
                group = groups[packed] = tuple(json.loads(packed))
            quantity = low if high == 0 else (high << LOW_BITS) + low
            yield UsageRow(tenant, group, minute * MINUTE, events, quantity, scale, False)

    def sessions(
        self,
        *,
        tenants: Sequence[str] | None = None,
        type: str | None = None,  # noqa: A002 - the word of every layer
        state: str | None = None,
        start: int | None = None,
        end: int | None = None,
        limit: int = 1000,
        after: str | None = None,
    ) -> list[SessionRow]:
        """Sessions that overlap [start, end), in order: see `StoreReader.sessions`."""
        catalogue = self.catalogue()
        appended = {row.partition: row.appended for row in self.positions()}
        found: list[SessionRow] = []
        for row in self._session_rows(tenants, type, end=end, after=after):
            session = rows.session_of_row(row[4:])
            told = state_of(session, catalogue.session_meters(row[2]), appended.get(row[0], 0))
            over = session.end if session.end is not None else session.last_sign
            if state not in (None, told) or (start is not None and told != "open" and over < start):
                continue
            found.append(
                SessionRow(
                    partition=row[0],
                    tenant=row[1],
                    type=row[2],
                    session=row[3],
                    subject=session.subject,
                    attributes=session.attributes,
                    start=session.start,
                    end=session.end,
                    last_sign=session.last_sign,
                    last_append=session.last_append,
                    state=told,
                    conflicts=session.conflicts,
                )
            )
            if len(found) >= limit:
                break
        return found

    def positions(self) -> list[PositionRow]:
        """One row per partition that was ever claimed."""
        return [
            PositionRow(*row)
            for row in self._each(
                "SELECT partition, coalesce(next_offset, -1), appended, epoch, owner, counted,"
                " duplicates, refused FROM position ORDER BY partition"
            )
        ]

    def producers(self, producer: str | None = None) -> list[ProducerRow]:
        """One row per (producer, partition)."""
        where, given = ("WHERE producer = ?", [producer]) if producer is not None else ("", [])
        answer: list[ProducerRow] = []
        for row in self._each(
            "SELECT producer, partition, upto, irregular, closed, counted, duplicates, refused,"  # noqa: S608 - marks, no values
            f" last_append FROM producer {where} ORDER BY producer, partition",
            given,
        ):
            numbers = rows.numbers_of_row(row[2:])
            answer.append(
                ProducerRow(
                    producer=row[0],
                    partition=row[1],
                    seen=numbers.seen(),
                    counted=numbers.counted,
                    duplicates=numbers.duplicates,
                    refused=numbers.refusals,
                    missing=tuple(numbers.missing()),
                    last_append=numbers.last_append,
                    closed=numbers.closed,
                )
            )
        return answer

    def dead_letters(
        self,
        wanted: DeadLettersWanted = ALL_DEAD_LETTERS,
        *,
        after: tuple[int, int] | None = None,
        limit: int = 1000,
    ) -> list[DeadLetterRow]:
        """Newest first; with ``after`` by place: see `StoreReader.dead_letters`."""
        tests: dict[str, object] = {
            "producer = ?": wanted.producer,
            "reason = ?": wanted.reason,
            "tenant = ?": wanted.tenant,
            "type = ?": wanted.type,
            "partition = ?": wanted.partition,
            "append_time >= ?": wanted.since,
            "append_time < ?": wanted.until,
        }
        where = {test: value for test, value in tests.items() if value is not None}
        given = [*where.values(), *(after or ()), limit]
        order = 'append_time DESC, partition DESC, "offset" DESC'
        if after is not None:
            order = 'partition, "offset"'
            where['(partition, "offset") > (?, ?)'] = after
        return [
            DeadLetterRow(*row)
            for row in self._each(
                'SELECT partition, "offset", reason, detail, tenant, type, producer, lane,'  # noqa: S608 - marks, no values
                f" sequence, append_time FROM dead_letter WHERE {' AND '.join(where) or 1}"
                f" ORDER BY {order} LIMIT ?",
                given,
            )
        ]

    def tenants(self) -> list[str]:
        """Every tenant that ever had usage, sorted."""
        return [row[0] for row in self._each("SELECT DISTINCT tenant FROM series ORDER BY tenant")]

    def close(self) -> None:
        """Let go of the database."""
        self._db.close()

    def _session_rows(
        self,
        tenants: Sequence[str] | None,
        of_type: str | None,
        *,
        end: int | None,
        after: str | None,
    ) -> Iterator[tuple[Any, ...]]:
        where, given = ["1"], list[Any]()
        if tenants is not None:
            where.append(f"tenant IN ({', '.join('?' * len(tenants))})")
            given.extend(tenants)
        if of_type is not None:
            where.append("type = ?")
            given.append(of_type)
        if after is not None:
            where.append("(tenant, type, session) > (?, ?, ?)")
            given.extend([*after.split("\x1f"), "", ""][:3])
        if end is not None:
            where.append("coalesce(start, last_sign) < ?")
            given.append(end)
        return self._each(
            f"SELECT partition, tenant, type, session, {rows.SESSION_FACTS} FROM session"  # noqa: S608 - marks, no values
            f" WHERE {' AND '.join(where)} ORDER BY tenant, type, session, partition",
            given,
        )

    def _of_tenants(
        self,
        meter: Meter,
        tenants: Sequence[str],
        blocks: tuple[int, int],
        span: tuple[int, int],
    ) -> Iterator[tuple[Any, ...]]:
        first, last = self._blocks_with_usage(*blocks)
        wanted = list(dict.fromkeys(tenants))
        for at in range(0, len(wanted), 500):
            some = wanted[at : at + 500]
            marks = f"AND series.tenant IN ({', '.join('?' * len(some))})"
            given = (first, last, meter.name, *some, *span)
            if first <= last:
                yield from self._each(_USAGE.format(tenants=marks), given)

    def _blocks_with_usage(self, first: int, last: int) -> tuple[int, int]:
        """The same bounds, cut to where there is any usage: an open-ended question stays cheap."""
        low = self._one("SELECT min(block) FROM usage WHERE block >= ?", (first,))
        high = self._one("SELECT max(block) FROM usage WHERE block <= ?", (last,))
        if not low or not high or low[0] is None or high[0] is None:
            return 1, 0
        return low[0], high[0]

    def _one(self, query: str, given: Sequence[Any] = ()) -> tuple[Any, ...] | None:
        with self._reading():
            row: tuple[Any, ...] | None = self._db.execute(query, given).fetchone()
            return row

    def _each(self, query: str, given: Sequence[Any] = ()) -> Iterator[tuple[Any, ...]]:
        with self._reading():
            yield from self._db.execute(query, given)

    @contextmanager
    def _reading(self) -> Generator[None]:
        try:
            yield
        except sqlite3.DatabaseError as problem:
            raise StoreUnavailable(f"{self._path}: cannot be read now: {problem}") from problem

"""The store in a schema of PostgreSQL: what questions read. Never writes, blocks no writer."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Final

from meterstream_aggregator.catalogue import HOUR, Catalogue, Meter, undump_catalogue
from meterstream_aggregator.changes import CallerKey, OutboxMessage, Place, Span
from meterstream_aggregator.dedup import ProducerKey
from meterstream_aggregator.errors import StoreUnavailable
from meterstream_aggregator.store import rows
from meterstream_aggregator.store.address import PostgresAddress
from meterstream_aggregator.store.asking import caller_key_of_row
from meterstream_aggregator.store.canonical import Canonical
from meterstream_aggregator.store.port import TopicBinding
from meterstream_aggregator.store.postgres import sessions
from meterstream_aggregator.store.postgres.canonical import PostgresRows
from meterstream_aggregator.store.postgres.figures import Figures
from meterstream_aggregator.store.postgres.reading import Connections, ReadConnection
from meterstream_aggregator.store.session_rows import Filter, Teller, place_after
from meterstream_aggregator.store.thresholds import fired_row, total_row
from meterstream_aggregator.store.told import (
    ALL_DEAD_LETTERS,
    DeadLetterRow,
    DeadLettersWanted,
    ItemRow,
    PositionRow,
    ProducerRow,
    ReadingRow,
    SessionRow,
    UsageRow,
)
from meterstream_aggregator.thresholds import FiredRow, TotalRow

_PLACES: Final = (
    "SELECT hour, segment, first, last, events FROM place"
    " WHERE partition = %s AND hour >= %s AND hour < %s ORDER BY hour, segment"
)
_PRESENCES: Final = """
    SELECT producer, min(first), max(last), sum(events)::bigint
    FROM unnest(%s::integer[], %s::bigint[], %s::bigint[]) AS wanted (segment, low, high)
         JOIN presence USING (segment)
    WHERE partition = %s AND first <= high AND last >= low
    GROUP BY producer ORDER BY producer
"""
_KEYS: Final = (
    'SELECT partition, tenant, key, content, append_time, state, "time" FROM caller_key'
    ' WHERE tenant = %s AND "time" >= %s AND "time" < %s ORDER BY "time", partition, key LIMIT %s'
)
_TENANTS: Final = """
    WITH RECURSIVE definition (version) AS (
        SELECT min(version) FROM series
        UNION ALL
        SELECT (SELECT min(series.version) FROM series WHERE series.version > definition.version)
        FROM definition WHERE version IS NOT NULL
    ), owner (version, tenant) AS (
        SELECT version, (
            SELECT min(series.tenant) FROM series WHERE series.version = definition.version
        ) FROM definition
        UNION ALL
        SELECT version, (
            SELECT min(series.tenant) FROM series
            WHERE series.version = owner.version AND series.tenant > owner.tenant
        ) FROM owner WHERE tenant IS NOT NULL
    )
    SELECT DISTINCT tenant FROM owner WHERE tenant IS NOT NULL ORDER BY tenant
"""
"""From one tenant of a definition to the next, not over all of their series."""


class PostgresReader:
    """A `StoreReader` on one schema. For one thread at a time.

    With ``connections`` it takes one of those and gives it back when it is closed. ``patient``:
    without limits of time, for what reads a whole store, or the log beside it. Raises
    `StoreUnavailable` where no store has been made yet, `StoreMismatch` for one of another version.
    """

    def __init__(
        self,
        address: PostgresAddress,
        *,
        connections: Connections | None = None,
        patient: bool = False,
    ) -> None:
        self._read = ReadConnection(address, connections=connections, patient=patient)
        self._figures = Figures(self._read)

    def snapshot(self) -> AbstractContextManager[None]:
        """Everything read inside sees the same committed state."""
        return self._read.snapshot()

    def catalogue(self) -> Catalogue:
        """The catalogue that the rows were made with."""
        row = self._read.one("SELECT catalogue FROM binding WHERE catalogue IS NOT NULL")
        if row is None:
            raise StoreUnavailable(
                f"{self._read.address}: no worker has bound this store yet; start one"
            )
        return undump_catalogue(row[0])

    def catalogues(self) -> dict[str, Catalogue]:
        """Every catalogue that this store was counted with, by version."""
        found = self._read.all("SELECT version, catalogue FROM catalogue_version ORDER BY version")
        return {version: undump_catalogue(text) for version, text in found}

    def readings(self) -> list[ReadingRow]:
        """Which catalogue read which part of the log, by partition and offset."""
        query = "SELECT partition, first_offset, version FROM reading ORDER BY 1, 2"
        return [ReadingRow(*row) for row in self._read.all(query)]

    def topic(self) -> TopicBinding | None:
        """The topic generation this store belongs to, None before any worker bound it."""
        row = self._read.one(
            "SELECT topic, topic_id, partitions FROM binding WHERE topic IS NOT NULL"
        )
        return None if row is None else TopicBinding(*row)

    def usage(
        self,
        meter: Meter,
        *,
        tenants: Sequence[str] | None,
        start: int,
        end: int,
        periods: Sequence[int] | None = None,
    ) -> Iterator[UsageRow]:
        """Rows of windows that begin in [start, end): see `StoreReader.usage`."""
        return self._figures.usage(meter, tenants=tenants, start=start, end=end, periods=periods)

    def items(
        self, meter: Meter, *, tenants: Sequence[str] | None, start: int, end: int
    ) -> Iterator[ItemRow]:
        """The items of windows that begin in [start, end)."""
        return self._figures.items(meter, tenants=tenants, start=start, end=end)

    def levels_before(
        self, meter: Meter, *, tenants: Sequence[str] | None, start: int
    ) -> Iterator[ItemRow]:
        """What holds at ``start`` of a time-weighted meter: see `StoreReader.levels_before`."""
        return self._figures.levels_before(meter, tenants=tenants, start=start)

    def changes_before(
        self, meter: Meter, *, tenants: Sequence[str] | None, start: int
    ) -> Iterator[UsageRow]:
        """What all windows before ``start`` add up to: see `StoreReader.changes_before`."""
        return self._figures.changes_before(meter, tenants=tenants, start=start)

    def adjustments(
        self,
        meter: Meter,
        *,
        tenants: Sequence[str] | None,
        start: int,
        end: int,
        arrived_from: int = 0,
        arrived_until: int = 2**62,
    ) -> Iterator[UsageRow]:
        """The rows of `usage` that came late and arrived in [arrived_from, arrived_until)."""
        return self._figures.adjustments(
            meter,
            tenants=tenants,
            start=start,
            end=end,
            arrived_from=arrived_from,
            arrived_until=arrived_until,
        )

    def overflowing(self) -> list[tuple[str, str, int]]:
        """(meter, tenant, events in the overflow series), sorted."""
        return self._figures.overflowing()

    def places(self, partition: int, start: int, end: int) -> list[tuple[Place, Span]]:
        """Where the log has events of the times [start, end), by hour and segment."""
        found = self._read.all(_PLACES, (partition, start // HOUR, -(-end // HOUR)))
        return [(Place(partition, *row[:2]), Span(*row[2:])) for row in found]

    def presences(
        self, partition: int, wanted: Mapping[int, tuple[int, int]]
    ) -> list[tuple[str, Span]]:
        """Which producers have events in these segments: see `StoreReader.presences`."""
        low, high = [span[0] for span in wanted.values()], [span[1] for span in wanted.values()]
        found = self._read.all(_PRESENCES, (list(wanted), low, high, partition))
        return [(row[0], Span(*row[1:])) for row in found]

    def keys_of(self, tenant: str, start: int, end: int, limit: int) -> tuple[int, list[CallerKey]]:
        """How many callers' keys of a tenant have event times in [start, end), and the first."""
        if "\0" in tenant:
            return 0, []
        counted = self._read.one(
            'SELECT count(*) FROM caller_key WHERE tenant = %s AND "time" >= %s AND "time" < %s',
            (tenant, start, end),
        )
        found = self._read.all(_KEYS, (tenant, start, end, max(limit, 0)))
        return counted[0] if counted else 0, [caller_key_of_row(row) for row in found]

    def awaited(self) -> int:
        """How many VOIDs wait for their original."""
        row = self._read.one("SELECT count(*) FROM caller_key WHERE state = 2")
        return row[0] if row else 0

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
        appended = {row.partition: row.appended for row in self.positions()}
        wanted = Filter(state, start, end, place_after(after))
        teller = Teller(self.catalogue(), appended)
        return sessions.sessions(self._read, teller, tenants, type, wanted, limit)

    def positions(self) -> list[PositionRow]:
        """One row per partition that was ever claimed."""
        return [
            PositionRow(*row)
            for row in self._read.all(
                "SELECT partition, coalesce(next_offset, -1), appended, epoch, owner, counted,"
                ' duplicates, refused FROM "position" ORDER BY partition'
            )
        ]

    def producers(
        self,
        producer: str | None = None,
        *,
        partition: int | None = None,
        lane: int | None = None,
    ) -> list[ProducerRow]:
        """One row per (producer, partition): see `StoreReader.producers`."""
        if producer is not None and "\0" in producer:
            return []
        tests = {"producer = %s": producer, "partition = %s": partition}
        where = {test: value for test, value in tests.items() if value is not None}
        found = self._read.each(
            "SELECT producer, partition, upto, irregular, closed, counted, duplicates, refused,"  # noqa: S608 - marks, no values
            f" last_append FROM producer WHERE {' AND '.join(where) or 'true'}"
            " ORDER BY producer, partition",
            list(where.values()),
        )
        return [
            rows.producer_row(ProducerKey(row[1], row[0]), rows.numbers_of_row(row[2:]), lane)
            for row in found
        ]

    def dead_letters(
        self,
        wanted: DeadLettersWanted = ALL_DEAD_LETTERS,
        *,
        after: tuple[int, int] | None = None,
        limit: int = 1000,
    ) -> list[DeadLetterRow]:
        """Newest first; with ``after`` by place: see `StoreReader.dead_letters`."""
        if "\0" in (wanted.reason or ""):
            return []
        tests: dict[str, object] = {
            "producer = %s": _bytes(wanted.producer),
            "reason = %s": wanted.reason,
            "tenant = %s": _bytes(wanted.tenant),
            "type = %s": _bytes(wanted.type),
            "partition = %s": wanted.partition,
            "append_time >= %s": wanted.since,
            "append_time < %s": wanted.until,
        }
        where = {test: value for test, value in tests.items() if value is not None}
        given = [*where.values(), *(after or ()), limit]
        order = 'append_time DESC, partition DESC, "offset" DESC'
        if after is not None:
            order = 'partition, "offset"'
            where['(partition, "offset") > (%s, %s)'] = after
        found = self._read.all(
            'SELECT partition, "offset", reason, detail, tenant, type, producer, lane,'  # noqa: S608 - marks, no values
            f" sequence, append_time FROM dead_letter WHERE {' AND '.join(where) or 'true'}"
            f" ORDER BY {order} LIMIT %s",
            given,
        )
        return [DeadLetterRow(*map(_text, row)) for row in found]

    def threshold_totals(self, thresholds: Collection[str], start: int) -> list[TotalRow]:
        """Running totals, the latest periods first: see `StoreReader.threshold_totals`."""
        found = self._read.all(
            "SELECT threshold, start, who, value FROM threshold_total"
            " WHERE threshold = ANY(%s::text[]) AND start >= %s AND who <> ''"
            " ORDER BY threshold, start DESC, who",
            (list(thresholds), start),
        )
        return list(map(total_row, found))

    def threshold_notices(self, thresholds: Collection[str] | None, start: int) -> list[FiredRow]:
        """Which values were told of: see `StoreReader.threshold_notices`."""
        some = "true" if thresholds is None else "threshold = ANY(%s::text[])"
        found = self._read.all(
            'SELECT threshold, start, who, at, value, partition, "offset", log_time'  # noqa: S608 - marks, no values
            f" FROM threshold_fired WHERE {some} AND start >= %s"
            " ORDER BY threshold, start, who, at",
            ([] if thresholds is None else [list(thresholds)]) + [start],
        )
        return list(map(fired_row, found))

    def tenants(self) -> list[str]:
        """Every tenant that ever had usage, sorted."""
        return [row[0] for row in self._read.all(_TENANTS)]

    def outbox(self) -> tuple[OutboxMessage, ...]:
        """The messages that wait to leave, in their order."""
        found = self._read.each(
            "SELECT partition, topic, key, value, headers FROM outbox ORDER BY id"
        )
        return tuple(
            OutboxMessage(partition, topic, key, value, rows.undump_headers(headers))
            for partition, topic, key, value, headers in found
        )

    def canonical(self) -> Canonical:
        """The rows to compare. To be read inside a snapshot."""
        return PostgresRows(self._read)

    def close(self) -> None:
        """Let go of the connection."""
        self._read.close()


def _bytes(text: str | None) -> bytes | None:
    return None if text is None else text.encode()


def _text(cell: Any) -> Any:  # noqa: ANN401 - a cell of any column
    return cell.decode() if isinstance(cell, bytes) else cell

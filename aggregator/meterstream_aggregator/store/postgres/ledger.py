"""Thresholds in PostgreSQL: what `store.thresholds` asks, for a whole batch at once.

`begin` reads and locks whatever the batch will touch; `settle` then meets no database but for
usage; `flush` writes what it kept. A total belongs to whoever locked its row first. One that is not
there yet is made, empty, so that there is a row to lock: a second worker waits at it until the
first has committed, and no row is empty after a commit. The total of the account ``""`` is made but
once and never locked again, or workers would wait for each other at every batch.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import Final

from meterstream_aggregator.catalogue import MINUTE, Aggregate, Meter
from meterstream_aggregator.changes import Changes
from meterstream_aggregator.store.postgres.connection import Connection
from meterstream_aggregator.store.postgres.usage import WINDOWS_PER_BLOCK
from meterstream_aggregator.store.thresholds import Used, amount_of
from meterstream_aggregator.thresholds import (
    NOBODY,
    TENANT,
    FiredRow,
    Place,
    Waiting,
    identity,
)
from meterstream_schemas.quantity import Amount, format_amount

_Figure = tuple[str, int, str]
"""(threshold, start of the period, who)."""

_OF_FIGURES: Final = "unnest(%s::text[], %s::bigint[], %s::text[]) AS new (threshold, start, who)"
_SAME: Final = "(known.threshold, known.start, known.who) = (new.threshold, new.start, new.who)"
_MAKE: Final = f"""
    INSERT INTO threshold_total (threshold, start, who, value)
    SELECT threshold, start, who, '' FROM {_OF_FIGURES} ORDER BY threshold, start, who
    ON CONFLICT DO NOTHING
"""  # noqa: S608 - names of our own
_LOCK: Final = f"""
    SELECT known.threshold, known.start, known.who, known.value
    FROM {_OF_FIGURES} JOIN threshold_total AS known ON {_SAME}
    ORDER BY known.threshold, known.start, known.who {{locked}}
"""  # noqa: S608 - names of our own
_FIRED: Final = f"""
    SELECT known.threshold, known.start, known.who, known.at
    FROM {_OF_FIGURES} JOIN threshold_fired AS known ON {_SAME}
"""  # noqa: S608 - names of our own
_KEEP_TOTALS: Final = f"""
    UPDATE threshold_total AS known SET value = new.value
    FROM unnest(%s::text[], %s::bigint[], %s::text[], %s::text[])
        AS new (threshold, start, who, value)
    WHERE {_SAME}
"""  # noqa: S608 - names of our own
_NO_EMPTY: Final = f"""
    DELETE FROM threshold_total AS known USING {_OF_FIGURES} WHERE {_SAME} AND known.value = ''
"""  # noqa: S608 - names of our own
_KEEP_FIRED: Final = """
    INSERT INTO threshold_fired
        (threshold, start, who, at, value, partition, "offset", log_time)
    SELECT * FROM unnest(%s::text[], %s::bigint[], %s::text[], %s::text[], %s::text[],
        %s::integer[], %s::bigint[], %s::bigint[])
    ON CONFLICT DO NOTHING
"""
_KEEP_WAITING: Final = """
    INSERT INTO threshold_waiting
        (threshold, tenant, "window", start, "end", value, partition, "offset", log_time)
    SELECT threshold, tenant, at, start, ends, value, partition, of, log_time
    FROM unnest(%s::text[], %s::text[], %s::bigint[], %s::bigint[], %s::bigint[], %s::text[],
        %s::integer[], %s::bigint[], %s::bigint[]) WITH ORDINALITY
        AS new (threshold, tenant, at, start, ends, value, partition, of, log_time, place)
    ORDER BY place
"""
_TAKE: Final = "SELECT id FROM threshold_waiting WHERE id = ANY(%s) ORDER BY id FOR UPDATE"
_GONE: Final = "DELETE FROM threshold_waiting WHERE id = ANY(%s)"
_WAITING: Final = """
    SELECT id, threshold, tenant, "window", start, "end", value, partition, "offset", log_time
    FROM threshold_waiting WHERE partition = ANY(%s) ORDER BY id LIMIT %s
"""
_BLOCKS: Final = "SELECT min(block), max(block) FROM usage WHERE block BETWEEN %s AND %s"
_COLUMNS: Final = """
    SELECT series.tenant, series.partition, usage.start, usage.events, usage.quantity, usage.scale
"""
_OF_ALL: Final = f"""
    {_COLUMNS} FROM usage JOIN series ON series.id = usage.series
    WHERE series.version = %s AND usage.block BETWEEN %s AND %s
      AND usage.start >= %s AND usage.start < %s
"""
_OF_TENANT: Final = f"""
    {_COLUMNS} FROM series, generate_series(%s::integer, %s::integer) AS blocks (block), usage
    WHERE series.version = %s AND series.tenant = %s
      AND usage.block = blocks.block AND usage.series = series.id
      AND usage.start >= %s AND usage.start < %s
"""


class PostgresLedger:
    """The tables of one store, inside one transaction of its writer: `begin` … `flush`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._totals: dict[_Figure, Amount] = {}
        self._made: list[_Figure] = []
        self._kept: set[_Figure] = set()
        self._fired: dict[_Figure, set[str]] = {}
        self._to_fire: list[FiredRow] = []
        self._to_wait: list[Waiting] = []

    def begin(self, changes: Changes) -> None:
        """Read and lock what these changes will touch."""
        figures: set[_Figure] = {(step.threshold, step.start, NOBODY) for step in changes.waiting}
        for movement in changes.movements:
            name = identity(movement.threshold)
            figures.add((name, movement.start, movement.who))
            if movement.threshold.scope != TENANT:
                figures.add((name, movement.start, NOBODY))
        if not figures:
            return
        self._made = sorted(figures)
        self._connection.execute(_MAKE.encode(), _columns(self._made))
        for some, locked in (
            ([figure for figure in self._made if figure[2] != NOBODY], "FOR UPDATE OF known"),
            ([figure for figure in self._made if figure[2] == NOBODY], ""),
        ):
            if some:
                query = _LOCK.format(locked=locked).encode()
                for *figure, value in self._connection.execute(query, _columns(some)):
                    if value:
                        self._totals[(figure[0], figure[1], figure[2])] = amount_of(value)
        for *figure, at in self._connection.execute(_FIRED, _columns(self._made)):
            self._fired.setdefault((figure[0], figure[1], figure[2]), set()).add(at)

    def flush(self) -> None:
        """Write what was kept."""
        kept = sorted(self._kept)
        if kept:
            values = [format_amount(*self._totals[figure]) for figure in kept]
            self._connection.execute(_KEEP_TOTALS, [*_columns(kept), values])
        empty = [figure for figure in self._made if figure not in self._totals]
        if empty:
            self._connection.execute(_NO_EMPTY, _columns(empty))
        if self._to_fire:
            rows = [
                (*row[:4], format_amount(*row.value), *map(int, row.place)) for row in self._to_fire
            ]
            self._connection.execute(_KEEP_FIRED, _columns(rows))
        if self._to_wait:
            steps = [
                (*step[:5], format_amount(*step.amount), *map(int, step.place))
                for step in self._to_wait
            ]
            self._connection.execute(_KEEP_WAITING, _columns(steps))

    def total(self, threshold: str, who: str, start: int) -> Amount | None:
        """The running total, None where there is none yet."""
        return self._totals.get((threshold, start, who))

    def keep_total(self, threshold: str, who: str, start: int, total: Amount) -> None:
        """Put it in place of what is there."""
        self._totals[(threshold, start, who)] = total
        self._kept.add((threshold, start, who))

    def fired(self, threshold: str, who: str, start: int) -> set[str]:
        """The values of the period that were told of."""
        return set(self._fired.get((threshold, start, who), ()))

    def keep_fired(self, row: FiredRow) -> None:
        """Note a value as told of, unless it was."""
        self._fired.setdefault((row.threshold, row.start, row.who), set()).add(row.at)
        self._to_fire.append(row)

    def keep_waiting(self, waiting: Waiting) -> None:
        """Keep a step until its account is known."""
        self._to_wait.append(waiting)

    def take_waiting(self, ids: Collection[int]) -> bool:
        """Remove these steps; False, and nothing removed, when somebody else has taken one."""
        wanted = sorted(set(ids))
        found = self._connection.execute(_TAKE, (wanted,)).fetchall()
        if len(found) != len(wanted):
            return False
        self._connection.execute(_GONE, (wanted,))
        return True

    def usage(self, meter: Meter, tenant: str | None, start: int, end: int) -> Iterator[Used]:
        """What a definition has in [start, end), of one tenant or of all."""
        size = meter.window * WINDOWS_PER_BLOCK
        span = (start // size, (end - 1) // size)
        # Cut to where there is any usage: a period that has just begun costs next to nothing.
        found = self._connection.execute(_BLOCKS, span).fetchone()
        if found is None or found[0] is None:
            return
        minutes = (start // MINUTE, end // MINUTE)
        rows = (
            self._connection.execute(_OF_ALL, (meter.version, *found, *minutes))
            if tenant is None
            else self._connection.execute(_OF_TENANT, (*found, meter.version, tenant, *minutes))
        )
        for name, partition, minute, events, quantity, scale in rows.fetchall():
            counts = meter.aggregate is Aggregate.COUNT
            amount = Amount(events, 0) if counts else Amount(int(quantity), scale)
            yield Used(name, partition, minute * MINUTE, amount)


def forget(connection: Connection, thresholds: Iterable[str]) -> None:
    """Drop totals that are void; what was told of stays told of."""
    gone = list(thresholds)
    if gone:
        connection.execute("DELETE FROM threshold_total WHERE threshold = ANY(%s)", (gone,))
        connection.execute("DELETE FROM threshold_waiting WHERE threshold = ANY(%s)", (gone,))


def waiting(
    connection: Connection, partitions: Collection[int], limit: int
) -> list[tuple[int, Waiting]]:
    """The oldest steps of these partitions that wait for their account, with their ids."""
    return [
        (waited, Waiting(name, tenant, at, begins, ends, amount_of(value), Place(*place)))
        for waited, name, tenant, at, begins, ends, value, *place in connection.execute(
            _WAITING, (list(partitions), limit)
        )
    ]


def _columns(rows: Iterable[tuple[object, ...]]) -> list[list[object]]:
    return [list(column) for column in zip(*rows, strict=True)]

"""Thresholds in SQLite: what `store.thresholds` asks, and the queries of the reader.

Tables: ``threshold_total``, ``threshold_fired`` and ``threshold_waiting`` of schema.sql.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterable, Iterator
from typing import Final

from meterstream_aggregator.catalogue import MINUTE, Aggregate, Meter
from meterstream_aggregator.store.sqlite_usage import LOW_BITS, WINDOWS_PER_BLOCK
from meterstream_aggregator.store.thresholds import Used, amount_of
from meterstream_aggregator.thresholds import FiredRow, Place, Waiting
from meterstream_schemas.quantity import Amount, format_amount

_COLUMNS: Final = (
    "series.tenant, series.partition, usage.start, usage.events,"
    " usage.quantity_high, usage.quantity_low, usage.scale"
)
_OF_TENANT: Final = f"""
    WITH RECURSIVE blocks (block) AS (
        SELECT ?2 UNION ALL SELECT block + 1 FROM blocks WHERE block < ?3
    )
    SELECT {_COLUMNS} FROM series CROSS JOIN blocks CROSS JOIN usage
    WHERE series.version = ?1 AND series.tenant = ?6
      AND usage.block = blocks.block AND usage.series = series.id
      AND usage.start >= ?4 AND usage.start < ?5
"""  # noqa: S608 - column names of our own
_OF_ALL: Final = f"""
    SELECT {_COLUMNS} FROM usage CROSS JOIN series
    WHERE usage.block BETWEEN ?2 AND ?3 AND series.id = usage.series AND series.version = ?1
      AND usage.start >= ?4 AND usage.start < ?5
"""  # noqa: S608 - column names of our own
_BLOCKS: Final = "SELECT {} (block) FROM usage WHERE block BETWEEN ? AND ?"


class SqliteLedger:
    """The tables of one database, inside its writer's transaction."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def total(self, threshold: str, who: str, start: int) -> Amount | None:
        """The running total, None where there is none yet."""
        row = self._db.execute(
            "SELECT value FROM threshold_total WHERE threshold = ? AND start = ? AND who = ?",
            (threshold, start, who),
        ).fetchone()
        return None if row is None else amount_of(row[0])

    def keep_total(self, threshold: str, who: str, start: int, total: Amount) -> None:
        """Put it in place of what is there."""
        self._db.execute(
            "INSERT OR REPLACE INTO threshold_total VALUES (?, ?, ?, ?)",
            (threshold, start, who, format_amount(*total)),
        )

    def fired(self, threshold: str, who: str, start: int) -> set[str]:
        """The values of the period that were told of."""
        found = self._db.execute(
            "SELECT at FROM threshold_fired WHERE threshold = ? AND start = ? AND who = ?",
            (threshold, start, who),
        )
        return {row[0] for row in found}

    def keep_fired(self, row: FiredRow) -> None:
        """Note a value as told of, unless it was."""
        self._db.execute(
            "INSERT OR IGNORE INTO threshold_fired VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (row.threshold, row.start, row.who, row.at, format_amount(*row.value), *row.place),
        )

    def keep_waiting(self, waiting: Waiting) -> None:
        """Keep a step until its account is known."""
        self._db.execute(
            'INSERT INTO threshold_waiting (threshold, tenant, "window", start, "end", value,'
            ' partition, "offset", log_time) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)',
            (*waiting[:5], format_amount(*waiting.amount), *waiting.place),
        )

    def take_waiting(self, ids: Collection[int]) -> bool:
        """Remove these steps; False, and nothing removed, when somebody else has taken one."""
        for place in ids:
            found = self._db.execute("SELECT 1 FROM threshold_waiting WHERE id = ?", (place,))
            if found.fetchone() is None:
                return False
        self._db.executemany(
            "DELETE FROM threshold_waiting WHERE id = ?", [(place,) for place in ids]
        )
        return True

    def usage(self, meter: Meter, tenant: str | None, start: int, end: int) -> Iterator[Used]:
        """What a definition has in [start, end), of one tenant or of all."""
        size = meter.window * WINDOWS_PER_BLOCK
        span = (start // size, (end - 1) // size)
        # Cut to where there is any usage: a period that has just begun costs next to nothing.
        [first] = self._db.execute(_BLOCKS.format("min"), span).fetchone()
        if first is None:
            return
        [last] = self._db.execute(_BLOCKS.format("max"), span).fetchone()
        given = (meter.version, first, last, start // MINUTE, end // MINUTE)
        found = (
            self._db.execute(_OF_ALL, given)
            if tenant is None
            else self._db.execute(_OF_TENANT, (*given, tenant))
        ).fetchall()
        for name, partition, minute, events, high, low, scale in found:
            amount = (
                Amount(events, 0)
                if meter.aggregate is Aggregate.COUNT
                else Amount((high << LOW_BITS) + low, scale)
            )
            yield Used(name, partition, minute * MINUTE, amount)

    def forget(self, thresholds: Iterable[str]) -> None:
        """Drop totals that are void; what was told of stays told of."""
        gone = [(threshold,) for threshold in thresholds]
        self._db.executemany("DELETE FROM threshold_total WHERE threshold = ?", gone)
        self._db.executemany("DELETE FROM threshold_waiting WHERE threshold = ?", gone)

    def waiting(self, partitions: Collection[int], limit: int) -> list[tuple[int, Waiting]]:
        """The oldest steps of these partitions that wait for their account, with their ids."""
        marks = ", ".join("?" * len(partitions))
        found = self._db.execute(
            'SELECT id, threshold, tenant, "window", start, "end", value, partition,'  # noqa: S608 - marks, no values
            f' "offset", log_time FROM threshold_waiting WHERE partition IN ({marks})'
            " ORDER BY id LIMIT ?",
            (*partitions, limit),
        ).fetchall()
        return [
            (waited, Waiting(name, tenant, at, begins, ends, amount_of(value), Place(*place)))
            for waited, name, tenant, at, begins, ends, value, *place in found
        ]


def totals_query(thresholds: Collection[str], start: int) -> tuple[str, list[object]]:
    """The query of `StoreReader.threshold_totals`; `total_row` reads its rows."""
    query = (
        "SELECT threshold, start, who, value FROM threshold_total"  # noqa: S608 - marks, no values
        f" WHERE threshold IN ({', '.join('?' * len(thresholds))}) AND start >= ? AND who <> ''"
        " ORDER BY threshold, start DESC, who"
    )
    return query, [*thresholds, start]


def notices_query(thresholds: Collection[str] | None, start: int) -> tuple[str, list[object]]:
    """The query of `StoreReader.threshold_notices`; `fired_row` reads its rows."""
    given = list(thresholds or ())
    some = "1" if thresholds is None else f"threshold IN ({', '.join('?' * len(given))})"
    query = (
        "SELECT threshold, start, who, at, value, partition, "  # noqa: S608 - marks, no values
        f'"offset", log_time FROM threshold_fired WHERE {some} AND start >= ?'
        " ORDER BY threshold, start, who, at"
    )
    return query, [*given, start]

"""Thresholds in the store's transaction: running totals, and what was told of already.

`settle` runs before the usage of its batch is written, so that a figure nobody has watched yet
begins with what the store has of its period. Tables: ``threshold_total``, ``threshold_fired`` and
``threshold_waiting`` of schema.sql. A total is plain decimal text, exact and the same however it
came about.

A threshold on accounts asks for the usage of a whole period at once, tenant by tenant, when the
period is first touched: what is there goes to the waiting steps, whose accounts are asked for
afterwards. The total of the account ``""`` marks that this was done.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterable, Iterator
from typing import Any, Final, NamedTuple, Protocol

from meterstream_aggregator.catalogue import MINUTE, Aggregate, Catalogue, Meter, Threshold
from meterstream_aggregator.changes import Changes, OutboxMessage
from meterstream_aggregator.store.sqlite_usage import LOW_BITS, WINDOWS_PER_BLOCK
from meterstream_aggregator.thresholds import (
    NO_OFFSET,
    NOBODY,
    TENANT,
    FiredRow,
    Movement,
    Place,
    TotalRow,
    Waiting,
    advanced,
    identity,
    joined,
    notice,
)
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


class Used(NamedTuple):
    """What one row of usage amounts to."""

    tenant: str
    partition: int
    window: int
    amount: Amount


class Ledger(Protocol):
    """What `settle` reads and writes, inside one transaction."""

    def total(self, threshold: str, who: str, start: int) -> Amount | None:
        """The running total, None where there is none yet."""
        ...

    def keep_total(self, threshold: str, who: str, start: int, total: Amount) -> None:
        """Put it in place of what is there."""
        ...

    def fired(self, threshold: str, who: str, start: int) -> set[str]:
        """The values of the period that were told of."""
        ...

    def keep_fired(self, row: FiredRow) -> None:
        """Note a value as told of, unless it was."""
        ...

    def keep_waiting(self, waiting: Waiting) -> None:
        """Keep a step until its account is known."""
        ...

    def take_waiting(self, ids: Collection[int]) -> bool:
        """Remove these steps; False, and nothing removed, when somebody else has taken one."""
        ...

    def usage(self, meter: Meter, tenant: str | None, start: int, end: int) -> Iterable[Used]:
        """What a definition has in [start, end), of one tenant or of all."""
        ...


def settle(ledger: Ledger, catalogue: Catalogue, changes: Changes) -> Iterator[OutboxMessage]:
    """Add up a batch's steps; the notices of values that are reached. To be run to its end."""
    for row in changes.told:
        ledger.keep_fired(row)
    by_name = {identity(threshold): threshold for threshold in catalogue.thresholds}
    for step in changes.waiting:
        _mark(ledger, catalogue, by_name[step.threshold], step.start, step.end)
        ledger.keep_waiting(step)
    for movement in changes.movements:
        if not movement.waited or ledger.take_waiting(movement.waited):
            yield from _settled(ledger, catalogue, movement)


def _settled(ledger: Ledger, catalogue: Catalogue, movement: Movement) -> Iterator[OutboxMessage]:
    name, who, start = identity(movement.threshold), movement.who, movement.start
    if who == NOBODY:
        return
    total = ledger.total(name, who, start)
    if movement.threshold.scope != TENANT:
        _mark(ledger, catalogue, movement.threshold, start, movement.end)
    elif total is None:
        total = _before(ledger, catalogue, movement)
    after, crossings = advanced(total, movement, ledger.fired(name, who, start))
    ledger.keep_total(name, who, start, after)
    sender = int(movement.places[0][0])
    for crossing in crossings:
        place = crossing.place or Place(sender, NO_OFFSET, 0)
        ledger.keep_fired(FiredRow(name, start, who, crossing.at, crossing.value, place))
        key, value = notice(movement, crossing)
        yield OutboxMessage(sender, movement.topic, key, value, ())


def unwatched(before: Catalogue, after: Catalogue) -> list[str]:
    """Thresholds whose totals are void, for between two catalogues somebody did not watch them."""
    kept = {(identity(each), each.of) for each in before.thresholds} & {
        (identity(each), each.of) for each in after.thresholds
    }
    both = (*before.thresholds, *after.thresholds)
    return sorted({identity(each) for each in both if (identity(each), each.of) not in kept})


def _before(ledger: Ledger, catalogue: Catalogue, movement: Movement) -> Amount | None:
    total: Amount | None = None
    start, end = movement.start, movement.end
    for meter in catalogue.definitions(movement.threshold.meter):
        for used in ledger.usage(meter, movement.who, start, end):
            total = joined(total, used.amount, greatest=movement.greatest)
    return total


def _mark(ledger: Ledger, catalogue: Catalogue, threshold: Threshold, start: int, end: int) -> None:
    """Before an account's period is first touched: let all that it has wait for its accounts."""
    name = identity(threshold)
    if ledger.total(name, NOBODY, start) is not None:
        return
    ledger.keep_total(name, NOBODY, start, Amount(0, 0))
    for meter in catalogue.definitions(threshold.meter):
        for tenant, partition, window, amount in ledger.usage(meter, None, start, end):
            place = Place(partition, NO_OFFSET, 0)
            ledger.keep_waiting(Waiting(name, tenant, window, start, end, amount, place))


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


def total_row(row: tuple[Any, ...]) -> TotalRow:
    """A row of `totals_query`."""
    return TotalRow(row[0], row[1], row[2], amount_of(row[3]))


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


def fired_row(row: tuple[Any, ...]) -> FiredRow:
    """A row of `notices_query`."""
    name, start, who, at, value, *place = row
    return FiredRow(name, start, who, at, amount_of(value), Place(*place))


def amount_of(text: str) -> Amount:
    """The amount that `format_amount` wrote, of any size."""
    whole, _, fraction = text.partition(".")
    return Amount(int(whole + fraction), len(fraction))

"""How usage rows and items are written: their upserts, and the order of the table's key.

Amounts outgrow 64 bits, SQLite's integers do not: they are kept as two integers, see schema.sql.
A row of nothing is never left behind: what adds nothing is not written, and a row that may have
come to nothing is looked at afterwards. So the table does not tell how the log was cut into
batches.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from meterstream_aggregator.catalogue import ADDED, KEPT, MINUTE, MOMENT, Aggregate
from meterstream_aggregator.changes import Item, ItemKey, UsageDelta
from meterstream_aggregator.dedup import Int64Array
from meterstream_aggregator.store.sqlite_many import Insert, insert_columns
from meterstream_aggregator.store.sqlite_series import SeriesIds

WINDOWS_PER_BLOCK: Final = 16
LOW_BITS: Final = 62
LOW_MASK: Final = (1 << LOW_BITS) - 1
SECOND: Final = 1_000_000
_SCALE_BITS: Final = 6

_KEY: Final = "ON CONFLICT DO UPDATE SET events = events + excluded.events, "
_ADD: Final = _KEY + (
    "quantity_high = quantity_high + excluded.quantity_high"
    f" + ((quantity_low + excluded.quantity_low) >> {LOW_BITS}),"
    f" quantity_low = (quantity_low + excluded.quantity_low) & {LOW_MASK}"
)
_EXTREME: Final = _KEY + (
    "(quantity_high, quantity_low) = (SELECT iif({better}, excluded.quantity_high, quantity_high),"
    " iif({better}, excluded.quantity_low, quantity_low))"
)
_LESS: Final = _EXTREME.format(
    better="(excluded.quantity_high, excluded.quantity_low) < (quantity_high, quantity_low)"
)
_MORE: Final = _EXTREME.format(
    better="(excluded.quantity_high, excluded.quantity_low) > (quantity_high, quantity_low)"
)
JOINS: Final[dict[Aggregate, str]] = {Aggregate.MIN: _LESS, Aggregate.MAX: _MORE} | dict.fromkeys(
    ADDED | KEPT, _ADD
)
"""By how a meter's rows join what is there."""
_INTO: Final = "INSERT INTO usage"
_ROW: Final = "(?, ?, ?, ?, ?, ?, ?, ?)"
_USUAL_ROW: Final = "(?, ?, ?, 0, ?, ?, 0, ?)"
"""In time, and of an amount that one integer holds: what need not be bound costs a tenth less."""
_USUAL: Final = (0, 1, 2, 4, 5, 7)
_REMOVE_EMPTY: Final = (
    "DELETE FROM usage WHERE block = ? AND series = ? AND start = ? AND arrival = ? AND scale = ?"
    " AND events = 0 AND quantity_high = 0 AND quantity_low = 0"
)
_LATE: Final = (
    "INSERT OR IGNORE INTO late (block, series, start, arrival, scale) VALUES (?, ?, ?, ?, ?)"
)
_NOT_LATE: Final = (
    "DELETE FROM late WHERE (block, series, start, arrival, scale) = (?1, ?2, ?3, ?4, ?5)"
    " AND NOT EXISTS (SELECT 1 FROM usage WHERE block = ?1 AND series = ?2 AND start = ?3"
    " AND arrival = ?4 AND scale = ?5)"
)
_KEEP_GREATER: Final = """
    INSERT INTO item VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE
    SET time = excluded.time, sequence = excluded.sequence, producer = excluded.producer,
        "offset" = excluded."offset", quantity = excluded.quantity, scale = excluded.scale
    WHERE (excluded.time, excluded.sequence, excluded.producer, excluded."offset",
           excluded.quantity, excluded.scale)
        > (time, sequence, producer, "offset", quantity, scale)
"""


def write_usage(db: sqlite3.Connection, ids: SeriesIds, deltas: list[UsageDelta]) -> None:
    """Join all deltas to what is there, those that join alike in one go."""
    for some in _alike(deltas):
        _write_alike(db, ids, some)


def write_items(db: sqlite3.Connection, ids: SeriesIds, items: Mapping[ItemKey, Item]) -> None:
    """Keep the greater of each item and what is there."""
    series = ids.of_keys([key.series for key in items])
    db.executemany(
        _KEEP_GREATER,
        (
            (owner, key.start // MINUTE, key.item, key.arrival // SECOND, *item)
            for owner, (key, item) in zip(series, items.items(), strict=True)
        ),
    )


def _alike(deltas: list[UsageDelta]) -> list[list[UsageDelta]]:
    """Deltas by how their rows join what is there: added, the smaller, the greater."""
    by_join: dict[str, list[UsageDelta]] = {}
    for delta in deltas:
        by_join.setdefault(JOINS[delta.aggregate], []).append(delta)
    return list(by_join.values())


def _write_alike(db: sqlite3.Connection, ids: SeriesIds, deltas: list[UsageDelta]) -> None:
    columns = [_columns(delta, ids) for delta in deltas]
    joined = [np.concatenate(parts) for parts in zip(*columns, strict=True)]
    if not len(joined[0]):
        return
    order = table_order(joined[0], joined[1], joined[2], joined[4])
    join = JOINS[deltas[0].aggregate]
    events, high, low = joined[5:]
    if join is _ADD:
        something = (events != 0) | (high != 0) | (low != 0)
        if not something.all():
            order = order[something[order]]
    usual = (joined[3][order] == 0) & (high[order] == 0)
    rows = order[usual]
    insert_columns(db, Insert(_INTO, _USUAL_ROW, join), [joined[at][rows] for at in _USUAL])
    rows = order[~usual]
    insert_columns(db, Insert(_INTO, _ROW, join), [column[rows] for column in joined])
    late = joined[3] != 0
    if late.any():
        db.executemany(_LATE, _keys(joined, order[late[order]]))
    if join is _ADD:
        # In time, only what is taken back can bring a row to nothing; late, or of first moments,
        # anything can.
        doubtful = (events < 0) | (high < 0) | late | (joined[4] >= MOMENT)
        if doubtful.any():
            db.executemany(_REMOVE_EMPTY, _keys(joined, order[doubtful[order]]))
            db.executemany(_NOT_LATE, _keys(joined, order[late[order]]))


def _keys(columns: list[npt.NDArray[Any]], rows: Int64Array) -> Iterator[tuple[int, ...]]:
    """The keys of these rows of the table ``usage``."""
    return zip(*(column[rows].tolist() for column in columns[:5]), strict=True)


def _columns(delta: UsageDelta, ids: SeriesIds) -> tuple[npt.NDArray[Any], ...]:
    """The columns of the table ``usage`` for a delta."""
    assert delta.arrival % SECOND == 0, "windows and grace are whole seconds"
    return (
        delta.start // (delta.window * WINDOWS_PER_BLOCK),
        ids.of(delta)[delta.index],
        delta.start // MINUTE,
        np.full(len(delta.start), delta.arrival // SECOND, dtype=np.int64),
        delta.scale,
        delta.events,
        delta.quantity >> LOW_BITS,
        delta.quantity & LOW_MASK,
    )


def table_order(
    block: Int64Array, series: Int64Array, start: Int64Array, scale: Int64Array
) -> Int64Array:
    """The order of the primary key, but for arrivals: they lie side by side anyway.

    Through one packed integer where that has room.
    """
    blocks, minutes = block - block.min(), start - start.min()
    bits = int(series.max()).bit_length(), int(minutes.max()).bit_length()
    if int(blocks.max()).bit_length() + sum(bits) + _SCALE_BITS >= 63:
        return np.lexsort((scale, start, series, block))
    packed = (((blocks << bits[0]) + series << bits[1]) + minutes << _SCALE_BITS) + scale
    return np.argsort(packed)

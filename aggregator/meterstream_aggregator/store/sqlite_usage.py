"""How usage rows are written: the upserts of the table ``usage``, and the order of its key.

Amounts outgrow 64 bits, SQLite's integers do not: they are kept as two integers, see schema.sql.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from meterstream_aggregator.catalogue import Aggregate
from meterstream_aggregator.changes import ADDED, UsageDelta
from meterstream_aggregator.dedup import Int64Array

WINDOWS_PER_BLOCK: Final = 16
LOW_BITS: Final = 62
LOW_MASK: Final = (1 << LOW_BITS) - 1

_KEY: Final = (
    "INSERT INTO usage VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET"
    " events = events + excluded.events, "
)
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
UPSERTS: Final[dict[Aggregate, str]] = {Aggregate.MIN: _LESS, Aggregate.MAX: _MORE} | dict.fromkeys(
    ADDED, _ADD
)
"""By how a meter's rows join what is there; the columns are those of the table."""
REMOVE_EMPTY: Final = (
    "DELETE FROM usage WHERE block = ? AND series = ? AND start = ? AND scale = ?"
    " AND events = 0 AND quantity_high = 0 AND quantity_low = 0"
)


def table_order(
    block: Int64Array, series: Int64Array, start: Int64Array, scale: Int64Array
) -> Int64Array:
    """The order of the primary key, through one packed integer where that has room."""
    blocks, minutes = block - block.min(), start - start.min()
    bits = int(series.max()).bit_length(), int(minutes.max()).bit_length()
    if int(blocks.max()).bit_length() + sum(bits) + 5 >= 63:
        return np.lexsort((scale, start, series, block))
    packed = (((blocks << bits[0]) + series << bits[1]) + minutes << 5) + scale
    return np.argsort(packed)


def alike(deltas: list[UsageDelta]) -> list[list[UsageDelta]]:
    """Deltas by how their rows join what is there: added, the smaller, the greater."""
    by_upsert: dict[str, list[UsageDelta]] = {}
    for delta in deltas:
        by_upsert.setdefault(UPSERTS[delta.aggregate], []).append(delta)
    return list(by_upsert.values())

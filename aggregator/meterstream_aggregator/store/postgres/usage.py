"""How usage rows and items are written to PostgreSQL: whole columns, joined to what is there.

Columns go over as arrays in one statement, in the order of the table's key: see decision 24 for
what COPY into a temporary table costs beside it. As in SQLite a row of nothing is never left
behind, so that the table does not tell how the log was cut into batches.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import orjson

from meterstream_aggregator.catalogue import ADDED, KEPT, MINUTE, MOMENT, Aggregate
from meterstream_aggregator.changes import Item, ItemKey, SeriesKey, UsageDelta
from meterstream_aggregator.store.postgres.arrays import Column, Integers, columns, integers
from meterstream_aggregator.store.postgres.connection import Connection

WINDOWS_PER_BLOCK: Final = 16
SECOND: Final = 1_000_000
SERIES_CACHED_MAX: Final = 200_000

Columns = list[npt.NDArray[Any]]

_NEW: Final = (
    "unnest(%s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[]{more})"
    " AS new (block, series, start, arrival, scale{names})"
)
_OF_KEY: Final = _NEW.format(more="", names="")
_OF_ROWS: Final = _NEW.format(more=", %s::bigint[], %s::{amounts}[]", names=", events, quantity")
_JOIN: Final = f"""
    INSERT INTO usage AS known (block, series, start, arrival, scale, events, quantity)
    SELECT block, series, start, arrival, scale, events, quantity FROM {_OF_ROWS}
    ON CONFLICT (block, series, start, arrival, scale) DO UPDATE SET
        events = known.events + excluded.events, quantity = {{joined}}
"""  # noqa: S608 - names of our own
_ADD: Final = "known.quantity + excluded.quantity"
_LESS: Final = "least(known.quantity, excluded.quantity)"
_MORE: Final = "greatest(known.quantity, excluded.quantity)"
_JOINED: Final[dict[Aggregate, str]] = {Aggregate.MIN: _LESS, Aggregate.MAX: _MORE} | dict.fromkeys(
    ADDED | KEPT, _ADD
)
_REDUCED: Final[dict[str, np.ufunc]] = {_ADD: np.add, _LESS: np.minimum, _MORE: np.maximum}
_SAME_KEY: Final = """
    known.block = new.block AND known.series = new.series AND known.start = new.start
    AND known.arrival = new.arrival AND known.scale = new.scale
"""
_REMOVE_EMPTY: Final = f"""
    DELETE FROM usage AS known USING {_OF_KEY}
    WHERE {_SAME_KEY} AND known.events = 0 AND known.quantity = 0
"""  # noqa: S608 - names of our own
_LATE: Final = f"""
    INSERT INTO late (block, series, start, arrival, scale)
    SELECT block, series, start, arrival, scale FROM {_OF_KEY} ON CONFLICT DO NOTHING
"""  # noqa: S608 - names of our own
_NOT_LATE: Final = f"""
    DELETE FROM late AS gone USING {_OF_KEY}
    WHERE gone.block = new.block AND gone.series = new.series AND gone.start = new.start
      AND gone.arrival = new.arrival AND gone.scale = new.scale
      AND NOT EXISTS (SELECT 1 FROM usage AS known WHERE {_SAME_KEY})
"""  # noqa: S608 - names of our own
_KEEP_GREATER: Final = """
    INSERT INTO item AS known
        (series, start, item, arrival, "time", sequence, producer, "offset", quantity, scale)
    SELECT * FROM unnest(%s::bigint[], %s::bigint[], %s::bytea[], %s::bigint[], %s::bigint[],
        %s::bigint[], %s::text[], %s::bigint[], %s::{amounts}[], %s::bigint[])
    ON CONFLICT (series, start, item, arrival) DO UPDATE SET
        "time" = excluded."time", sequence = excluded.sequence, producer = excluded.producer,
        "offset" = excluded."offset", quantity = excluded.quantity, scale = excluded.scale
    WHERE (excluded."time", excluded.sequence, excluded.producer, excluded."offset",
           excluded.quantity, excluded.scale)
        > (known."time", known.sequence, known.producer, known."offset",
           known.quantity, known.scale)
"""
_OF_SERIES: Final = (
    "unnest(%s::text[], %s::text[], %s::text[], %s::bigint[], %s::text[])"
    " WITH ORDINALITY AS new (meter, tenant, groups, partition, version, place)"
)
_FIND_SERIES: Final = f"""
    SELECT new.place, known.id FROM {_OF_SERIES} JOIN series AS known
    ON known.version = new.version AND known.tenant = new.tenant
        AND known.partition = new.partition AND known.groups = new.groups
"""  # noqa: S608 - names of our own
_MAKE_SERIES: Final = f"""
    INSERT INTO series (meter, tenant, groups, partition, version)
    SELECT meter, tenant, groups, partition, version FROM {_OF_SERIES} ORDER BY place
    ON CONFLICT DO NOTHING
"""  # noqa: S608 - names of our own


class SeriesIds(dict[SeriesKey, int]):
    """The ids of series: a bounded cache of the table, filled by `learn`.

    To be emptied whenever a transaction that asked is rolled back.
    """

    def learn(self, connection: Connection, wanted: Iterable[SeriesKey]) -> None:
        """Find or make all that is not known yet, in a few questions whatever their number."""
        missing = list(dict.fromkeys(key for key in wanted if key not in self))
        if not missing:
            return
        if len(self) + len(missing) > SERIES_CACHED_MAX:
            self.clear()
            missing = list(dict.fromkeys(wanted))
        missing = self._find(connection, missing)
        if missing:
            connection.execute(_MAKE_SERIES, _series_columns(missing))
            missing = self._find(connection, missing)
        assert not missing, "a series was made and is not there"

    def _find(self, connection: Connection, wanted: list[SeriesKey]) -> list[SeriesKey]:
        """Learn what is there; the rest."""
        for place, known in connection.execute(_FIND_SERIES, _series_columns(wanted)):
            self[wanted[place - 1]] = known
        return [key for key in wanted if key not in self]


def series_of(deltas: Sequence[UsageDelta], items: Mapping[ItemKey, Item]) -> list[SeriesKey]:
    """Every series that these have rows of."""
    return [key for delta in deltas for key in delta.series] + [key.series for key in items]


def write_usage(connection: Connection, ids: SeriesIds, deltas: Sequence[UsageDelta]) -> None:
    """Join all deltas to what is there, those that join alike in one go."""
    alike: dict[str, list[UsageDelta]] = {}
    for delta in deltas:
        alike.setdefault(_JOINED[delta.aggregate], []).append(delta)
    for joined, some in alike.items():
        _write_alike(connection, ids, joined, some)


def write_items(connection: Connection, ids: SeriesIds, items: Mapping[ItemKey, Item]) -> None:
    """Keep the greater of each item and what is there."""
    if not items:
        return
    rows = sorted(
        (ids[key.series], key.start // MINUTE, key.item.encode(), key.arrival // SECOND, *item)
        for key, item in items.items()
    )
    quantities = [int(row[8]) for row in rows]
    wide = any(not -(2**63) <= quantity < 2**63 for quantity in quantities)
    given: list[Any] = list(columns("iibiiitiii", [(*row[:8], 0, row[9]) for row in rows]))
    given[8] = quantities if wide else integers(quantities)
    statement = _KEEP_GREATER.format(amounts="numeric" if wide else "bigint")
    connection.execute(statement.encode(), given)


def _write_alike(
    connection: Connection, ids: SeriesIds, joined: str, deltas: list[UsageDelta]
) -> None:
    parts = [_columns(delta, ids) for delta in deltas]
    new = _in_order([np.concatenate(column) for column in zip(*parts, strict=True)])
    new = _once(new, _REDUCED[joined])
    events, quantity = new[5:]
    if joined is _ADD:
        something = (events != 0) | (quantity != 0)
        if not something.all():
            new = [column[something] for column in new]
            events, quantity = new[5:]
    if not len(events):
        return
    wide = quantity.dtype == object
    connection.execute(
        _JOIN.format(amounts="numeric" if wide else "bigint", joined=joined).encode(),
        [*_given(new[:6]), quantity.tolist() if wide else Integers(quantity)],
    )
    late = new[3] != 0
    if late.any():
        connection.execute(_LATE, _given([column[late] for column in new[:5]]))
    if joined is _ADD:
        # In time, only what is taken back can bring a row to nothing; late, or of first moments,
        # anything can.
        doubtful = (events < 0) | (quantity < 0) | late | (new[4] >= MOMENT)
        if doubtful.any():
            connection.execute(_REMOVE_EMPTY, _given([column[doubtful] for column in new[:5]]))
        if late.any():
            connection.execute(_NOT_LATE, _given([column[late] for column in new[:5]]))


def _given(new: Columns) -> list[Integers]:
    return [Integers(column) for column in new]


def _columns(delta: UsageDelta, ids: SeriesIds) -> tuple[npt.NDArray[Any], ...]:
    """The columns of the table ``usage`` for a delta."""
    assert delta.arrival % SECOND == 0, "windows and grace are whole seconds"
    series = [ids[key] for key in delta.series]
    return (
        delta.start // (delta.window * WINDOWS_PER_BLOCK),
        np.array(series, dtype=np.int64)[delta.index],
        delta.start // MINUTE,
        np.full(len(delta.start), delta.arrival // SECOND, dtype=np.int64),
        delta.scale,
        delta.events,
        delta.quantity,
    )


def _in_order(new: Columns) -> Columns:
    """In the order of the table's primary key: workers meet in no other, and pages are met once."""
    order = np.lexsort(tuple(new[4::-1]))
    return [column[order] for column in new]


def _once(new: Columns, reduced: np.ufunc) -> Columns:
    """No key stands twice: one statement may touch a row once only."""
    differs = np.zeros(max(len(new[0]) - 1, 0), dtype=bool)
    for column in new[:5]:
        differs |= column[1:] != column[:-1]
    if differs.all():
        return new
    first = np.concatenate(([0], np.flatnonzero(differs) + 1))
    return [
        *(column[first] for column in new[:5]),
        np.add.reduceat(new[5], first),
        _reduced(new[6], first, reduced),
    ]


def _reduced(
    quantity: npt.NDArray[Any], first: npt.NDArray[np.int64], reduced: np.ufunc
) -> npt.NDArray[Any]:
    """Through Python's integers: two that fit 64 bits may not when added."""
    return np.asarray(reduced.reduceat(quantity.astype(object), first), dtype=object)


def _series_columns(keys: list[SeriesKey]) -> list[Column]:
    return columns(
        "tttit",
        (
            (key.meter, key.tenant, orjson.dumps(key.group).decode(), key.partition, key.version)
            for key in keys
        ),
    )

"""The ids of series: found or made when they are first asked for, a few hundred at a time.

What is not known by now is inserted, with ids of our own, for in a warm process it is nearly always
new. Only where some was there already, as after a restart, is it asked which.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Final

import numpy as np
import orjson

from meterstream_aggregator.changes import Numbered, SeriesKey, UsageDelta
from meterstream_aggregator.dedup import Int64Array
from meterstream_aggregator.store.sqlite_many import Insert, ask_rows, insert_rows

SERIES_CACHED_MAX: Final = 100_000
_FIRST_FREE: Final = "SELECT coalesce(max(id), 0) + 1 FROM series"
_NEW: Final = Insert(
    "INSERT INTO series (id, version, tenant, partition, groups, meter)",
    "(?, ?, ?, ?, ?, ?)",
    "ON CONFLICT (version, tenant, partition, groups) DO NOTHING",
)
_KNOWN: Final = """
    WITH wanted (place, version, tenant, partition, groups) AS ({wanted})
    SELECT wanted.place, known.id FROM wanted CROSS JOIN series AS known
    WHERE known.version = wanted.version AND known.tenant = wanted.tenant
      AND known.partition = wanted.partition AND known.groups = wanted.groups
"""


class SeriesIds:
    """A bounded cache of the table ``series``, by key and by number.

    To be emptied whenever a transaction that asked is rolled back.
    """

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._by_key: dict[SeriesKey, int] = {}
        self._keys: list[SeriesKey] | None = None
        self._by_number = np.zeros(0, dtype=np.int64)

    def of(self, delta: UsageDelta) -> Int64Array:
        """The ids of a delta's series, in their order."""
        if delta.numbered is not None:
            return self._of_numbers(delta.numbered)
        return np.array(self.of_keys(delta.series), dtype=np.int64)

    def of_keys(self, keys: Sequence[SeriesKey]) -> list[int]:
        """The ids of these series, in their order."""
        if len(self._by_key) > SERIES_CACHED_MAX:
            self._by_key.clear()
        known = self._by_key
        unknown = [key for key in dict.fromkeys(keys) if key not in known]
        if unknown:
            known.update(zip(unknown, self._found_or_made(unknown), strict=True))
        return [known[key] for key in keys]

    def clear(self) -> None:
        """Forget everything."""
        self._by_key.clear()
        self._keys = None
        self._by_number = np.zeros(0, dtype=np.int64)

    def _of_numbers(self, numbered: Numbered) -> Int64Array:
        keys, numbers = numbered.keys, numbered.numbers
        if self._keys is not keys:
            self._keys, self._by_number = keys, np.zeros(len(keys), dtype=np.int64)
        if len(self._by_number) < len(keys):
            more = np.zeros(len(keys) + len(keys) // 4, dtype=np.int64)
            more[: len(self._by_number)] = self._by_number
            self._by_number = more
        unknown = np.unique(numbers[self._by_number[numbers] == 0])
        if len(unknown):
            wanted = [keys[number] for number in unknown.tolist()]
            self._by_number[unknown] = np.array(self._found_or_made(wanted), dtype=np.int64)
        return self._by_number[numbers]

    def _found_or_made(self, keys: Sequence[SeriesKey]) -> Sequence[int]:
        """Ids of distinct series, none of them cached."""
        db = self._db
        [first] = db.execute(_FIRST_FREE).fetchone()
        named = [(key[4], key[1], key[0], orjson.dumps(key[3]).decode()) for key in keys]
        before = db.total_changes
        rows = [(first + n, *name, keys[n].meter) for n, name in enumerate(named)]
        insert_rows(db, _NEW, rows)
        if db.total_changes - before == len(keys):
            return range(first, first + len(keys))
        found = dict(ask_rows(db, _KNOWN, named))
        return [found[n] for n in range(len(keys))]

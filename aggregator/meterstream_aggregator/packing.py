"""The series of a batch's rows: as one integer per row, by number and by name."""

from __future__ import annotations

from itertools import repeat
from typing import Final

import numpy as np

from meterstream_aggregator.batch import Batch, Codes, Int64Array, distinct
from meterstream_aggregator.catalogue import Meter
from meterstream_aggregator.changes import Numbered, SeriesKey
from meterstream_aggregator.naming import SeriesNames
from meterstream_aggregator.state import SeriesOwner, State

NUMBERED_MIN = 128
"""Fewer series than this are named sooner than looked up. Tests number any number of them."""
_PACKED_MAX: Final = 2**62


class Packed:
    """One integer per row, put together from several codes."""

    def __init__(self, codes: Int64Array, width: int) -> None:
        self.codes = codes
        self._width = width

    def add(self, codes: Int64Array, width: int) -> None:
        """Make it tell apart these codes too, each at least 0 and below ``width``."""
        if self._width * width >= _PACKED_MAX:
            names, self.codes = distinct(self.codes)
            self._width = len(names)
        self.codes = self.codes * width + codes
        self._width *= width

    def copy(self) -> Packed:
        """Another one that grows on its own."""
        return Packed(self.codes, self._width)


class RowSeries:
    """The series of every row, as integers and by name."""

    def __init__(self, batch: Batch, rows: Int64Array, meter: Meter, names: SeriesNames) -> None:
        self._names = names
        self._batch = batch
        self._rows = rows
        self._meter = meter
        self._groups = [_with_absent_as_empty(batch.attribute(n), rows) for n in meter.group_by]
        self._table: list[SeriesKey] | None = None
        partition = batch.partition[rows]
        tenants = len(batch.tenant.values)
        self.packed = Packed(partition, int(partition.max()) + 1)
        self.packed.add(batch.tenant.codes[rows], tenants)
        for group in self._groups:
            self.packed.add(group.codes, len(group.values))

    def named(self, at: Int64Array) -> tuple[list[SeriesKey], Numbered | None]:
        """The series of the rows at these positions, no two alike; by number too if they have."""
        table = self._table
        if table is not None:
            return [table[code] for code in self.packed.codes[at].tolist()], None
        if len(at) < NUMBERED_MIN:
            return self._keys(at), None
        rows = self._rows[at]
        tenant = self._batch.tenant
        numbered = self._names.numbered(
            self._meter,
            self._batch.partition[rows],
            (tenant.codes[rows], tenant.values),
            [(group.codes[at], group.values) for group in self._groups],
        )
        if numbered is None:
            return self._keys(at), None
        keys = numbered.keys
        return [keys[number] for number in numbered.numbers.tolist()], numbered

    def admit(self, state: State) -> None:
        """Put those that have no room, in log order, into the series that takes what is beyond."""
        _, code = distinct(self.packed.codes)
        wanted, _ = self.named(one_of_each(code))
        table: dict[SeriesKey, int] = {}
        at = np.empty(len(wanted), dtype=np.int64)
        for n, key in enumerate(wanted):
            if key not in state.series.settled:
                key = self._admitted(key, state)  # noqa: PLW2901 - the series it is counted under
            at[n] = table.setdefault(key, len(table))
        self._table = list(table)
        self.packed = Packed(at[code], len(table))

    def _keys(self, at: Int64Array) -> list[SeriesKey]:
        rows = self._rows[at]
        tenants = self._batch.tenant.values
        groups = [
            [group.values[code] for code in group.codes[at].tolist()] for group in self._groups
        ]
        told = zip(
            self._batch.partition[rows].tolist(),
            [tenants[code] for code in self._batch.tenant.codes[rows].tolist()],
            repeat(self._meter.name),
            zip(*groups, strict=True) if groups else repeat(()),
            repeat(self._meter.version),
        )
        return list(map(SeriesKey._make, told))

    def _admitted(self, key: SeriesKey, state: State) -> SeriesKey:
        owner = SeriesOwner(key.partition, key.tenant, key.version)
        group = state.admitted(owner, key.group, self._meter.series_per_tenant)
        if group != key.group:
            return key._replace(group=group)
        state.series.settled.add(key)
        return key


def _with_absent_as_empty(column: Codes, rows: Int64Array) -> Codes:
    """These rows of a column, every one coded: an absent text is the empty text."""
    codes = column.codes[rows]
    if int(codes.min()) >= 0:
        return Codes(codes, column.values)
    if "" in column.values:
        empty, values = column.values.index(""), column.values
    else:
        empty, values = len(column.values), [*column.values, ""]
    return Codes(np.where(codes < 0, empty, codes), values)


def one_of_each(codes: Int64Array) -> Int64Array:
    """Per code the position of one row that has it. No code below the highest is missing."""
    one = np.empty(int(codes.max()) + 1, dtype=np.int64)
    one[codes] = np.arange(len(codes))
    return one

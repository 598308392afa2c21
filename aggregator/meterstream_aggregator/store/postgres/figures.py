"""What questions read of usage and items in PostgreSQL, joined in SQL where no figure changes.

A question's rows are found by its blocks and series: see `figures_sql`. Of a time of many blocks it
is looked first which of them have any usage, so that time without usage costs nothing. NUMERIC adds
up exactly at any size.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import Any, Final

from meterstream_aggregator.catalogue import MINUTE, MOMENT, Meter
from meterstream_aggregator.changes import OVERFLOW, Item
from meterstream_aggregator.store.postgres import figures_sql as sql
from meterstream_aggregator.store.postgres.reading import ReadConnection, Row
from meterstream_aggregator.store.sqlite_figures import JOINED
from meterstream_aggregator.store.sqlite_usage import SECOND, WINDOWS_PER_BLOCK
from meterstream_aggregator.store.told import ItemRow, UsageRow

_WINDOWS_JOINED_MIN: Final = 4
_TENANTS_ASKED: Final = 500
_SERIES_ASKED: Final = 1_000
_EVER: Final = 2**62
_SCALES_ALL: Final = 2**15 - 1
_BLOCKS_GUESSED_MAX: Final = 4_096

_Names = tuple[str, tuple[str, ...]]
_Known = Mapping[int, _Names]


class Figures:
    """The rows of `StoreReader` that hold figures."""

    def __init__(self, connection: ReadConnection) -> None:
        self._read = connection

    def usage(
        self,
        meter: Meter,
        *,
        tenants: Sequence[str] | None,
        start: int,
        end: int,
        periods: Sequence[int] | None,
    ) -> Iterator[UsageRow]:
        """See `StoreReader.usage`."""
        start = max(start, 0)
        if end <= start:
            return iter(())
        if periods is not None and meter.aggregate in JOINED:
            inside = [start, *(bound for bound in periods if start < bound < end), end]
            if (end - start) >= _WINDOWS_JOINED_MIN * meter.window * (len(inside) - 1):
                return self._sums(meter, tenants, inside)
        return self._rows(meter, tenants, start, end)

    def items(
        self, meter: Meter, *, tenants: Sequence[str] | None, start: int, end: int
    ) -> Iterator[ItemRow]:
        """See `StoreReader.items`."""
        given = {"low": _minutes(start), "high": _minutes(end)}
        for known in self._series(meter, tenants):
            for row in self._read.each(sql.ITEMS, given | {"series": list(known)}):
                yield _item_row(known[row[0]], row)

    def levels_before(
        self, meter: Meter, *, tenants: Sequence[str] | None, start: int
    ) -> Iterator[ItemRow]:
        """See `StoreReader.levels_before`."""
        for known in self._series(meter, tenants):
            done = -1
            given = {"series": list(known), "high": _minutes(start)}
            for row in self._read.each(sql.LEVELS, given):
                if row[0] != done:
                    yield _item_row(known[row[0]], row)
                    done = row[0] if row[2] == 0 else done

    def changes_before(
        self, meter: Meter, *, tenants: Sequence[str] | None, start: int
    ) -> Iterator[UsageRow]:
        """See `StoreReader.changes_before`."""
        if start <= 0:
            return
        for joined, last in self._summed(meter, tenants, [0, start], scales=MOMENT):
            yield joined._replace(start=last)

    def adjustments(
        self,
        meter: Meter,
        *,
        tenants: Sequence[str] | None,
        start: int,
        end: int,
        arrived_from: int,
        arrived_until: int,
    ) -> Iterator[UsageRow]:
        """See `StoreReader.adjustments`."""
        given = {
            "version": meter.version,
            "low": _minutes(start),
            "high": _minutes(end),
            "arrived_from": -(-arrived_from // SECOND),
            "arrived_until": -(-arrived_until // SECOND),
        }
        known = _Met(self._read)
        if tenants is None:
            for row in self._read.each(sql.LATE, given):
                yield _usage_row(known[row[0]], row)
            return
        for some in _some_of(tenants):
            wanted = given | {"tenants": some}
            for row in self._read.each(sql.LATE + sql.OF_TENANTS, wanted):
                yield _usage_row(known[row[0]], row)

    def overflowing(self) -> list[tuple[str, str, int]]:
        """See `StoreReader.overflowing`."""
        owners: dict[int, tuple[str, str]] = {}
        for series, meter, tenant, groups in self._read.all(sql.OVERFLOWING):
            if set(json.loads(groups)) == {OVERFLOW}:
                owners[series] = (meter, tenant)
        if not owners:
            return []
        events: dict[int, int] = dict(self._read.all(sql.OVERFLOWED, (list(owners),)))
        found: dict[tuple[str, str], int] = {}
        for series, owner in owners.items():
            found[owner] = found.get(owner, 0) + events.get(series, 0)
        return [(meter, tenant, count) for (meter, tenant), count in sorted(found.items())]

    def _rows(
        self, meter: Meter, tenants: Sequence[str] | None, start: int, end: int
    ) -> Iterator[UsageRow]:
        for query, known, given in self._asked(meter, tenants, [start, end], _SCALES_ALL):
            for portion in self._read.portions(sql.ROWS + query, given):
                yield from [_usage_row(known[row[0]], row) for row in portion]

    def _sums(
        self, meter: Meter, tenants: Sequence[str] | None, bounds: Sequence[int]
    ) -> Iterator[UsageRow]:
        """One row per period and what tells rows apart, and one of nothing for the last window."""
        for joined, last in self._summed(meter, tenants, bounds, scales=_SCALES_ALL):
            yield joined
            if last > joined.start:
                yield joined._replace(start=last, events=0, quantity=0)

    def _summed(
        self, meter: Meter, tenants: Sequence[str] | None, bounds: Sequence[int], *, scales: int
    ) -> Iterator[tuple[UsageRow, int]]:
        """Several rows as one, which begins with the first window of them; and the last window."""
        by = sql.BY_ONE if len(bounds) == 2 else sql.BY_PERIOD
        for query, known, given in self._asked(meter, tenants, bounds, scales):
            wanted = given | {"bounds": [_minutes(bound) for bound in bounds]}
            # A few rows, but for all tenants.
            text = sql.SUMS + query + by
            found = (
                self._read.each(text, wanted) if tenants is None else self._read.all(text, wanted)
            )
            for series, scale, arrival, first, last, events, quantity in found:
                row = (series, first, events, quantity, scale, arrival)
                yield _usage_row(known[series], row), last * MINUTE

    def _asked(
        self, meter: Meter, tenants: Sequence[str] | None, bounds: Sequence[int], scales: int
    ) -> Iterator[tuple[str, _Known, dict[str, Any]]]:
        """The rows to read: where they are, whose they are, and what the query is given."""
        minutes = meter.window * WINDOWS_PER_BLOCK // MINUTE
        low, high = _minutes(bounds[0]), _minutes(bounds[-1])
        first, end = low // minutes, -(-high // minutes)
        given: dict[str, Any] = {"low": low, "high": high, "scales": scales}
        if tenants is None:
            span = {"version": meter.version, "first": first, "end": end}
            yield sql.OF_ALL, _Met(self._read), given | span
            return
        given["blocks"] = self._blocks(first, end)
        for known in chain.from_iterable(
            self._of_tenants(meter, some) for some in _some_of(tenants)
        ):
            yield sql.OF_SERIES, known, given | {"series": list(known)}

    def _blocks(self, first: int, end: int) -> list[int]:
        """Few are all taken to have usage; of many it is looked which do."""
        if end - first <= _BLOCKS_GUESSED_MAX:
            return list(range(first, end))
        return [block for (block,) in self._read.all(sql.BLOCKS, {"first": first, "end": end})]

    def _series(self, meter: Meter, tenants: Sequence[str] | None) -> Iterator[_Known]:
        """Series with their names, some at a time."""
        if tenants is None:
            found = self._read.portions(sql.ALL_SERIES, (meter.version,), size=_SERIES_ASKED)
            return map(_names, found)
        return chain.from_iterable(self._of_tenants(meter, some) for some in _some_of(tenants))

    def _of_tenants(self, meter: Meter, tenants: list[str]) -> Iterator[_Known]:
        found = self._read.all(sql.SERIES, (meter.version, tenants))
        for at in range(0, len(found), _SERIES_ASKED):
            yield _names(found[at : at + _SERIES_ASKED])


class _Met(dict[int, _Names]):
    """Tenant and group of series by id, looked up when they are first met."""

    def __init__(self, connection: ReadConnection) -> None:
        super().__init__()
        self._read = connection

    def __missing__(self, series: int) -> _Names:
        row = self._read.one("SELECT tenant, groups FROM series WHERE id = %s", (series,))
        assert row is not None, "series are never deleted"
        self[series] = row[0], tuple(json.loads(row[1]))
        return self[series]


def _names(found: list[Row]) -> _Known:
    return {series: (tenant, tuple(json.loads(groups))) for series, tenant, groups in found}


def _usage_row(names: _Names, row: Row) -> UsageRow:
    _, start, events, quantity, scale, arrival = row
    return UsageRow(*names, start * MINUTE, events, int(quantity), scale, arrival * SECOND)


def _item_row(names: _Names, row: Row) -> ItemRow:
    _, start, arrival, item, time, sequence, producer, offset, quantity, scale = row
    by = Item(time, sequence, producer, offset, int(quantity), scale)
    return ItemRow(*names, start * MINUTE, arrival * SECOND, item.decode(), by)


def _some_of(tenants: Sequence[str]) -> Iterator[list[str]]:
    """Some at a time, none twice; none that PostgreSQL's text cannot hold: there is none such."""
    wanted = [tenant for tenant in dict.fromkeys(tenants) if "\0" not in tenant]
    for at in range(0, len(wanted), _TENANTS_ASKED):
        yield wanted[at : at + _TENANTS_ASKED]


def _minutes(time: int) -> int:
    return -(-time // MINUTE)

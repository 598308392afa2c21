"""What questions read of usage and items in SQLite, joined in SQL where that is the same figure.

A question's time is walked block by block: from one block that has usage to the next, so that time
without usage costs nothing. Within a block a series' rows are one short range of the table.

Sums by period of tenants that are named go another way, for a question reads most of its rows so: a
period's rows that came in time are one aggregate without GROUP BY, which would sort them or copy
each; late rows, which are few, are found by their own keys. A period whose amounts have several
scales is asked for again, grouped.

Sums are exact: amounts are two integers (see schema.sql), and the lower is added up in two halves
of 31 bits, so that billions of rows fit into SQLite's integers.
"""

from __future__ import annotations

import json
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import chain, pairwise
from typing import Any, Final, NamedTuple

import orjson

from meterstream_aggregator.catalogue import MINUTE, MOMENT, Aggregate, Meter
from meterstream_aggregator.changes import OVERFLOW, Item
from meterstream_aggregator.store import sqlite_figures_sql as sql
from meterstream_aggregator.store.sqlite_connection import ReadConnection, Row
from meterstream_aggregator.store.sqlite_usage import LOW_BITS, SECOND, WINDOWS_PER_BLOCK
from meterstream_aggregator.store.told import ItemRow, UsageRow

JOINED: Final = frozenset({Aggregate.COUNT, Aggregate.SUM, Aggregate.AVERAGE, Aggregate.SESSION})
"""Aggregates whose rows of one period may be added up before they are told."""
_WINDOWS_JOINED_MIN: Final = 4
_TENANTS_ASKED: Final = 500
_EVER: Final = 2**62
_BLOCKS_GUESSED_MAX: Final = 4_096

_Names = tuple[str, tuple[str, ...]]


class _Sum(NamedTuple):
    """Several rows as one, which begins with the first window of them, and the last window."""

    joined: UsageRow
    last: int


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
        return chain.from_iterable(self._rows(meter, tenants, start, end))

    def items(
        self, meter: Meter, *, tenants: Sequence[str] | None, start: int, end: int
    ) -> Iterator[ItemRow]:
        """See `StoreReader.items`."""
        span = (_minutes(start), _minutes(end))
        for series, names in self._series(meter, tenants):
            for portion in self._read.portions(sql.ITEMS, (series, *span)):
                yield from _item_rows(names, portion)

    def levels_before(
        self, meter: Meter, *, tenants: Sequence[str] | None, start: int
    ) -> Iterator[ItemRow]:
        """See `StoreReader.levels_before`."""
        for series, names in self._series(meter, tenants):
            for row in self._read.each(sql.LEVELS, (series, 0, _minutes(start)), size=16):
                yield from _item_rows(names, [row])
                if row[2] == 0:
                    break

    def changes_before(
        self, meter: Meter, *, tenants: Sequence[str] | None, start: int
    ) -> Iterator[UsageRow]:
        """See `StoreReader.changes_before`."""
        if start <= 0:
            return
        for row in self._summed(meter, tenants, [0, start], scales=MOMENT):
            yield row.joined._replace(start=row.last)

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
        known = _Known(self._read)
        if tenants is None:
            for portion in self._read.portions(sql.LATE.format(whose="1"), given):
                yield from _usage_rows(known, portion)
            return
        query = sql.LATE.format(whose="series.tenant IN (SELECT value FROM json_each(:tenants))")
        for some in _some_of(tenants):
            for portion in self._read.portions(query, given | {"tenants": json.dumps(some)}):
                yield from _usage_rows(known, portion)

    def overflowing(self, windows: dict[str, int]) -> list[tuple[str, str, int]]:
        """See `StoreReader.overflowing`. ``windows`` are the lengths by `Meter.version`."""
        found: dict[tuple[str, str], int] = {}
        for series, meter, tenant, version, groups in self._read.all(sql.OVERFLOWING):
            if set(json.loads(groups)) == {OVERFLOW}:
                given = _pieces(windows[version], [0, _EVER]) | {"series": json.dumps([series])}
                row = self._read.one(sql.PIECES + "SELECT sum(usage.events)" + sql.OF_SERIES, given)
                events = row[0] if row is not None and row[0] is not None else 0
                found[(meter, tenant)] = found.get((meter, tenant), 0) + events
        return [(meter, tenant, events) for (meter, tenant), events in sorted(found.items())]

    def _rows(
        self, meter: Meter, tenants: Sequence[str] | None, start: int, end: int
    ) -> Iterator[list[UsageRow]]:
        given = _pieces(meter.window, [start, end])
        if tenants is None:
            known = _Known(self._read)
            for portion in self._read.portions(
                sql.ROWS + sql.OF_ALL, given | {"version": meter.version}
            ):
                yield _usage_rows(known, portion)
            return
        for some in _some_of(tenants):
            known = self._known(meter, some)
            if known:
                wanted = given | {"series": json.dumps(list(known))}
                for portion in self._read.portions(sql.ROWS + sql.OF_SERIES, wanted):
                    yield _usage_rows(known, portion)

    def _sums(
        self, meter: Meter, tenants: Sequence[str] | None, bounds: Sequence[int]
    ) -> Iterator[UsageRow]:
        """One row per period and what tells rows apart, and one of nothing for the last window."""
        for joined, last in self._summed(meter, tenants, bounds, scales=_EVER):
            yield joined
            if last > joined.start:
                yield joined._replace(start=last, events=0, quantity=0)

    def _summed(
        self, meter: Meter, tenants: Sequence[str] | None, bounds: Sequence[int], *, scales: int
    ) -> Iterator[_Sum]:
        given = _pieces(meter.window, bounds) | {"scales": scales}
        if tenants is None:
            query, known = sql.SUMS + sql.OF_ALL + sql.BY_PERIOD, _Known(self._read)
            found = self._read.each(query, given | {"version": meter.version})
            yield from (_sum_of(known, row) for row in found)
            return
        given["spans"] = self._spans(given["minutes"], bounds)
        given |= {"low": _minutes(bounds[0]), "high": _minutes(bounds[-1])}
        and_scale = "" if scales == _EVER else "AND usage.scale < :scales"
        in_time = sql.IN_TIME.format(and_scale=and_scale)
        late = sql.LATE_SUMS.format(apart="" if len(bounds) == 2 else "usage.start,")
        for some in _some_of(tenants):
            known = self._known(meter, some)
            if known:
                wanted = given | {"series": json.dumps(list(known))}
                yield from self._summed_in_time(in_time, known, wanted)
                yield from (_sum_of(known, row) for row in self._read.each(late, wanted))

    def _summed_in_time(self, query: str, known: _Known, given: dict[str, Any]) -> Iterator[_Sum]:
        for series, low, high, told in self._read.each(query, given):
            if told is None:
                continue
            scale, other, *sums = orjson.loads(told)
            if scale == other:
                yield _sum_of(known, (series, scale, 0, *sums))
                continue
            only = {"series": json.dumps([series]), "periods": json.dumps([(low, high)])}
            yield from (_sum_of(known, row) for row in self._read.each(sql.MIXED, given | only))

    def _spans(self, minutes: int, bounds: Sequence[int]) -> str:
        """What `sql.IN_TIME` is told of each period: its blocks as well.

        Few are all taken to have usage; of many it is looked which do.
        """
        spans = [
            (low, high, low // minutes, -(-high // minutes))
            for low, high in pairwise(map(_minutes, bounds))
        ]
        first, end = spans[0][2], spans[-1][3]
        if end - first <= _BLOCKS_GUESSED_MAX:
            told = [(low, high, list(range(*of))) for low, high, *of in spans]
            return orjson.dumps(told).decode()
        given = {"first": first, "end": end}
        found = [block for (block,) in self._read.each(sql.BLOCKS, given)]
        told = [
            (low, high, found[bisect_left(found, of[0]) : bisect_left(found, of[1])])
            for low, high, *of in spans
        ]
        return orjson.dumps(told).decode()

    def _known(self, meter: Meter, tenants: list[str]) -> _Known:
        known = _Known(self._read)
        for series, tenant, groups in self._read.all(
            sql.SERIES, (meter.version, json.dumps(tenants))
        ):
            known[series] = (tenant, tuple(json.loads(groups)))
        return known

    def _series(self, meter: Meter, tenants: Sequence[str] | None) -> Iterator[tuple[int, _Names]]:
        if tenants is None:
            query = "SELECT id, tenant, groups FROM series WHERE version = ?"
            for series, tenant, groups in self._read.each(query, (meter.version,)):
                yield series, (tenant, tuple(json.loads(groups)))
            return
        for some in _some_of(tenants):
            yield from self._known(meter, some).items()


class _Known(dict[int, _Names]):
    """Tenant and group of series by id, looked up when they are first met."""

    def __init__(self, connection: ReadConnection) -> None:
        super().__init__()
        self._read = connection

    def __missing__(self, series: int) -> _Names:
        row = self._read.one("SELECT tenant, groups FROM series WHERE id = ?", (series,))
        assert row is not None, "series are never deleted"
        self[series] = row[0], tuple(json.loads(row[1]))
        return self[series]


def _pieces(window: int, bounds: Sequence[int]) -> dict[str, Any]:
    """What `sql.PIECES` and `_WITHIN` are given."""
    periods = json.dumps(list(pairwise(map(_minutes, bounds))))
    return {
        "periods": periods,
        "minutes": window * WINDOWS_PER_BLOCK // MINUTE,
        "scales": _EVER,
    }


def _usage_rows(known: _Known, portion: list[Row]) -> list[UsageRow]:
    return [
        UsageRow(
            *known[series],
            start * MINUTE,
            events,
            (high << LOW_BITS) + low if high else low,
            scale,
            arrival * SECOND,
        )
        for series, start, events, high, low, scale, arrival in portion
    ]


def _sum_of(known: _Known, row: Row) -> _Sum:
    series, scale, arrival, first, last, events, high, middle, low = row
    quantity = (high << LOW_BITS) + (middle << sql.HALF_BITS) + low
    told = (*known[series], first * MINUTE, events, quantity, scale, arrival * SECOND)
    return _Sum(UsageRow(*told), last * MINUTE)


def _item_rows(names: _Names, portion: list[Row]) -> list[ItemRow]:
    return [
        ItemRow(*names, start * MINUTE, arrival * SECOND, item, Item(*by))
        for _, start, arrival, item, *by in portion
    ]


def _some_of(tenants: Sequence[str]) -> Iterator[list[str]]:
    wanted = list(dict.fromkeys(tenants))
    for at in range(0, len(wanted), _TENANTS_ASKED):
        yield wanted[at : at + _TENANTS_ASKED]


def _minutes(time: int) -> int:
    return -(-time // MINUTE)

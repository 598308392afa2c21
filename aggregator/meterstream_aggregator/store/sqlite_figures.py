"""What questions read of usage and items in SQLite, joined in SQL where that is the same figure.

A question's time is walked block by block: from one block that has usage to the next, so that time
without usage costs nothing. Within a block a series' rows are one short range of the table.

Sums are exact: amounts are two integers (see schema.sql), and the lower is added up in two halves
of 31 bits, so that billions of rows fit into SQLite's integers.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from itertools import chain, pairwise
from typing import Any, Final, NamedTuple

from meterstream_aggregator.catalogue import MINUTE, MOMENT, Aggregate, Meter
from meterstream_aggregator.changes import OVERFLOW, Item
from meterstream_aggregator.store.sqlite_connection import ReadConnection, Row
from meterstream_aggregator.store.sqlite_usage import LOW_BITS, SECOND, WINDOWS_PER_BLOCK
from meterstream_aggregator.store.told import ItemRow, UsageRow

JOINED: Final = frozenset({Aggregate.COUNT, Aggregate.SUM, Aggregate.AVERAGE, Aggregate.SESSION})
"""Aggregates whose rows of one period may be added up before they are told."""
_WINDOWS_JOINED_MIN: Final = 4
_TENANTS_ASKED: Final = 500
_HALF_BITS: Final = 31
_EVER: Final = 2**62

_PIECES: Final = """
    WITH RECURSIVE period (n, low, high) AS (
        SELECT key, value ->> 0, value ->> 1 FROM json_each(:periods)
    ), piece (n, block, low, high) AS (
        SELECT n, (SELECT min(block) FROM usage WHERE block >= low / :minutes), low, high
        FROM period
        UNION ALL
        SELECT n, (SELECT min(usage.block) FROM usage WHERE usage.block > piece.block), low, high
        FROM piece WHERE block * :minutes < high
    )
"""
_WITHIN: Final = """
    usage.block = piece.block AND usage.start >= piece.low AND usage.start < piece.high
    AND usage.scale < :scales
"""
_OF_SERIES: Final = f"""
    FROM json_each(:series) AS wanted CROSS JOIN piece CROSS JOIN usage
    WHERE usage.series = wanted.value AND {_WITHIN}
"""
_OF_ALL: Final = f"""
    FROM piece CROSS JOIN usage CROSS JOIN series
    WHERE {_WITHIN} AND series.id = usage.series AND series.version = :version
"""
_ROWS: Final = (
    _PIECES + "SELECT usage.series, usage.start, usage.events, usage.quantity_high,"
    " usage.quantity_low, usage.scale, usage.arrival"
)
_SUMS: Final = (
    _PIECES + "SELECT usage.series, usage.scale, usage.arrival, min(usage.start), max(usage.start),"
    " sum(usage.events), sum(usage.quantity_high),"
    f" sum(usage.quantity_low >> {_HALF_BITS}),"
    f" sum(usage.quantity_low & {(1 << _HALF_BITS) - 1})"
)
_BY_PERIOD: Final = " GROUP BY usage.series, piece.n, usage.scale, usage.arrival"
_SERIES: Final = (
    "SELECT id, tenant, groups FROM series"
    " WHERE version = ? AND tenant IN (SELECT value FROM json_each(?))"
)
_LATE: Final = """
    SELECT usage.series, usage.start, usage.events, usage.quantity_high, usage.quantity_low,
           usage.scale, usage.arrival
    FROM series CROSS JOIN late CROSS JOIN usage
    WHERE series.version = :version AND {whose} AND late.series = series.id
      AND late.arrival >= :arrived_from AND late.arrival < :arrived_until
      AND late.start >= :low AND late.start < :high
      AND (usage.block, usage.series, usage.start, usage.arrival, usage.scale)
        = (late.block, late.series, late.start, late.arrival, late.scale)
"""
_ITEMS: Final = """
    SELECT series, start, arrival, item, time, sequence, producer, "offset", quantity, scale
    FROM item WHERE series = ? AND start >= ? AND start < ?
"""
_LEVELS: Final = (
    _ITEMS + 'ORDER BY start DESC, item DESC, sequence DESC, producer DESC, "offset" DESC'
)
_OVERFLOWING: Final = (
    "SELECT id, meter, tenant, version, groups FROM series"
    """ WHERE substr(groups, 1, 13) = '["(overflow)"'"""
)

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
            for portion in self._read.portions(_ITEMS, (series, *span)):
                yield from _item_rows(names, portion)

    def levels_before(
        self, meter: Meter, *, tenants: Sequence[str] | None, start: int
    ) -> Iterator[ItemRow]:
        """See `StoreReader.levels_before`."""
        for series, names in self._series(meter, tenants):
            for row in self._read.each(_LEVELS, (series, 0, _minutes(start)), size=16):
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
            for portion in self._read.portions(_LATE.format(whose="1"), given):
                yield from _usage_rows(known, portion)
            return
        query = _LATE.format(whose="series.tenant IN (SELECT value FROM json_each(:tenants))")
        for some in _some_of(tenants):
            for portion in self._read.portions(query, given | {"tenants": json.dumps(some)}):
                yield from _usage_rows(known, portion)

    def overflowing(self, windows: dict[str, int]) -> list[tuple[str, str, int]]:
        """See `StoreReader.overflowing`. ``windows`` are the lengths by `Meter.version`."""
        found: dict[tuple[str, str], int] = {}
        for series, meter, tenant, version, groups in self._read.all(_OVERFLOWING):
            if set(json.loads(groups)) == {OVERFLOW}:
                given = _pieces(windows[version], [0, _EVER]) | {"series": json.dumps([series])}
                row = self._read.one(_PIECES + "SELECT sum(usage.events)" + _OF_SERIES, given)
                events = row[0] if row is not None and row[0] is not None else 0
                found[(meter, tenant)] = found.get((meter, tenant), 0) + events
        return [(meter, tenant, events) for (meter, tenant), events in sorted(found.items())]

    def _rows(
        self, meter: Meter, tenants: Sequence[str] | None, start: int, end: int
    ) -> Iterator[list[UsageRow]]:
        given = _pieces(meter.window, [start, end])
        if tenants is None:
            known = _Known(self._read)
            for portion in self._read.portions(_ROWS + _OF_ALL, given | {"version": meter.version}):
                yield _usage_rows(known, portion)
            return
        for some in _some_of(tenants):
            known = self._known(meter, some)
            if known:
                wanted = given | {"series": json.dumps(list(known))}
                for portion in self._read.portions(_ROWS + _OF_SERIES, wanted):
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
            query, known = _SUMS + _OF_ALL + _BY_PERIOD, _Known(self._read)
            found = self._read.each(query, given | {"version": meter.version})
            yield from (_sum_of(known, row) for row in found)
            return
        for some in _some_of(tenants):
            known = self._known(meter, some)
            if known:
                wanted = given | {"series": json.dumps(list(known))}
                found = self._read.each(_SUMS + _OF_SERIES + _BY_PERIOD, wanted)
                yield from (_sum_of(known, row) for row in found)

    def _known(self, meter: Meter, tenants: list[str]) -> _Known:
        known = _Known(self._read)
        for series, tenant, groups in self._read.all(_SERIES, (meter.version, json.dumps(tenants))):
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
    """What `_PIECES` and `_WITHIN` are given."""
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
    quantity = (high << LOW_BITS) + (middle << _HALF_BITS) + low
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

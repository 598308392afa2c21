"""Unimeter's questions, answered from what workers counted. Every function blocks.

A question names any instants; figures are kept in windows of a quarter of an hour. The start goes
back and the end goes on to the next boundary: what the helpers of the client make (months, billing
periods, days, weeks) lies on boundaries already, so these are exact.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Final
from urllib.parse import parse_qsl

from meterstream.compat.unimeter_catalogue import DIMENSIONS, GENERIC, METRIC
from meterstream.compat.unimeter_periods import period_of
from meterstream.compat.unimeter_values import AggType, MetricSchema
from meterstream_aggregator.catalogue import MINUTE
from meterstream_aggregator.civil import TIME_MAX, InvalidQuestion
from meterstream_services.clients.asking import Row, usage
from meterstream_services.clients.unimeter.meaning import ACCOUNT, Known
from meterstream_services.clients.unimeter.wire import BadFrame
from meterstream_services.clients.unimeter.wire_questions import (
    BreakdownForm,
    Cell,
    Figure,
    UsageForm,
)
from meterstream_services.http.parts import Parts

WINDOW: Final = 15 * MINUTE
CELLS_MAX: Final = 1_000
"""Combinations in the answer to one breakdown."""
_TEXTS_MAX: Final = 90
"""Dimensions that one question can name, beside the metric and the account."""
_CUT_BYTES: Final = 31
"""To how many bytes clients cut what they filter by."""
_OF_ACCOUNTS: Final = {
    kind: name.replace("unimeter.", "unimeter.account.") for kind, name in GENERIC.items()
}
_MERGED_HERE: Final = frozenset({AggType.COUNT, AggType.SUM, AggType.MAX})
"""Aggregations whose groups can be joined by their figures alone."""


class Questions:
    """What the clients of one port may ask; ``tenant`` is the port's."""

    def __init__(self, parts: Parts, tenant: str | None) -> None:
        self._parts: Final = parts
        self._tenant: Final = tenant

    def figure(self, asked: UsageForm, schema: MetricSchema | None) -> Figure:
        """The figure of an account and metric, of events with all filters.

        Of a metric that nobody registered every field is set. Raises `BadFrame` for times that no
        figure can have, `StoreUnavailable` where the store is away.
        """
        start, end = span_of(asked.start, asked.end)
        texts = None
        if asked.filters:
            texts = self._fitting(asked, schema, start, end)
            if not texts:
                return Figure()
        kinds = list(AggType) if schema is None else [schema.agg_type]
        rows = {kind: self._row(kind, asked, start, end, texts) for kind in kinds}
        return figure_of(rows, schema, self._last_at(asked, rows, texts, end))

    def present(self, account: int, code: str, schema: MetricSchema | None) -> Figure:
        """The figure of the metric's period that holds the present."""
        start, end = period_now(schema, self._parts.now())
        return self.figure(UsageForm(account, code, start * 1000, end * 1000, {}), schema)

    def breakdown(self, asked: BreakdownForm, known: Known) -> list[Cell]:
        """The figures of all combinations of the values of some declared properties.

        Raises `BadFrame` for an unknown metric, an undeclared key, or too many combinations.
        """
        schema = known.get(asked.code)
        if schema is None:
            raise BadFrame("the metric is not registered")
        if not set(asked.keys) <= {each.key for each in schema.filters}:
            raise BadFrame("the metric declares no such filter")
        start, end = span_of(asked.start, asked.end)
        kind = schema.agg_type
        rows = self._ask(kind, asked.account, asked.code, start, end, by=[DIMENSIONS])
        cells: dict[tuple[str, ...], list[Row]] = {}
        for row in rows:
            properties = dict(parse_qsl(row.group[DIMENSIONS], keep_blank_values=True))
            if all(properties.get(key) for key in asked.keys):
                cells.setdefault(tuple(properties[key] for key in asked.keys), []).append(row)
        if len(cells) > CELLS_MAX:
            raise BadFrame(f"more than {CELLS_MAX} combinations")
        return [
            Cell(
                tuple(zip(asked.keys, values, strict=True)),
                figure_of({kind: self._joined(kind, asked, start, end, found)}, schema),
            )
            for values, found in sorted(cells.items())
        ]

    def reaching(self, schema: MetricSchema, start: int, end: int) -> list[tuple[int, int]]:
        """(account, figure) of all accounts that used a metric in a period."""
        by = () if self._tenant is None else (ACCOUNT,)
        found: list[tuple[int, int]] = []
        rows = self._put(schema.agg_type, schema.code, start, end, self._tenants(None), by=by)
        for row in rows:
            account = (row.tenant or "") if self._tenant is None else row.group[ACCOUNT]
            if account.isdecimal():
                found.append((int(account), whole(row)))
        return found

    def _row(
        self, kind: AggType, asked: UsageForm, start: int, end: int, texts: Sequence[str] | None
    ) -> Row | None:
        where = [f"{DIMENSIONS}={each}" for each in texts or ()]
        rows = self._ask(kind, asked.account, asked.code, start, end, where=where)
        return rows[0] if rows else None

    def _joined(
        self, kind: AggType, asked: BreakdownForm, start: int, end: int, rows: Sequence[Row]
    ) -> Row | None:
        """One figure of several groups: by the store where figures alone do not tell."""
        if len(rows) == 1:
            return rows[0]
        if kind in _MERGED_HERE:
            values = [row.value for row in rows if row.value is not None]
            joined = (
                max(values, default=Decimal()) if kind is AggType.MAX else sum(values, Decimal())
            )
            return rows[0]._replace(value=joined, events=sum(row.events for row in rows))
        texts = bounded(row.group[DIMENSIONS] for row in rows)
        where = [f"{DIMENSIONS}={each}" for each in texts]
        found = self._ask(kind, asked.account, asked.code, start, end, where=where)
        return found[0] if found else None

    def _fitting(
        self, asked: UsageForm, schema: MetricSchema | None, start: int, end: int
    ) -> list[str]:
        """The dimensions that have all that is filtered by."""
        kind = AggType.COUNT if schema is None else schema.agg_type
        rows = self._ask(kind, asked.account, asked.code, start, end, by=[DIMENSIONS])
        texts = {row.group[DIMENSIONS] for row in rows}
        return bounded(text for text in texts if fits_cut(text, asked.filters))

    def _last_at(
        self,
        asked: UsageForm,
        rows: Mapping[AggType, Row | None],
        texts: Sequence[str] | None,
        end: int,
    ) -> int:
        """The time (microseconds) of the event that a latest value is of; 0 where there is none.

        Found from the last day with one to its last window, and in that window by event.
        """
        row = rows.get(AggType.LATEST)
        if row is None or row.value is None:
            return 0
        where = [f"{DIMENSIONS}={each}" for each in texts or ()]
        start = row.start
        for every in ("1d", "15m"):
            found = self._ask(
                AggType.LATEST, asked.account, asked.code, start, end, where=where, every=every
            )
            used = [each for each in found if each.value is not None]
            if not used:
                return 0
            start, end = max((each.start, each.end) for each in used)
        return self._last_in(str(asked.account), asked.code, texts, start)

    def _last_in(self, account: str, code: str, texts: Sequence[str] | None, start: int) -> int:
        name = self._meters()[AggType.LATEST]
        wanted = {METRIC: {code}, **({} if texts is None else {DIMENSIONS: set(texts)})}
        if self._tenant is not None:
            wanted[ACCOUNT] = {account}
        with self._parts.store() as store:
            meter = store.catalogue().definitions(name)[-1]
            items = store.items(
                meter, tenants=self._tenants(account), start=start, end=start + meter.window
            )
            return max(
                (
                    item.by.time
                    for item in items
                    if all(
                        value in wanted.get(attribute, {value})
                        for attribute, value in zip(meter.group_by, item.group, strict=True)
                    )
                ),
                default=0,
            )

    def _ask(
        self,
        kind: AggType,
        account: int,
        code: str,
        start: int,
        end: int,
        *,
        by: Sequence[str] = (),
        where: Sequence[str] = (),
        every: str = "total",
    ) -> list[Row]:
        if self._tenant is not None:
            where = [*where, f"{ACCOUNT}={account}"]
        tenants = self._tenants(str(account))
        return self._put(kind, code, start, end, tenants, by=by, where=where, every=every)

    def _put(
        self,
        kind: AggType,
        code: str,
        start: int,
        end: int,
        tenants: Sequence[str],
        *,
        by: Sequence[str] = (),
        where: Sequence[str] = (),
        every: str = "total",
    ) -> list[Row]:
        try:
            return usage(
                self._parts,
                self._meters()[kind],
                start,
                end,
                tenants=tenants,
                by=by,
                where=[f"{METRIC}={code}", *where],
                every=every,
            )
        except InvalidQuestion as problem:
            raise BadFrame(str(problem)) from problem

    def _meters(self) -> Mapping[AggType, str]:
        return GENERIC if self._tenant is None else _OF_ACCOUNTS

    def _tenants(self, account: str | None) -> list[str]:
        """Whose usage to ask for; nobody named means everybody, on a port without a tenant."""
        if self._tenant is not None:
            return [self._tenant]
        return [] if account is None else [account]


def span_of(start: int, end: int) -> tuple[int, int]:
    """Nanoseconds as the microseconds of the windows that they touch. Raises `BadFrame`."""
    first = (start + 500) // 1000 // WINDOW * WINDOW
    last = -(-((end + 500) // 1000) // WINDOW) * WINDOW
    if not 0 <= first < last <= TIME_MAX:
        raise BadFrame("no period: it ends before it begins, or lies before 1970 or after 9998")
    return first, last


def period_now(schema: MetricSchema | None, now: int) -> tuple[int, int]:
    """The metric's period that holds ``now``, all in microseconds; 30 days unless it says."""
    blank = MetricSchema("", AggType.COUNT)
    kind, day = (schema or blank).period_type, (schema or blank).billing_cycle_day
    period = period_of(kind, day, datetime.fromtimestamp(now / 1e6, UTC))
    return int(period.start.timestamp()) * 1_000_000, int(period.end.timestamp()) * 1_000_000


def figure_of(
    rows: Mapping[AggType, Row | None], schema: MetricSchema | None, last_at: int = 0
) -> Figure:
    """A figure with the field of its aggregation set, and the flags of thresholds it reaches."""
    values = {kind: whole(row) for kind, row in rows.items()}
    count = values.get(AggType.COUNT_UNIQUE) or values.get(AggType.COUNT) or 0
    flags = 0
    if schema is not None:
        for bit, threshold in enumerate(schema.thresholds):
            if values[schema.agg_type] >= threshold.value > 0:
                flags |= 1 << bit
    return Figure(
        values.get(AggType.SUM, 0),
        count,
        values.get(AggType.MAX, 0),
        values.get(AggType.LATEST, 0),
        last_at * 1000,
        flags,
    )


def fits_cut(dimensions: str, filters: Mapping[str, str]) -> bool:
    """Whether dimensions have all that is filtered by; what was cut may go on."""
    properties = dict(parse_qsl(dimensions, keep_blank_values=True))
    return all(
        name in properties and _same(properties[name], value) for name, value in filters.items()
    )


def bounded(texts: Iterable[str]) -> list[str]:
    """Dimensions in order. Raises `BadFrame` where a question cannot name so many."""
    found = sorted(texts)
    if len(found) > _TEXTS_MAX:
        raise BadFrame(f"{len(found)} combinations fit, and {_TEXTS_MAX} can be asked for")
    return found


def whole(row: Row | None) -> int:
    """A value as a whole number; what others recorded with fractions is cut to one."""
    return 0 if row is None or row.value is None else int(row.value)


def _same(value: str, wanted: str) -> bool:
    if len(wanted.encode()) < _CUT_BYTES - 3:
        return value == wanted
    return value == wanted or value.encode()[:_CUT_BYTES].decode("utf-8", "ignore") == wanted

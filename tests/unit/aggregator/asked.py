"""A reader of a store that was counted from a list of events, for the tests of questions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, cast

from hypothesis import strategies as st

from meterstream_aggregator.catalogue import (
    HOUR,
    KEPT,
    MINUTE,
    MOMENT,
    Aggregate,
    Meter,
    TimeoutBills,
)
from meterstream_aggregator.changes import Item
from meterstream_aggregator.store.port import StoreReader
from meterstream_aggregator.store.told import ItemRow, UsageRow
from meterstream_aggregator.windows import arrival_of, closes_at

WINDOW = 15 * MINUTE
SINCE = 2 * HOUR
"""When metering began: the first windows close later than their end and grace."""
METER = Meter(
    name="llm.tokens",
    type="llm.completion",
    aggregate=Aggregate.SUM,
    value="attributes.tokens",
    unit="token",
    group_by=("model", "region"),
    where=(),
    window=WINDOW,
    grace=HOUR,
    timeout=None,
    timeout_bills=TimeoutBills.LAST_SIGN,
    series_per_tenant=100,
)


class Use(NamedTuple):
    """An event, and when the log had it."""

    tenant: str
    group: tuple[str, ...]
    time: int
    append: int
    quantity: int
    scale: int
    text: str
    number: int
    """Tells events of one time apart, as number and position do."""


def uses(groups: int = 2) -> st.SearchStrategy[list[Use]]:
    """Events of ten hours, in time and late, some at the same time."""
    made = st.builds(
        Use,
        tenant=st.sampled_from(["a", "b"]),
        group=st.tuples(*[st.sampled_from(["", "x", "y"])] * groups),
        time=st.integers(0, 40).map(lambda n: n * WINDOW)
        | st.integers(0, 10 * HOUR).map(lambda n: n - n % 7),
        append=st.integers(0, 20 * HOUR),
        quantity=st.integers(-(10**6), 10**6),
        scale=st.sampled_from([0, 0, 2, 18]),
        text=st.sampled_from(["k", "l", "m"]),
        number=st.just(0),
    )
    return st.lists(made, max_size=25).map(
        lambda some: [use._replace(number=number) for number, use in enumerate(some)]
    )


def closes(meter: Meter, time: int, since: int = SINCE) -> int:
    """When the window closes that holds a time."""
    return closes_at(time - time % meter.window, meter.window, since, meter.grace)


class Counted:
    """The rows that folding ``events`` leaves, each read by the definition that holds then."""

    def __init__(self, definitions: Sequence[Meter], events: Sequence[Use], since: int) -> None:
        self._definitions = definitions
        self._events = events
        self._since = since

    def usage(
        self,
        meter: Meter,
        *,
        tenants: Sequence[str] | None,
        start: int,
        end: int,
        periods: Sequence[int] | None = None,
    ) -> Iterator[UsageRow]:
        """See `StoreReader.usage`. Rows are not merged: the reader may hand out as many."""
        for use, window, arrival in self._of(meter, tenants):
            if not start <= window < end:
                continue
            kept = meter.aggregate in KEPT
            quantity, scale = (0, 0) if kept else (use.quantity, use.scale)
            yield UsageRow(use.tenant, use.group, window, 1, quantity, scale, arrival)
            if meter.aggregate is Aggregate.TIME_WEIGHTED_CHANGES:
                moment = use.quantity * (use.time - window)
                yield UsageRow(use.tenant, use.group, window, 0, moment, scale + MOMENT, arrival)

    def items(
        self, meter: Meter, *, tenants: Sequence[str] | None, start: int, end: int
    ) -> Iterator[ItemRow]:
        """See `StoreReader.items`."""
        for use, window, arrival in self._of(meter, tenants):
            if start <= window < end:
                yield self._item(meter, use, window, arrival)

    def levels_before(
        self, meter: Meter, *, tenants: Sequence[str] | None, start: int
    ) -> Iterator[ItemRow]:
        """See `StoreReader.levels_before`."""
        series: dict[tuple[str, tuple[str, ...]], list[ItemRow]] = {}
        for use, window, arrival in self._of(meter, tenants):
            if window < start:
                row = self._item(meter, use, window, arrival)
                series.setdefault((use.tenant, use.group), []).append(row)
        for rows in series.values():
            for row in sorted(rows, key=lambda one: one.by, reverse=True):
                yield row
                if not row.arrival:
                    break

    def changes_before(
        self, meter: Meter, *, tenants: Sequence[str] | None, start: int
    ) -> Iterator[UsageRow]:
        """See `StoreReader.changes_before`."""
        sums: dict[tuple[Any, ...], tuple[int, int]] = {}
        for use, window, arrival in self._of(meter, tenants):
            if window < start:
                key = (use.tenant, use.group, arrival, use.scale)
                last, total = sums.get(key, (0, 0))
                sums[key] = max(last, window), total + use.quantity
        for (tenant, group, arrival, scale), (last, total) in sums.items():
            yield UsageRow(tenant, group, last, 1, total, scale, arrival)

    def reader(self) -> StoreReader:
        """The same, where a whole reader is asked for."""
        return cast("StoreReader", self)

    def _of(self, meter: Meter, tenants: Sequence[str] | None) -> Iterator[tuple[Use, int, int]]:
        for use in self._events:
            if meter.reads(use.time) and (tenants is None or use.tenant in tenants):
                late = use.append >= closes(meter, use.time, self._since)
                arrival = arrival_of(use.append, meter.window, meter.grace) if late else 0
                yield use, use.time - use.time % meter.window, arrival

    @staticmethod
    def _item(meter: Meter, use: Use, window: int, arrival: int) -> ItemRow:
        item, amount = "", (use.quantity, use.scale)
        if meter.aggregate is Aggregate.UNIQUE:
            item, amount = use.text, (int(use.quantity >= 0), 0)
        elif meter.aggregate is Aggregate.TIME_WEIGHTED:
            item = f"{use.time - window:010d}"
        by = Item(use.time, use.number, "p", 0, *amount)
        return ItemRow(use.tenant, use.group, window, arrival, item, by)

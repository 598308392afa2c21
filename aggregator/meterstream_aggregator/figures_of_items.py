"""Figures of meters that keep single events: latest and unique. Pure.

Per figure and arrival there is a map from item to the event that stands for it; maps join by the
greater event of each item, which is associative, commutative and idempotent. So a text is counted
once over all merged windows, groups and tenants, and the last event about it decides whether it is.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable

from meterstream_aggregator import questions
from meterstream_aggregator.catalogue import Aggregate, Meter
from meterstream_aggregator.changes import Item
from meterstream_aggregator.merging import EVER, Course, Key
from meterstream_aggregator.questions import Groups, Question, Stretch
from meterstream_aggregator.store.told import ItemRow
from meterstream_schemas.quantity import Amount

_Items = dict[str, Item]


class ItemCourses:
    """The courses of latest and unique figures. Unless ``apart``, all that came late is one."""

    def __init__(self, question: Question, stretch: Stretch, *, apart: bool) -> None:
        self._question = question
        self._stretch = stretch
        self._apart = apart
        self._figures: dict[Key, dict[int, _Items]] = {}

    def join(self, meter: Meter, rows: Iterable[ItemRow]) -> None:
        """Add the items of one definition; those outside the periods are left out."""
        bounds, total = self._stretch.bounds, self._question.total
        asked_group = Groups(self._question, meter)
        for tenant, group, start, arrival, item, by in rows:
            kept = asked_group[group]
            if kept is None or not bounds[0] <= start < bounds[-1]:
                continue
            key = (bisect_right(bounds, start) - 1, "" if total else tenant, kept)
            arrivals = self._figures.get(key)
            if arrivals is None:
                arrivals = self._figures[key] = {}
                if len(self._figures) > questions.FIGURES_MAX:
                    raise questions.too_many()
            items = arrivals.setdefault(arrival if self._apart or not arrival else EVER, {})
            known = items.get(item)
            if known is None or by > known:
                items[item] = by

    def keys(self) -> set[Key]:
        """Every figure there is."""
        return set(self._figures)

    def course(self, key: Key) -> Course:
        """How a figure came about."""
        arrivals = self._figures.get(key, {})
        so_far = dict(arrivals.get(0, {}))
        told: Course = [(0, self._amount(so_far))]
        for arrival in sorted(arrivals):
            if not arrival:
                continue
            for item, by in arrivals[arrival].items():
                known = so_far.get(item)
                if known is None or by > known:
                    so_far[item] = by
            told.append((arrival, self._amount(so_far)))
        return told

    def _amount(self, items: _Items) -> Amount | None:
        if self._stretch.aggregate is Aggregate.UNIQUE:
            return Amount(sum(by.quantity for by in items.values()), 0)
        last = max(items.values(), default=None)
        return None if last is None else Amount(last.quantity, last.scale)

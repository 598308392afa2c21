"""Merging usage rows into parts of figures: by period, tenant, group and arrival. Pure.

The inner loop of every answer: it runs once per row.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final

from meterstream_aggregator import questions
from meterstream_aggregator.catalogue import EXTREMES, MOMENT, Aggregate, Meter
from meterstream_aggregator.questions import Groups, Question, Stretch
from meterstream_aggregator.store.told import UsageRow
from meterstream_schemas.quantity import Amount, rescale

EVER: Final = 2**62
"""Later than every arrival."""
RUNNING: Final = EVER - 1
"""The arrival of what has not arrived: time of sessions that still run, in windows that closed."""
PLACES: Final = 18
"""Decimal places that a quotient is rounded to, half to even."""

Key = tuple[int, str, tuple[str, ...]]
"""A figure: the period's index in its stretch, tenant (empty in totals), group."""
Course = list[tuple[int, Amount | None]]
"""How a figure came about: (0, closing figure), then (arrival, the figure once that had come)."""


@dataclass(slots=True)
class Part:
    """Joined rows: of a figure's closing part, or of what came late."""

    events: int
    quantity: int
    scale: int
    first: int
    last: int


class Shelves(dict[int, dict[Key, Part]]):
    """Parts by arrival, then by figure. Unless ``apart``, all that came late is one: `EVER`."""

    def __init__(self, *, apart: bool) -> None:
        super().__init__()
        self._apart = apart
        self[0] = {}

    def __missing__(self, arrival: int) -> dict[Key, Part]:
        if self._apart or arrival == EVER:
            self[arrival] = {}
        else:
            self[arrival] = self[EVER]
        return self[arrival]

    def arrivals(self) -> list[int]:
        """The arrivals told apart, ascending; the first is 0."""
        return sorted(self) if self._apart else [0, EVER] if EVER in self else [0]

    def keys_of_all(self) -> set[Key]:
        """Every figure that has a part."""
        return {key for arrival in self.arrivals() for key in self[arrival]}


def join_rows(
    question: Question, stretch: Stretch, meter: Meter, rows: Iterable[UsageRow], shelves: Shelves
) -> None:
    """Add rows of one definition to the shelves.

    Rows outside the periods and first moments are left out. Raises `InvalidQuestion` when there are
    more than `questions.FIGURES_MAX` parts.
    """
    aggregate, bounds = stretch.aggregate, stretch.bounds
    counts, total = aggregate is Aggregate.COUNT, question.total
    first_bound, last_bound = bounds[0], bounds[-1]
    asked_group = Groups(question, meter)
    index, low, high, made = 0, bounds[0], bounds[1], 0
    for tenant, group, start, events, quantity, scale, arrival in rows:
        if not low <= start < high:
            if not first_bound <= start < last_bound:
                continue
            index = bisect_right(bounds, start) - 1
            low, high = bounds[index], bounds[index + 1]
        kept = asked_group[group]
        if kept is None or scale >= MOMENT:
            continue
        # A count is kept as the number of its events; there is no amount beside it.
        amount, places = (events, 0) if counts else (quantity, scale)
        parts = shelves[arrival]
        key = (index, "" if total else tenant, kept)
        known = parts.get(key)
        if known is not None:
            _add(aggregate, known, events, amount, places, start, start)
            continue
        parts[key] = Part(events, amount, places, start, start)
        made += 1
        if made > questions.FIGURES_MAX:
            raise questions.too_many()


def _add(  # noqa: PLR0917 - called once per row: keywords would cost more than the work
    aggregate: Aggregate,
    part: Part,
    events: int,
    quantity: int,
    scale: int,
    first: int,
    last: int,
) -> None:
    part.events += events
    if scale == part.scale:
        if aggregate is Aggregate.MAX:
            if quantity > part.quantity:  # noqa: PLR1730 - a call of max costs three times as much
                part.quantity = quantity
        elif aggregate is Aggregate.MIN:
            if quantity < part.quantity:  # noqa: PLR1730 - likewise
                part.quantity = quantity
        else:
            part.quantity += quantity
    else:
        part.quantity, part.scale = merged_amount(
            aggregate, Amount(part.quantity, part.scale), Amount(quantity, scale)
        )
    if first < part.first:  # noqa: PLR1730 - likewise
        part.first = first
    if last > part.last:  # noqa: PLR1730 - likewise
        part.last = last


def merged(aggregate: Aggregate, left: Part | None, right: Part | None) -> Part | None:
    """Two parts as one."""
    if left is None or right is None:
        return left or right
    both = replace(left)
    _add(aggregate, both, right.events, right.quantity, right.scale, right.first, right.last)
    return both


def merged_amount(aggregate: Aggregate, left: Amount, right: Amount) -> Amount:
    """Two amounts as one, in the aggregate's way. Exact, associative and commutative in value."""
    scale = left.scale
    if scale == right.scale:
        one, other = left.quantity, right.quantity
    else:
        scale = max(scale, right.scale)
        one = rescale(left.quantity, left.scale, scale)
        other = rescale(right.quantity, right.scale, scale)
    if aggregate in EXTREMES:
        return Amount(min(one, other) if aggregate is Aggregate.MIN else max(one, other), scale)
    return Amount(one + other, scale)


def difference(left: Amount, right: Amount) -> Amount:
    """``left - right``, exactly."""
    return merged_amount(Aggregate.SUM, left, Amount(-right.quantity, right.scale))


def quotient(amount: Amount, divisor: int) -> Amount:
    """``amount / divisor`` rounded half to even to `PLACES` decimal places; ``divisor`` > 0."""
    places = max(PLACES - amount.scale, 0)
    over = divisor * 10 ** max(amount.scale - PLACES, 0)
    whole, rest = divmod(amount.quantity * 10**places, over)
    if 2 * rest > over or (2 * rest == over and whole % 2):
        whole += 1
    return Amount(whole, PLACES)


class RowCourses:
    """The courses of aggregates whose rows say everything: all but latest, unique and levels."""

    def __init__(self, aggregate: Aggregate, shelves: Shelves) -> None:
        self._aggregate = aggregate
        self._divides = aggregate is Aggregate.AVERAGE
        self._shelves = shelves

    def keys(self) -> set[Key]:
        """Every figure there is."""
        return self._shelves.keys_of_all()

    def course(self, key: Key) -> Course:
        """How a figure came about."""
        if len(self._shelves) == 1:
            return [(0, self._amount(self._shelves[0].get(key)))]
        told: Course = []
        so_far: Part | None = None
        for arrival in self._shelves.arrivals():
            part = self._shelves[arrival].get(key)
            so_far = merged(self._aggregate, so_far, part)
            if part is not None or not arrival:
                told.append((arrival, self._amount(so_far)))
        return told

    def _amount(self, part: Part | None) -> Amount | None:
        if part is None:
            return None
        amount = Amount(part.quantity, part.scale)
        if not self._divides:
            return amount
        return quotient(amount, part.events) if part.events > 0 else None

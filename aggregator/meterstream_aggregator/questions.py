"""Questions: usage windows merged into the periods, groups and tenants that were asked for. Pure.

A figure is the merge of window rows in its meter's own way: sums add, extremes take the smaller or
the greater, always exactly. ``total`` is closing figure and adjustments together; ``adjustment``
is what the second changed, so that ``closing + adjustment == total`` for every meter.

Which figures there are: one per (period, tenant, group) that has usage. With ``total`` the tenants
are joined; and without groups every period then has its figure, also where nothing was used.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final, NamedTuple

from meterstream_aggregator.catalogue import Aggregate, Meter
from meterstream_aggregator.civil import InvalidQuestion
from meterstream_aggregator.store.port import PositionRow, UsageRow
from meterstream_aggregator.windows import closes_at
from meterstream_schemas.quantity import Amount, rescale

FIGURES_MAX: Final = 200_000
"""Most figures in one answer."""

_ZERO: Final = Amount(0, 0)
_EXTREMES: Final = frozenset({Aggregate.MIN, Aggregate.MAX})


class Status(StrEnum):
    """How settled a figure is. It only ever moves down this list."""

    OPEN = "open"
    """The period is not over."""
    CLOSING = "closing"
    """It is over; events may still come in time, or are still on their way through the log."""
    FINAL = "final"
    """Every partition was folded past the close: the closing figure will never change."""


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked of one meter. Made by `ask`, which checks it.

    ``bounds`` are the periods' boundaries (see `periods.period_bounds`), ``by`` the attributes that
    figures are kept apart by, ``where`` the values that an attribute may have.
    """

    meter: Meter
    bounds: Sequence[int]
    by: tuple[str, ...]
    where: tuple[tuple[str, tuple[str, ...]], ...]
    total: bool


class Figure(NamedTuple):
    """One answer. ``tenant`` is None when tenants are joined; ``group`` follows the ``by`` asked.

    The amounts are None where there is no smallest or greatest of nothing. ``first`` and ``last``
    are the starts of the earliest and latest window in it, None where it holds none.
    """

    start: int
    end: int
    tenant: str | None
    group: tuple[str, ...]
    events: int
    total: Amount | None
    closing: Amount | None
    adjustment: Amount | None
    status: Status
    first: int | None
    last: int | None


@dataclass(slots=True)
class _Part:
    """Joined rows: of a figure's closing part, or of its adjustments."""

    events: int
    quantity: int
    scale: int
    first: int
    last: int


_Key = tuple[int, str, tuple[str, ...]]


def ask(
    meter: Meter,
    bounds: Sequence[int],
    *,
    by: Sequence[str] = (),
    where: Mapping[str, Sequence[str]] | None = None,
    total: bool = False,
) -> Question:
    """A checked question. Raises `InvalidQuestion` for names the meter is not grouped by."""
    for field, names in (("by", list(by)), ("where", list(where or ()))):
        for name in names:
            if name not in meter.group_by:
                kept = ", ".join(meter.group_by) or "nothing"
                raise InvalidQuestion(
                    field,
                    f"the figures of {meter.name} are not kept apart by {name[:64]!r}; "
                    f"they are by: {kept}",
                )
    filters = tuple((name, tuple(values)) for name, values in (where or {}).items())
    return Question(meter, bounds, tuple(dict.fromkeys(by)), filters, total)


def answer(
    question: Question,
    rows: Iterable[UsageRow],
    *,
    metering_since: int,
    progress: int,
    now: int,
) -> list[Figure]:
    """The figures, ordered by period, tenant and group. All times in microseconds UTC.

    ``rows`` may hold windows outside the periods; they are left out. ``progress`` is what
    `folded_until` says. Raises `InvalidQuestion` when there are more than `FIGURES_MAX` figures.
    """
    closing, late = _joined_rows(question, rows)
    keys = set(closing) | set(late)
    if question.total and not question.by:
        keys |= {(index, "", ()) for index in range(len(question.bounds) - 1)}
    figures: list[Figure] = []
    for key in sorted(keys):
        index, tenant, group = key
        end = question.bounds[index + 1]
        total = _both(question.meter.aggregate, closing.get(key), late.get(key))
        amounts = _amounts(question.meter.aggregate, closing.get(key), total)
        figures.append(
            Figure(
                question.bounds[index],
                end,
                None if question.total else tenant,
                group,
                total.events if total else 0,
                *amounts,
                status_of(
                    end,
                    meter=question.meter,
                    metering_since=metering_since,
                    progress=progress,
                    now=now,
                ),
                total.first if total else None,
                total.last if total else None,
            )
        )
    return figures


def status_of(end: int, *, meter: Meter, metering_since: int, progress: int, now: int) -> Status:
    """How settled a period that ends at ``end`` is (DESIGN section 6)."""
    if now < end:
        return Status.OPEN
    close = closes_at(end - meter.window, meter.window, metering_since, meter.grace)
    return Status.FINAL if progress >= close else Status.CLOSING


def folded_until(positions: Iterable[PositionRow], partitions: int) -> int:
    """The append time that every partition was folded to; 0 while one was not folded at all."""
    appended = {row.partition: row.appended for row in positions}
    return min((appended.get(partition, 0) for partition in range(partitions)), default=0)


def _joined_rows(
    question: Question, rows: Iterable[UsageRow]
) -> tuple[dict[_Key, _Part], dict[_Key, _Part]]:
    """Closing parts and adjustments by (period, tenant, group)."""
    aggregate, bounds = question.meter.aggregate, question.bounds
    counts, joins_tenants = aggregate is Aggregate.COUNT, question.total
    asked_group = _Groups(question)
    closing: dict[_Key, _Part] = {}
    late: dict[_Key, _Part] = {}
    index, low, high = 0, bounds[0], bounds[1]
    for tenant, group, start, events, quantity, scale, is_late in rows:
        if not low <= start < high:
            if not bounds[0] <= start < bounds[-1]:
                continue
            index = bisect_right(bounds, start) - 1
            low, high = bounds[index], bounds[index + 1]
        kept = asked_group[group]
        if kept is None:
            continue
        # A count is kept as the number of its events; there is no amount beside it.
        amount, places = (events, 0) if counts else (quantity, scale)
        parts = late if is_late else closing
        key = (index, "" if joins_tenants else tenant, kept)
        known = parts.get(key)
        if known is not None:
            _add(aggregate, known, events, amount, places, start, start)
            continue
        parts[key] = _Part(events, amount, places, start, start)
        if len(closing) + len(late) > FIGURES_MAX:
            raise _too_many()
    return closing, late


class _Groups(dict[tuple[str, ...], "tuple[str, ...] | None"]):
    """A row's group → its values of the attributes asked by, or None where ``where`` says no."""

    def __init__(self, question: Question) -> None:
        super().__init__()
        names = question.meter.group_by
        self._columns = [names.index(name) for name in question.by]
        self._filters = [(names.index(name), values) for name, values in question.where]

    def __missing__(self, group: tuple[str, ...]) -> tuple[str, ...] | None:
        wanted = all(group[column] in allowed for column, allowed in self._filters)
        kept = tuple(group[column] for column in self._columns) if wanted else None
        self[group] = kept
        return kept


def _too_many() -> InvalidQuestion:
    return InvalidQuestion(
        "every",
        f"the answer has more than {FIGURES_MAX} figures; ask for fewer tenants, longer periods, "
        "a shorter time or totals",
    )


def _add(  # noqa: PLR0917 - called once per row: keywords would cost more than the work
    aggregate: Aggregate,
    part: _Part,
    events: int,
    quantity: int,
    scale: int,
    first: int,
    last: int,
) -> None:
    part.events += events
    if scale == part.scale and aggregate not in _EXTREMES:
        part.quantity += quantity
    else:
        part.quantity, part.scale = merged_amount(
            aggregate, Amount(part.quantity, part.scale), Amount(quantity, scale)
        )
    if first < part.first:  # noqa: PLR1730 - a call of min costs three times as much
        part.first = first
    if last > part.last:  # noqa: PLR1730 - likewise
        part.last = last


def merged_amount(aggregate: Aggregate, left: Amount, right: Amount) -> Amount:
    """Two amounts as one, in the aggregate's way. Exact, associative and commutative in value."""
    scale = left.scale
    if scale == right.scale:
        one, other = left.quantity, right.quantity
    else:
        scale = max(scale, right.scale)
        one = rescale(left.quantity, left.scale, scale)
        other = rescale(right.quantity, right.scale, scale)
    if aggregate in _EXTREMES:
        return Amount(min(one, other) if aggregate is Aggregate.MIN else max(one, other), scale)
    return Amount(one + other, scale)


def _both(aggregate: Aggregate, closing: _Part | None, late: _Part | None) -> _Part | None:
    if closing is None or late is None:
        return closing or late
    both = replace(closing)
    _add(aggregate, both, late.events, late.quantity, late.scale, late.first, late.last)
    return both


def _amounts(
    aggregate: Aggregate, closing: _Part | None, total: _Part | None
) -> tuple[Amount | None, Amount | None, Amount | None]:
    """Total, closing and adjustment."""
    if total is None:
        nothing = None if aggregate in _EXTREMES else _ZERO
        return nothing, nothing, nothing
    amount = Amount(total.quantity, total.scale)
    closed = Amount(closing.quantity, closing.scale) if closing else _ZERO
    change = merged_amount(Aggregate.SUM, amount, Amount(-closed.quantity, closed.scale))
    return amount, closed, change

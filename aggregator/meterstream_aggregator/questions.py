"""Questions: what is asked of one meter, checked, and how settled an answer is. Pure.

A question spans every definition that its meter had in the time asked for. Definitions that agree
on aggregate and unit are answered together, as one **stretch**; where they do not, a period must
begin at the change. What a figure is, of each aggregate: `docs/decisions/0013`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, tzinfo
from enum import StrEnum
from itertools import chain, groupby, pairwise
from typing import Final, NamedTuple

from meterstream_aggregator.catalogue import Aggregate, Condition, Meter
from meterstream_aggregator.civil import InvalidQuestion, format_time
from meterstream_aggregator.store.told import PositionRow
from meterstream_aggregator.windows import closes_at, window_start
from meterstream_schemas.quantity import Amount

FIGURES_MAX: Final = 200_000
"""Most figures in one answer."""


class Status(StrEnum):
    """How settled a figure is. It only ever moves down this list."""

    OPEN = "open"
    """The period is not over."""
    CLOSING = "closing"
    """It is over; events may still come in time, or are still on their way through the log."""
    FINAL = "final"
    """Every partition was folded past the close: the closing figure will never change."""


Spans = Sequence[tuple[int, int]]
"""Parts of time, [from, until) each."""


class Stretch(NamedTuple):
    """Consecutive periods answered by definitions that agree on aggregate and unit.

    ``bounds`` are its periods' boundaries. ``meters`` are the agreeing definitions that began
    before its end, the earliest first: one that was over before it may have left a level, or a
    session.
    """

    bounds: tuple[int, ...]
    meters: tuple[Meter, ...]

    @property
    def aggregate(self) -> Aggregate:
        """How its rows join."""
        return self.meters[-1].aggregate

    @property
    def holding(self) -> tuple[Meter, ...]:
        """The definitions that hold somewhere in it; where none does, the last one before."""
        found = tuple(
            meter for meter in self.meters if meter.until is None or meter.until > self.bounds[0]
        )
        return found or self.meters[-1:]

    def final_at(self, metering_since: int) -> list[int]:
        """By period, the append time at which all of its windows are closed."""
        if len(self.meters) == 1 and self.meters[0].since <= self.bounds[0]:
            window, grace = self.meters[0].window, self.meters[0].grace
            first = closes_at(0, window, metering_since, grace)
            if self.meters[0].until is None:
                return [max(end + grace, first) for end in self.bounds[1:]]
        return [self._final_at(start, end, metering_since) for start, end in pairwise(self.bounds)]

    def _final_at(self, start: int, end: int, metering_since: int) -> int:
        closes: list[int] = []
        for meter in self.meters:
            # Sessions may outlast their definition; its last window may end after the period.
            upto = end if _overhangs(meter) else min(end, meter.until or end)
            if max(start, meter.since) < upto:
                last = window_start(upto - 1, meter.window)
                closes.append(closes_at(last, meter.window, metering_since, meter.grace))
        nearest = self.meters[-1]
        return max(closes, default=closes_at(end - nearest.window, nearest.window, 0, 0))


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked of one meter. Made by `ask`, which checks it.

    ``by`` are the attributes that figures are kept apart by, ``where`` what their groups must
    fulfil; a group that fulfils all of a combination in ``unless`` is left out. With ``total``
    tenants are joined.
    """

    stretches: tuple[Stretch, ...]
    by: tuple[str, ...]
    where: tuple[Condition, ...]
    total: bool
    metering_since: int
    unless: tuple[tuple[Condition, ...], ...] = ()

    @property
    def span(self) -> tuple[int, int]:
        """The first instant asked for, and the first after."""
        return self.stretches[0].bounds[0], self.stretches[-1].bounds[-1]


class Figure(NamedTuple):
    """One answer. ``tenant`` is None when tenants are joined; ``group`` follows the ``by`` asked.

    ``total`` is ``closing`` and ``adjustment`` together; the amounts are None where there is none
    of nothing. ``first`` and ``last`` are the starts of the earliest and latest window with events
    in it, None where it holds none. ``final_at`` is the append time at which all of it is closed.
    ``average`` is only of time-weighted meters, ``running`` (part of the total) of session meters.
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
    final_at: int
    unit: str
    aggregate: Aggregate
    average: Amount | None = None
    running: Amount | None = None


def ask(
    definitions: Sequence[Meter],
    bounds: Sequence[int],
    *,
    by: Sequence[str] = (),
    where: Sequence[Condition] = (),
    unless: Sequence[Sequence[Condition]] = (),
    total: bool = False,
    metering_since: int = 0,
    zone: tzinfo = UTC,
) -> Question:
    """A checked question of a meter with these definitions, the earliest first.

    ``bounds`` come from `periods.period_bounds`; ``zone`` is only for messages. Raises
    `InvalidQuestion` for names that a definition is not grouped by, and for a period over which the
    meter changed what it counts.
    """
    stretches = tuple(_stretches(definitions, tuple(bounds), zone))
    names = [("by", name) for name in by] + [
        ("where", condition.name) for condition in [*where, *chain.from_iterable(unless)]
    ]
    for meter in dict.fromkeys(meter for stretch in stretches for meter in stretch.holding):
        for field, name in names:
            if name not in meter.group_by:
                raise InvalidQuestion(field, _not_kept(meter, name, zone))
    return Question(
        stretches,
        tuple(dict.fromkeys(by)),
        tuple(where),
        total,
        metering_since,
        tuple(tuple(combination) for combination in unless),
    )


def window_at(definitions: Sequence[Meter], time: int) -> int:
    """The length of the windows that the meter has at an instant."""
    begun = [meter for meter in definitions if meter.since <= time]
    return (begun[-1] if begun else definitions[0]).window


def status_of(end: int, *, final_at: int, progress: int, now: int) -> Status:
    """How settled a period is that ends at ``end`` and closes at ``final_at`` (DESIGN 6)."""
    if now < end:
        return Status.OPEN
    return Status.FINAL if progress >= final_at else Status.CLOSING


def folded_until(positions: Iterable[PositionRow], partitions: int) -> int:
    """The append time that every partition was folded to; 0 while one was not folded at all."""
    appended = {row.partition: row.appended for row in positions}
    return min((appended.get(partition, 0) for partition in range(partitions)), default=0)


def too_many() -> InvalidQuestion:
    """The refusal of an answer of more than `FIGURES_MAX` figures."""
    return InvalidQuestion(
        "every",
        f"the answer has more than {FIGURES_MAX} figures; ask for fewer tenants, longer periods, "
        "a shorter time or totals",
    )


class Groups(dict[tuple[str, ...], "tuple[str, ...] | None"]):
    """A row's group → its values of the attributes asked by, or None where ``where`` says no.

    An attribute that a definition of long ago was not grouped by is the empty text.
    """

    def __init__(self, question: Question, meter: Meter) -> None:
        super().__init__()
        self._names = meter.group_by
        self._by = question.by
        self._where = question.where
        self._unless = question.unless

    def __missing__(self, group: tuple[str, ...]) -> tuple[str, ...] | None:
        values: Mapping[str, str] = dict(zip(self._names, group, strict=True))
        wanted = all(condition.holds(values) for condition in self._where) and not any(
            all(condition.holds(values) for condition in combination)
            for combination in self._unless
        )
        kept = tuple(values.get(name, "") for name in self._by) if wanted else None
        self[group] = kept
        return kept


def _overhangs(meter: Meter) -> bool:
    """Whether rows may lie beyond the definition's own time: a session counts by its start."""
    return meter.aggregate is Aggregate.SESSION


def _stretches(
    definitions: Sequence[Meter], bounds: tuple[int, ...], zone: tzinfo
) -> Iterator[Stretch]:
    runs = [
        list(run) for _, run in groupby(definitions, lambda meter: (meter.aggregate, meter.unit))
    ]
    for number, run in enumerate(runs):
        start = run[0].since if number else bounds[0]
        end = runs[number + 1][0].since if number + 1 < len(runs) else bounds[-1]
        for instant in (start, end):
            if bounds[0] < instant < bounds[-1] and instant not in bounds:
                raise InvalidQuestion("every", _crossing(runs, instant, bounds, zone))
        inside = tuple(bound for bound in bounds if start <= bound <= end)
        if len(inside) > 1:
            yield Stretch(
                inside, tuple(meter for meter in run if meter.since < inside[-1]) or (run[0],)
            )


def _crossing(
    runs: Sequence[Sequence[Meter]], instant: int, bounds: tuple[int, ...], zone: tzinfo
) -> str:
    before, after = next(
        (run[-1], later[0]) for run, later in pairwise(runs) if later[0].since == instant
    )
    start = max(bound for bound in bounds if bound < instant)
    return (
        f"the period from {format_time(start, zone)} holds the instant at which {after.name} "
        f"changed from {_counted(before)} to {_counted(after)}; the nearest boundary is that of "
        f"the change, {format_time(instant, zone)}: ask up to it, and from it on"
    )


def _counted(meter: Meter) -> str:
    return f"{meter.aggregate.value} of {meter.unit}" if meter.unit else meter.aggregate.value


def _not_kept(meter: Meter, name: str, zone: tzinfo) -> str:
    kept = ", ".join(meter.group_by) or "nothing"
    when = ""
    if meter.since:
        when = f" from {format_time(meter.since, zone)} on"
    elif meter.until is not None:
        when = f" until {format_time(meter.until, zone)}"
    return (
        f"the figures of {meter.name} are not kept apart by {name[:64]!r}{when}; "
        f"they are by: {kept}"
    )

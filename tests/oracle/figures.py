"""The oracle's figures: closing figure and total of a meter's periods, straight from the ledger.

1. What was in time makes the closing figure, everything makes the total. Sums, extremes, means,
   the last and the different are taken over all contributions of the period at once.
2. The integral of a level is taken window by window, piece by piece between the samples. The total
   knows all samples; the closing figure of a window knows those that the log had before the
   window's close.
3. A later definition of a gauge carries on the level of the earlier ones, as long as all agree on
   aggregate, unit and (for levels) group_by. What an earlier one left is known for sure once that
   one's last window closed, or, of what came after that, once the slot of its arrival is over.
4. Nothing is said of what lies after ``now``.
5. Sessions that still run are counted up to ``now``, and no longer than they may last: in windows
   that some partition has not been folded past the close of as part of the closing figure, in
   the others on top of it.
"""

from __future__ import annotations

from collections import defaultdict
from fractions import Fraction
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

from tests.oracle.ledger import Contribution, last_of_each, row_of
from tests.oracle.sessions import split

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.oracle.catalogue import OracleMeter
    from tests.oracle.counting import Answer
    from tests.oracle.sessions import OracleSession
    from tests.oracle.subjects import OracleSubject

GAUGES = ("time_weighted", "changes")
PLACES = 18


class FigureKey(NamedTuple):
    """Which figure: the period by its start, the tenant, the values of what was asked by."""

    start: int
    tenant: str
    group: tuple[str, ...]


class Told(NamedTuple):
    """One figure. None: there is no such value, as of a minimum of nothing."""

    events: int
    closing: Fraction | None
    total: Fraction | None


def told_figures(
    answer: Answer, name: str, bounds: Sequence[int], by: Sequence[str], now: int
) -> dict[FigureKey, Told]:
    """The figures of a meter by period, tenant and attributes, without those of nothing."""
    figures: dict[FigureKey, Told] = {}
    for key, contributions in _by_figure(answer, name, bounds, by).items():
        in_time = [each for each in contributions if not answer.ledger.is_late(each)]
        events = sum(each.events for each in contributions)
        figures[key] = Told(events, _amount(in_time), _amount(contributions))
    aggregates = {meter.aggregate for meter in answer.catalogue.meters if meter.name == name}
    if not aggregates.isdisjoint(GAUGES):
        for key, (closing, total) in _integrals(answer, name, bounds, by, now).items():
            known = figures.get(key, Told(0, None, None))
            figures[key] = known._replace(closing=closing, total=total)
    return figures


def running_figures(
    answer: Answer, name: str, bounds: Sequence[int], by: Sequence[str], until: tuple[int, int]
) -> dict[FigureKey, tuple[Fraction, Fraction]]:
    """(closing, total) in seconds of sessions that run; ``until``: folded by all, and now."""
    progress, now = until
    found: dict[FigureKey, tuple[Fraction, Fraction]] = {}
    everybody: list[OracleSession | OracleSubject] = [
        *answer.sessions.values(),
        *answer.subjects.values(),
    ]
    for told in everybody:
        key = told.key
        meters = answer.catalogue.of_type(key.type, sessions=True)
        for meter, group, start, end in told.bills(meters, answer.appended[key.partition]):
            if end is not None or meter.name != name:
                continue
            line = answer.ledger.line(meter, key.partition, key.tenant, group)
            named = dict(zip(meter.group_by, line.group, strict=True))
            ran = split(start, min(now, start + told.longest), meter.window)
            for window_start, microseconds in ran.items():
                if not bounds[0] <= window_start < bounds[-1]:
                    continue
                bound = max(bound for bound in bounds if bound <= window_start)
                place = FigureKey(bound, key.tenant, tuple(named.get(each, "") for each in by))
                seconds = Fraction(microseconds, 1_000_000)
                closed = progress >= meter.close_of(window_start, answer.catalogue.metering_since)
                closing, total = found.get(place, (Fraction(0), Fraction(0)))
                found[place] = (closing if closed else closing + seconds, total + seconds)
    return found


def _by_figure(
    answer: Answer, name: str, bounds: Sequence[int], by: Sequence[str]
) -> dict[FigureKey, list[Contribution]]:
    found: dict[FigureKey, list[Contribution]] = defaultdict(list)
    for each in answer.ledger.contributions:
        if each.line.meter != name or not bounds[0] <= each.window_start < bounds[-1]:
            continue
        start = max(bound for bound in bounds if bound <= each.window_start)
        found[FigureKey(start, each.line.tenant, _asked(each, by))].append(each)
    return found


def _asked(contribution: Contribution, by: Sequence[str]) -> tuple[str, ...]:
    named = dict(zip(contribution.meter.group_by, contribution.line.group, strict=True))
    return tuple(named.get(name, "") for name in by)


def _amount(contributions: Sequence[Contribution]) -> Fraction | None:
    """What contributions to one meter come to, whatever their windows and groups."""
    if not contributions:
        return None
    events, value = row_of(contributions)
    match contributions[0].meter.aggregate:
        case "average":
            return rounded(value / events) if events else None
        case "latest":
            return last_of_each(contributions)[""].value
        case "unique":
            return sum((last.value for last in last_of_each(contributions).values()), Fraction(0))
        case _:
            return value


def rounded(value: Fraction) -> Fraction:
    """Half to even at 18 decimal places, as every division is."""
    return Fraction(round(value * 10**PLACES), 10**PLACES)


def _integrals(
    answer: Answer, name: str, bounds: Sequence[int], by: Sequence[str], now: int
) -> dict[FigureKey, tuple[Fraction, Fraction]]:
    """(closing, total) in amount times seconds; windows in which nothing is known are left out."""
    found: dict[FigureKey, tuple[Fraction, Fraction]] = {}
    definitions = [meter for meter in answer.catalogue.meters if meter.name == name]
    for meter in definitions:
        lines: dict[tuple[str, tuple[str, ...]], list[Contribution]] = defaultdict(list)
        for each in answer.ledger.contributions:
            own = [known for known in definitions if known.number == each.line.rule]
            if own and _carries(definitions, own[0], meter):
                lines[each.line.tenant, each.line.group].append(each)
        for (tenant, _), contributions in lines.items():
            for start, end in _windows(meter, bounds, now):
                bound = max(bound for bound in bounds if bound <= start)
                key = FigureKey(bound, tenant, _asked(contributions[0], by))
                closing, total = _window_of(answer, meter, contributions, start, min(end, now))
                if closing or total:
                    known = found.get(key, (Fraction(0), Fraction(0)))
                    found[key] = (known[0] + closing, known[1] + total)
    return found


def _carries(definitions: Sequence[OracleMeter], earlier: OracleMeter, later: OracleMeter) -> bool:
    """Whether what one definition left is carried on to a later one, or is its own."""
    run = [each for each in definitions if earlier.number <= each.number <= later.number]
    same = {(each.aggregate, each.unit) for each in run}
    groups = {each.group_by for each in run if each.aggregate == "time_weighted"}
    return bool(run) and len(same) == 1 and len(groups) <= 1


def _windows(meter: OracleMeter, bounds: Sequence[int], now: int) -> list[tuple[int, int]]:
    first = max(bounds[0], meter.since)
    last = min(bounds[-1], now, meter.until or bounds[-1])
    return [(start, start + meter.window) for start in range(first, last, meter.window)]


def _window_of(
    answer: Answer, meter: OracleMeter, contributions: Sequence[Contribution], start: int, end: int
) -> tuple[Fraction, Fraction]:
    """(closing, total) of one window of one line; ``end`` may be cut."""
    begun = [each for each in contributions if each.order[0] < end]
    closes = meter.close_of(start, answer.catalogue.metering_since)
    had = [each for each in begun if _known_by(answer, meter, each) <= closes]
    total = _area(begun, start, end)
    return (total if len(had) == len(begun) else _area(had, start, end)), total


def _known_by(answer: Answer, meter: OracleMeter, contribution: Contribution) -> int:
    """The earliest close that a definition takes something to have come before."""
    since = answer.catalogue.metering_since
    own = answer.catalogue.meters[contribution.line.rule]
    if own.number == meter.number:
        return contribution.cause + 1
    assert own.until is not None
    arrival = own.arrival(contribution.window_start, since, contribution.cause)
    return max(arrival + own.window, own.close_of(own.until - own.window, since))


def _area(contributions: Sequence[Contribution], start: int, end: int) -> Fraction:
    """The level between two instants, times seconds: piece by piece."""
    inside = {each.order[0] for each in contributions if start < each.order[0] < end}
    cuts = [start, *sorted(inside), end]
    area = Fraction(0)
    for low, high in pairwise(cuts):
        area += _level(contributions, low) * Fraction(high - low, 1_000_000)
    return area


def _level(contributions: Sequence[Contribution], time: int) -> Fraction:
    begun = [each for each in contributions if each.order[0] <= time]
    if not begun:
        return Fraction(0)
    if begun[0].meter.aggregate == "changes":
        return sum((each.value for each in begun), Fraction(0))
    return max(begun, key=lambda each: each.order).value

"""The oracle's ledger: contributions to windows, each with the log time that caused it.

A contribution is late when its cause is at or after the close of its window. Rows and figures are
nothing but sums over contributions.

Series limit: per partition, tenant and definition, the first so many distinct groups in the order
of the log have a line of their own, all later ones share the line "(overflow)". Only definitions
with group_by have a limit.
"""

from __future__ import annotations

from collections import defaultdict
from fractions import Fraction
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.oracle.catalogue import OracleCatalogue, OracleMeter

OVERFLOW = "(overflow)"
NOTHING = (0, Fraction(0))
Figure = tuple[int, Fraction]
"""Events and value."""


class Line(NamedTuple):
    """One line of figures. ``rule`` is the number of the definition that made it."""

    tenant: str
    meter: str
    rule: int
    group: tuple[str, ...]


class Contribution(NamedTuple):
    """What one event, or one change of a session, did to one window of one line.

    ``order`` decides between two contributions about one ``item``: the event's time, its number,
    its producer, its position.
    """

    line: Line
    meter: OracleMeter
    window_start: int
    cause: int
    events: int
    value: Fraction
    order: tuple[int, int, str, int] = (0, 0, "", 0)
    item: str | None = None


class Part(NamedTuple):
    """One row of figures: what came to one window by one arrival (0: in time)."""

    line: Line
    window_start: int
    arrival: int


class Ledger:
    """All contributions, in log order within each partition."""

    def __init__(self, catalogue: OracleCatalogue) -> None:
        self.contributions: list[Contribution] = []
        self._parts_of: tuple[int, dict[Part, list[Contribution]]] = (0, {})
        self._metering_since = catalogue.metering_since
        self._groups: dict[tuple[int, Line], list[tuple[str, ...]]] = defaultdict(list)

    def line(self, meter: OracleMeter, partition: int, tenant: str, group: tuple[str, ...]) -> Line:
        """The line that takes this group, admitted now where there is room."""
        line = Line(tenant, meter.name, meter.number, group)
        if not meter.group_by:
            return line
        known = self._groups[partition, line._replace(group=())]
        if group not in known and len(known) >= meter.series_max:
            return line._replace(group=(OVERFLOW,) * len(group))
        if group not in known:
            known.append(group)
        return line

    def is_late(self, contribution: Contribution) -> bool:
        """Whether its cause is at or after the close of its window."""
        meter, window_start = contribution.meter, contribution.window_start
        return contribution.cause >= meter.close_of(window_start, self._metering_since)

    def by_part(self) -> dict[Part, list[Contribution]]:
        """The contributions to each row."""
        if self._parts_of[0] == len(self.contributions):
            return self._parts_of[1]
        parts: dict[Part, list[Contribution]] = defaultdict(list)
        for each in self.contributions:
            arrival = each.meter.arrival(each.window_start, self._metering_since, each.cause)
            parts[Part(each.line, each.window_start, arrival)].append(each)
        self._parts_of = (len(self.contributions), parts)
        return parts

    def rows(self) -> dict[Part, Figure]:
        """Events and value of every row; of extremes all, of others those that are not nothing.

        The value of what is told by `items` is 0.
        """
        rows = {part: row_of(contributions) for part, contributions in self.by_part().items()}
        return {part: row for part, row in rows.items() if row != NOTHING}

    def moments(self) -> dict[Part, Fraction]:
        """Of changes of a level: amount times microseconds since the window's start."""
        moments = {
            part: sum((c.value * (c.order[0] - c.window_start) for c in contributions), Fraction(0))
            for part, contributions in self.by_part().items()
            if contributions[0].meter.aggregate == "changes"
        }
        return {part: moment for part, moment in moments.items() if moment}

    def items(self) -> dict[tuple[Part, str], Contribution]:
        """Of latest, unique and time_weighted meters, the last contribution about each item."""
        return {
            (part, item): last
            for part, contributions in self.by_part().items()
            for item, last in last_of_each(contributions).items()
        }


def row_of(contributions: Sequence[Contribution]) -> Figure:
    """What contributions to one meter come to."""
    events = sum(each.events for each in contributions)
    values = [each.value for each in contributions]
    match contributions[0].meter.aggregate:
        case "min":
            return events, min(values)
        case "max":
            return events, max(values)
        case "latest" | "unique" | "time_weighted":
            return events, Fraction(0)
        case _:
            return events, sum(values, Fraction(0))


def last_of_each(contributions: Sequence[Contribution]) -> dict[str, Contribution]:
    """By item, the contribution with the greatest order."""
    last: dict[str, Contribution] = {}
    for each in contributions:
        if each.item is not None and (each.item not in last or each.order >= last[each.item].order):
            last[each.item] = each
    return last

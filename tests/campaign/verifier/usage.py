"""Usage as the rules have it: rows of windows, in time and late, in exact fractions."""

from __future__ import annotations

from collections import defaultdict
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from tests.campaign.verifier.rules import Rule, Rules


class RowKey(NamedTuple):
    """Which row: ``start`` in minutes and ``arrival`` in seconds since 1970, 0 for in time."""

    meter: str
    tenant: str
    group: tuple[str, ...]
    partition: int
    start: int
    arrival: int


class Item(NamedTuple):
    """A single event that a row keeps: of two the greater stands."""

    time: int
    sequence: int
    producer: str
    offset: int
    value: Fraction


class Usage:
    """All rows so far."""

    def __init__(self, rules: Rules) -> None:
        self._rules: Final = rules
        self._aggregates: Final = {rule.name: rule.aggregate for rule in rules.rules}
        self._rows: Final[dict[RowKey, tuple[int, Fraction]]] = {}
        self._extremes: Final[dict[RowKey, list[Fraction]]] = defaultdict(list)
        self.items: Final[dict[tuple[RowKey, str], Item]] = {}
        self.late = 0
        """How many contributions came late."""

    def rows(self) -> dict[RowKey, tuple[int, Fraction]]:
        """Events and value of every row that is not nothing."""
        whole = dict(self._rows)
        for key, values in self._extremes.items():
            best = min if self._aggregates[key.meter] == "min" else max
            whole[key] = (len(values), best(values))
        return {key: row for key, row in whole.items() if any(row)}

    def take(
        self, partition: int, offset: int, event: dict[str, Any], log_time: int, sign: int
    ) -> None:
        """Add an event, or take it back."""
        for rule in self._rules.usage(event["type"]):
            attributes: dict[str, str] = event["attributes"]
            if not rule.passes(attributes):
                continue
            group, start = rule.group(attributes), rule.start_of(event["time"])
            key = self._key(rule, event["tenant"], group, partition, start, log_time)
            match rule.aggregate:
                case "min" | "max":
                    self._extremes[key].append(_amount(rule, event))
                case "unique":
                    self._add(key, sign, Fraction(0))
                    self._keep(key, event["subject"], _item(event, offset, Fraction(1)))
                case "latest":
                    self._add(key, sign, Fraction(0))
                    self._keep(key, "", _item(event, offset, _amount(rule, event)))
                case _:
                    self._add(key, sign, sign * _amount(rule, event))

    def charge(  # noqa: PLR0917 - all that a share of a session is
        self,
        rule: Rule,
        tenant: str,
        group: tuple[str, ...],
        partition: int,
        start: int,
        cause: int,
        share: tuple[int, int],
    ) -> None:
        """Add sessions and microseconds to a window, or take them back."""
        key = self._key(rule, tenant, group, partition, start, cause)
        self._add(key, share[0], Fraction(share[1], 10**6))

    def _key(  # noqa: PLR0917 - the parts of a row's place
        self,
        rule: Rule,
        tenant: str,
        group: tuple[str, ...],
        partition: int,
        start: int,
        log_time: int,
    ) -> RowKey:
        arrival = rule.arrival(start, log_time)
        self.late += arrival > 0
        return RowKey(
            rule.name, tenant, group, partition, start // 60_000_000, arrival // 1_000_000
        )

    def _add(self, key: RowKey, events: int, value: Fraction) -> None:
        known = self._rows.get(key, (0, Fraction(0)))
        self._rows[key] = (known[0] + events, known[1] + value)

    def _keep(self, key: RowKey, item: str, told: Item) -> None:
        known = self.items.get((key, item))
        if known is None or told[:4] >= known[:4]:
            self.items[key, item] = told


def _item(event: dict[str, Any], offset: int, value: Fraction) -> Item:
    return Item(event["time"], event["sequence"], event["producer"], offset, value)


def _amount(rule: Rule, event: dict[str, Any]) -> Fraction:
    if rule.aggregate == "count":
        return Fraction(1)
    if rule.value == "quantity":
        return Fraction(event["quantity"], 10 ** event["scale"])
    return Fraction(event["attributes"][rule.value.removeprefix("attributes.")])

"""Thresholds in the store's transaction: running totals, and what was told of already.

`settle` runs before the usage of its batch is written, so that a figure nobody has watched yet
begins with what the store has of its period. Each store has a `Ledger` of its own for it; in its
tables a total is plain decimal text, exact and the same however it came about.

A threshold on accounts asks for the usage of a whole period at once, tenant by tenant, when the
period is first touched: what is there goes to the waiting steps, whose accounts are asked for
afterwards. The total of the account ``""`` marks that this was done.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import Any, NamedTuple, Protocol

from meterstream_aggregator.catalogue import Catalogue, Meter, Threshold
from meterstream_aggregator.changes import Changes, OutboxMessage
from meterstream_aggregator.thresholds import (
    NO_OFFSET,
    NOBODY,
    TENANT,
    FiredRow,
    Movement,
    Place,
    TotalRow,
    Waiting,
    advanced,
    identity,
    joined,
    notice,
)
from meterstream_schemas.quantity import Amount


class Used(NamedTuple):
    """What one row of usage amounts to."""

    tenant: str
    partition: int
    window: int
    amount: Amount


class Ledger(Protocol):
    """What `settle` reads and writes, inside one transaction."""

    def total(self, threshold: str, who: str, start: int) -> Amount | None:
        """The running total, None where there is none yet."""
        ...

    def keep_total(self, threshold: str, who: str, start: int, total: Amount) -> None:
        """Put it in place of what is there."""
        ...

    def fired(self, threshold: str, who: str, start: int) -> set[str]:
        """The values of the period that were told of."""
        ...

    def keep_fired(self, row: FiredRow) -> None:
        """Note a value as told of, unless it was."""
        ...

    def keep_waiting(self, waiting: Waiting) -> None:
        """Keep a step until its account is known."""
        ...

    def take_waiting(self, ids: Collection[int]) -> bool:
        """Remove these steps; False, and nothing removed, when somebody else has taken one."""
        ...

    def usage(self, meter: Meter, tenant: str | None, start: int, end: int) -> Iterable[Used]:
        """What a definition has in [start, end), of one tenant or of all."""
        ...


def settle(ledger: Ledger, catalogue: Catalogue, changes: Changes) -> Iterator[OutboxMessage]:
    """Add up a batch's steps; the notices of values that are reached. To be run to its end."""
    for row in changes.told:
        ledger.keep_fired(row)
    by_name = {identity(threshold): threshold for threshold in catalogue.thresholds}
    for step in changes.waiting:
        _mark(ledger, catalogue, by_name[step.threshold], step.start, step.end)
        ledger.keep_waiting(step)
    for movement in changes.movements:
        if not movement.waited or ledger.take_waiting(movement.waited):
            yield from _settled(ledger, catalogue, movement)


def _settled(ledger: Ledger, catalogue: Catalogue, movement: Movement) -> Iterator[OutboxMessage]:
    name, who, start = identity(movement.threshold), movement.who, movement.start
    if who == NOBODY:
        return
    total = ledger.total(name, who, start)
    if movement.threshold.scope != TENANT:
        _mark(ledger, catalogue, movement.threshold, start, movement.end)
    elif total is None:
        total = _before(ledger, catalogue, movement)
    after, crossings = advanced(total, movement, ledger.fired(name, who, start))
    ledger.keep_total(name, who, start, after)
    sender = int(movement.places[0][0])
    for crossing in crossings:
        place = crossing.place or Place(sender, NO_OFFSET, 0)
        ledger.keep_fired(FiredRow(name, start, who, crossing.at, crossing.value, place))
        key, value = notice(movement, crossing)
        yield OutboxMessage(sender, movement.topic, key, value, ())


def unwatched(before: Catalogue, after: Catalogue) -> list[str]:
    """Thresholds whose totals are void, for between two catalogues somebody did not watch them."""
    kept = {(identity(each), each.of) for each in before.thresholds} & {
        (identity(each), each.of) for each in after.thresholds
    }
    both = (*before.thresholds, *after.thresholds)
    return sorted({identity(each) for each in both if (identity(each), each.of) not in kept})


def _before(ledger: Ledger, catalogue: Catalogue, movement: Movement) -> Amount | None:
    total: Amount | None = None
    start, end = movement.start, movement.end
    for meter in catalogue.definitions(movement.threshold.meter):
        for used in ledger.usage(meter, movement.who, start, end):
            total = joined(total, used.amount, greatest=movement.greatest)
    return total


def _mark(ledger: Ledger, catalogue: Catalogue, threshold: Threshold, start: int, end: int) -> None:
    """Before an account's period is first touched: let all that it has wait for its accounts."""
    name = identity(threshold)
    if ledger.total(name, NOBODY, start) is not None:
        return
    ledger.keep_total(name, NOBODY, start, Amount(0, 0))
    for meter in catalogue.definitions(threshold.meter):
        for tenant, partition, window, amount in ledger.usage(meter, None, start, end):
            place = Place(partition, NO_OFFSET, 0)
            ledger.keep_waiting(Waiting(name, tenant, window, start, end, amount, place))


def total_row(row: tuple[Any, ...]) -> TotalRow:
    """A row of `totals_query`."""
    return TotalRow(row[0], row[1], row[2], amount_of(row[3]))


def fired_row(row: tuple[Any, ...]) -> FiredRow:
    """A row of `notices_query`."""
    name, start, who, at, value, *place = row
    return FiredRow(name, start, who, at, amount_of(value), Place(*place))


def amount_of(text: str) -> Amount:
    """The amount that `format_amount` wrote, of any size."""
    whole, _, fraction = text.partition(".")
    return Amount(int(whole + fraction), len(fraction))

"""Thresholds in every store: totals, what was told of, and accounts that cannot be asked."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from meterstream_aggregator.batch import LogRecord, batch_of_records
from meterstream_aggregator.catalogue import HOUR
from meterstream_aggregator.catalogue_file import parse_catalogue
from meterstream_aggregator.changes import Changes
from meterstream_aggregator.columnar import fold_columns
from meterstream_aggregator.errors import Fenced
from meterstream_aggregator.thresholds import identity
from meterstream_consumers.errors import ConsumersError
from meterstream_consumers.watching import Watching
from meterstream_schemas.events import EventKind, MeterEvent
from meterstream_schemas.quantity import Amount
from tests.simulation.driver import Folder

if TYPE_CHECKING:
    from collections.abc import Sequence

    from meterstream_aggregator.catalogue import Catalogue
    from meterstream_aggregator.state import Readings, State
    from tests.contract.stores import Place

NOW = 1_767_225_600_000_000 + 100 * HOUR
METERS = """
metering_since: 2026-01-01T00:00:00Z
meters:
  - {name: credit, aggregate: sum}
  - {name: peak, type: credit, aggregate: max}
thresholds:
"""
SPENT = METERS + "  - {name: spent, meter: credit, every: 1d, at: [10, 100]}\n"
SHARED = METERS + "  - {name: shared, meter: credit, scope: account, every: 1d, at: [10, 100]}\n"


class Accounts:
    """A directory that can be away; it counts how often it is asked."""

    def __init__(self, **accounts: str) -> None:
        self.accounts = accounts
        self.away = False
        self.asked = 0

    def __call__(self, tenant: str, _time: int) -> str | None:
        self.asked += 1
        if self.away:
            raise ConnectionError("the directory is away")
        return self.accounts.get(tenant)


class World:
    """A worker on a place, started anew whenever its catalogue or directory changes."""

    def __init__(self, place: Place, text: str, accounts: Accounts | None = None) -> None:
        self._place = place
        self._offset = 0
        self.now = 0.0
        self.start(text, accounts)

    def start(self, text: str, accounts: Accounts | None = None) -> None:
        """Start a worker, in place of the one before."""
        catalogue: Catalogue = parse_catalogue(text)
        self.store = self._place.open()
        watching = self.watching = Watching(
            catalogue, self.store, directory=accounts, clock=lambda: self.now
        )

        def folding(records: Sequence[LogRecord], state: State, readings: Readings) -> Changes:
            batch = batch_of_records(records)
            changes = fold_columns(batch, state, readings)
            watching(batch, state, changes)
            return changes

        self._folder = Folder(self.store, catalogue, folding)
        self._folder.claim([0])

    def use(self, *amounts: tuple[str, int]) -> None:
        """Fold and commit one batch of (tenant, amount)."""
        records = [
            LogRecord(0, self._offset + n, NOW + (self._offset + n) * 1000, _event(*amount))
            for n, amount in enumerate(amounts)
        ]
        self._offset += len(records)
        self._folder.fold(records)

    def retry(self) -> bool:
        """Ask again for the accounts of what waits."""
        changes = self.watching.retry([0])
        if changes is not None:
            self.store.commit([], changes)
        return changes is not None

    def told(self) -> list[tuple[str, str, str, int | None]]:
        """(who, value to be reached, value then, offset) of all notices, in order."""
        found: list[dict[str, Any]] = [
            json.loads(row.message.value or b"")["data"] for row in self.store.outbox([0], 100)
        ]
        return [
            (told.get("tenant") or told["account"], told["at"], told["value"], told["offset"])
            for told in found
        ]


def _event(tenant: str, quantity: int) -> MeterEvent:
    return MeterEvent(
        EventKind.USAGE, tenant, "credit", NOW, quantity, 0, None, None, {}, "", 0, 0, None
    )


def test_a_restart_changes_nothing(place: Place) -> None:
    """Totals and what was told of are in the store, not in a worker."""
    world = World(place, SPENT)
    world.use(("a", 6), ("b", 9))
    world.start(SPENT)
    world.use(("a", 5), ("b", 0), ("a", -8))
    world.start(SPENT)
    world.use(("a", 9), ("b", 100))

    assert world.told() == [("a", "10", "11", 2), ("b", "10", "109", 6), ("b", "100", "109", 6)]


def test_what_was_used_before_anybody_watched_counts(place: Place) -> None:
    """A threshold that is new begins with what the store has; what it passed is told at once."""
    world = World(place, METERS.removesuffix("thresholds:\n"))
    world.use(("a", 6), ("b", 50))
    world.start(SPENT)
    world.use(("a", 3), ("b", 1), ("a", 1))

    assert world.told() == [("a", "10", "10", 4), ("b", "10", "50", None)]


def test_a_pause_of_watching_is_made_up_for(place: Place) -> None:
    """Taken out and put back: what was used between counts, and nothing is told twice."""
    world = World(place, SPENT)
    world.use(("a", 60))
    world.start(METERS.removesuffix("thresholds:\n"))
    world.use(("a", 30))
    world.start(SPENT)
    world.use(("a", 15))

    assert world.told() == [("a", "10", "60", 0), ("a", "100", "105", 2)]


def test_another_value_to_be_reached(place: Place) -> None:
    """It is told of as soon as something is used, if it is passed already."""
    world = World(place, SPENT)
    world.use(("a", 60))
    world.start(SPENT.replace("[10, 100]", "[50, 61, 100]"))
    world.use(("a", 1))

    assert world.told() == [("a", "10", "60", 0), ("a", "50", "60", None), ("a", "61", "61", 1)]


def test_only_those_who_are_named(place: Place) -> None:
    """``of`` names who is watched; who is named later begins with all they used."""
    world = World(place, SPENT.replace("every", "of: [a], every"))
    world.use(("a", 10), ("b", 99))
    world.start(SPENT.replace("every", "of: [a, b], every"))
    world.use(("b", 1))

    assert world.told() == [("a", "10", "10", 0), ("b", "10", "99", None), ("b", "100", "100", 2)]


def test_an_account_adds_up_its_tenants(place: Place) -> None:
    """Once for the account, by the event that reached it; tenants of no account add to none."""
    accounts = Accounts(a="one", b="one", c="two")
    world = World(place, SHARED, accounts)
    world.use(("a", 4), ("c", 9), ("b", 5), ("nobody", 50), ("a", 1))
    world.use(("b", 89), ("a", 1), ("b", 1))

    assert world.told() == [("one", "10", "10", 4), ("one", "100", "100", 6)]
    assert accounts.asked == 4


def test_a_directory_that_is_away_stops_nothing(place: Place) -> None:
    """What it cannot be asked for waits, and is told of when it is back."""
    accounts = Accounts(a="one", b="one")
    world = World(place, SHARED, accounts)
    accounts.away = True
    world.use(("a", 6), ("b", 6), ("nobody", 6))
    assert not world.retry()
    assert accounts.asked == 1
    world.now += 10.0
    assert not world.retry()
    world.now += 10.0
    accounts.away = False
    world.use(("a", 1))

    assert world.told() == []
    assert world.retry()
    assert not world.retry()
    assert world.told() == [("one", "10", "13", 1)]


def test_an_account_begins_with_what_its_tenants_used(place: Place) -> None:
    """Usage from before the threshold waits for its accounts, and is added once."""
    world = World(place, METERS.removesuffix("thresholds:\n"))
    world.use(("a", 6), ("b", 60), ("nobody", 600))
    world.start(SHARED, Accounts(a="one", b="one"))
    world.use(("a", 1))
    assert world.told() == []

    assert world.retry()

    assert world.told() == [("one", "10", "67", None)]
    totals = place.reader().threshold_totals(_identities(SHARED), 0)
    assert [(row.who, row.total) for row in totals] == [("one", Amount(67, 0))]


def test_what_another_store_told_of_is_not_told_again(place: Place) -> None:
    """A store made again from the log is handed what the old one told of."""
    world = World(place, SPENT)
    world.use(("a", 10))
    told = place.reader().threshold_notices(None, 0)
    world.store.commit([], Changes(told=told))

    world.store.commit([], Changes(told=[told[0]._replace(who="b")]))
    world.use(("b", 10))

    assert world.told() == [("a", "10", "10", 0)]
    rows = place.reader().threshold_notices(_identities(SPENT), 0)
    assert [(row.who, row.at, row.place.offset) for row in rows] == [("a", "10", 0), ("b", "10", 0)]
    assert place.reader().threshold_notices(["x"], 0) == []
    assert place.reader().threshold_notices(None, NOW) == []


def test_thresholds_of_accounts_need_accounts(place: Place) -> None:
    """A worker that knows none says so when it starts, in place of waiting for ever."""
    with pytest.raises(ConsumersError, match="knows no accounts"):
        World(place, SHARED)


def test_a_batch_that_fails_tells_nothing(place: Place) -> None:
    """Totals and notices are in the transaction: all of it or nothing."""
    world = World(place, SPENT)
    world.use(("a", 6))
    elsewhere = place.open()
    elsewhere.claim(0, "other")

    with pytest.raises(Fenced):
        world.use(("a", 6))

    assert world.told() == []
    [total] = place.reader().threshold_totals(_identities(SPENT), 0)
    assert total.total == Amount(6, 0)


def _identities(text: str) -> list[str]:
    return [identity(threshold) for threshold in parse_catalogue(text).thresholds]

"""A worker whose accounts hang, are away or talk nonsense: counting goes on, thresholds wait."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from meterstream_aggregator.batch import LogRecord, batch_of_records
from meterstream_aggregator.catalogue import HOUR, MINUTE
from meterstream_aggregator.catalogue_file import parse_catalogue
from meterstream_aggregator.columnar import fold_columns
from meterstream_aggregator.store.sqlite import SqliteStore
from meterstream_aggregator.store.sqlite_reader import open_reader
from meterstream_consumers.watching import Directory, Watching
from meterstream_schemas.events import EventKind, MeterEvent
from meterstream_services.accounts.lookup import lookup_in
from meterstream_services.accounts.memory import MemoryDirectory
from meterstream_services.accounts.model import Assign, SetAccount
from tests.simulation.driver import Folder
from tests.unit.services.accounts_service import FAULTS, service_and_directory
from tests.waiting import eventually

if TYPE_CHECKING:
    from meterstream_aggregator.changes import Changes
    from meterstream_aggregator.state import Readings, State
    from meterstream_services.accounts.history import History

NOW = 1_767_225_600_000_000 + 100 * HOUR
CATALOGUE = parse_catalogue("""
metering_since: 2026-01-01T00:00:00Z
meters:
  - {name: credit, aggregate: sum}
thresholds:
  - {name: spent, meter: credit, scope: account, every: 1d, at: [2]}
""")


class Hanging(MemoryDirectory):
    """A directory that answers when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = threading.Event()
        self.asked = 0

    def histories(self, tenants: Sequence[str]) -> dict[str, History]:
        """When told to."""
        self.asked += 1
        self.gate.wait(30)
        return super().histories(tenants)


def _record(number: int, tenant: str) -> LogRecord:
    at = NOW + number * MINUTE
    event = MeterEvent(
        kind=EventKind.USAGE,
        tenant=tenant,
        type="credit",
        time=at,
        quantity=1,
        scale=0,
        session=None,
        subject=None,
        attributes={},
        producer="a" * 32,
        lane=0,
        sequence=number + 1,
        key=None,
    )
    return LogRecord(0, number, at, event)


class Worker:
    """Folds one record after the other, a second each, and watches thresholds."""

    def __init__(self, path: Path, directory: Directory) -> None:
        self.path, self.seconds, self.number = path, 0.0, 0
        self.said: list[str | None] = []
        self.store = SqliteStore(path)
        watching = self.watching = Watching(
            CATALOGUE,
            self.store,
            directory=directory,
            clock=lambda: self.seconds,
            said=self.said.append,
        )

        def folding(records: Sequence[LogRecord], state: State, readings: Readings) -> Changes:
            batch = batch_of_records(records)
            changes = fold_columns(batch, state, readings)
            watching(batch, state, changes)
            return changes

        self._folder = Folder(self.store, CATALOGUE, folding)
        self._folder.claim([0])

    def fold(self, records: int, tenant: str | None = None) -> None:
        """So many more, of three tenants in turns or of one."""
        for _ in range(records):
            self._folder.fold([_record(self.number, tenant or f"t{self.number % 3}")])
            self.number += 1
            self.seconds += 1

    def counted(self) -> int:
        """All that the store has of the meter."""
        with closing(open_reader(self.path)) as reader:
            credit = CATALOGUE.meter("credit")
            rows = reader.usage(credit, tenants=None, start=0, end=2**55)
            return sum(row.quantity for row in rows)

    def waiting(self) -> int:
        """Steps without an account."""
        return len(self.store.waiting([0], 1000))

    def catch_up(self) -> list[str]:
        """Ask again until nothing waits; of whom is told."""
        found: list[str] = []

        def told() -> bool:
            self.seconds += 10
            changes = self.watching.retry([0])
            if changes is not None:
                self.store.commit([], changes)
                found.extend(movement.who for movement in changes.movements)
            return self.waiting() == 0

        eventually(told)
        return found


def test_counting_goes_on_while_accounts_hang(tmp_path: Path) -> None:
    """A hanging lookup costs a worker its bound once in a while; every event is counted.

    What a threshold would have heard waits in the store, and is told once accounts are back.
    """
    accounts = Hanging()
    accounts.apply([SetAccount("a"), *(Assign(f"t{number}", "a", None) for number in range(3))])
    worker = Worker(tmp_path / "store.sqlite3", lookup_in(accounts, seconds=0.05))
    with closing(worker.store):
        begun = time.monotonic()
        worker.fold(30)

        assert worker.counted() == 30
        assert worker.waiting() == 30
        assert time.monotonic() - begun < 20
        assert accounts.asked == 1

        accounts.gate.set()
        assert worker.catch_up() == ["a"] * 30


@pytest.mark.parametrize("fault", FAULTS)
def test_counting_goes_on_without_a_service(tmp_path: Path, fault: str) -> None:
    """A service that is away, hangs or answers nonsense, from the start on and again later.

    Each outage is told once with its reason, and once that it is over.
    """
    with service_and_directory(fault) as (service, directory):
        worker = Worker(tmp_path / "store.sqlite3", lookup_in(directory, seconds=1))
        with closing(worker.store):
            worker.fold(30)
            assert (worker.counted(), worker.waiting()) == (30, 30)
            assert len(worker.said) == 1
            assert "accounts" in (worker.said[0] or "")

            service.heal()
            assert worker.catch_up() == ["a"] * 30
            worker.fold(3)
            assert (worker.counted(), worker.waiting()) == (33, 0)
            assert worker.said[-1] is None

            service.break_("hangs" if fault == "refused" else fault)
            worker.fold(10)  # What is known goes on.
            assert (worker.counted(), worker.waiting()) == (43, 0)
            worker.fold(10, tenant="new")
            assert (worker.counted(), worker.waiting()) == (53, 10)
            # A busy machine may make an outage of its own; each is told once, and its end.
            told = [why is None for why in worker.said]
            assert told == [False, True] * (len(told) // 2) + [False]

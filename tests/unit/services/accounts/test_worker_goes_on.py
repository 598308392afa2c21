"""A worker whose accounts hang or are away: counting goes on, and thresholds wait."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from meterstream_aggregator.batch import LogRecord, batch_of_records
from meterstream_aggregator.catalogue import HOUR, MINUTE
from meterstream_aggregator.catalogue_file import parse_catalogue
from meterstream_aggregator.columnar import fold_columns
from meterstream_aggregator.store.sqlite import SqliteStore
from meterstream_aggregator.store.sqlite_reader import open_reader
from meterstream_consumers.watching import Watching
from meterstream_schemas.events import EventKind, MeterEvent
from meterstream_services.accounts.lookup import lookup_in
from meterstream_services.accounts.memory import MemoryDirectory
from meterstream_services.accounts.model import Assign, SetAccount
from tests.simulation.driver import Folder

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


def _record(number: int) -> LogRecord:
    at = NOW + number * MINUTE
    event = MeterEvent(
        kind=EventKind.USAGE,
        tenant=f"t{number % 3}",
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


def test_counting_goes_on_while_accounts_hang(tmp_path: Path) -> None:
    """A hanging lookup costs a worker its bound once in a while; every event is counted.

    What a threshold would have heard waits in the store, and is told once accounts are back.
    """
    accounts, seconds = Hanging(), [0.0]
    accounts.apply([SetAccount("a"), *(Assign(f"t{number}", "a", None) for number in range(3))])
    with closing(SqliteStore(tmp_path / "store.sqlite3")) as store:
        watching = Watching(
            CATALOGUE,
            store,
            directory=lookup_in(accounts, seconds=0.05),
            clock=lambda: seconds[0],
        )

        def folding(records: Sequence[LogRecord], state: State, readings: Readings) -> Changes:
            batch = batch_of_records(records)
            changes = fold_columns(batch, state, readings)
            watching(batch, state, changes)
            return changes

        folder = Folder(store, CATALOGUE, folding)
        folder.claim([0])
        begun = time.monotonic()
        for number in range(30):
            folder.fold([_record(number)])
            seconds[0] += 1

        with closing(open_reader(tmp_path / "store.sqlite3")) as reader:
            credit = CATALOGUE.meter("credit")
            rows = list(reader.usage(credit, tenants=None, start=0, end=2**55))
        assert sum(row.quantity for row in rows) == 30
        assert len(store.waiting([0], 100)) == 30
        assert time.monotonic() - begun < 20
        assert accounts.asked == 1

        accounts.gate.set()
        deadline = time.monotonic() + 10
        told = None
        while told is None and time.monotonic() < deadline:
            seconds[0] += 10
            told = watching.retry([0])

        assert told is not None
        assert [movement.who for movement in told.movements][:1] == ["a"]

"""The whole verdict over seeded worlds, and proof that it would notice what must not happen."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from meterstream_aggregator.batch import LogRecord
from meterstream_aggregator.catalogue_file import parse_catalogue
from meterstream_aggregator.store.memory import MemoryStore
from meterstream_aggregator.store.sqlite import SqliteStore
from meterstream_aggregator.store.sqlite_reader import open_reader
from meterstream_schemas.events import EventKind
from tests.oracle.counting import LogRecord as Logged
from tests.oracle.verdict import differences
from tests.simulation.driver import Folder, by_columns, plainly
from tests.simulation.generator import world

if TYPE_CHECKING:
    from pathlib import Path

    from meterstream_aggregator.store.port import Store
    from tests.simulation.driver import Fold

SIZES = (1, 5, 40, 300)


def _fold(store: Store, text: str, records: list[Logged], folding: Fold, seed: int) -> None:
    rng = random.Random(seed)
    folder = Folder(store, parse_catalogue(text), folding)
    folder.claim(range(4))
    at = 0
    while at < len(records):
        size = rng.choice(SIZES)
        folder.fold([LogRecord(*record) for record in records[at : at + size]])
        at += size


@pytest.mark.parametrize("seed", range(100, 106))
def test_sqlite_says_exactly_what_the_log_says(seed: int, tmp_path: Path) -> None:
    """Figures, sessions, counters, dead letters and holes of the fast fold in the real store."""
    text, records = world(seed, 1_000)
    store = SqliteStore(tmp_path / "store.sqlite3")

    _fold(store, text, records, by_columns, seed)

    reader = open_reader(tmp_path / "store.sqlite3")
    assert differences(reader, text, records) == []
    reader.close()
    store.close()


@pytest.mark.parametrize("seed", range(200, 204))
def test_the_plain_fold_says_the_same(seed: int) -> None:
    """The reference fold in the store in memory is judged alike."""
    text, records = world(seed, 800)
    store = MemoryStore()

    _fold(store, text, records, plainly, seed)

    assert differences(store, text, records) == []


@pytest.mark.parametrize("crime", ["lost", "doubled", "altered", "moved", "later", "phantom"])
def test_the_verdict_notices(crime: str) -> None:
    """One event lost, doubled, altered, moved to another tenant or window, or never sent: red."""
    text, records = world(300, 600)
    store = MemoryStore()
    _fold(store, text, records, by_columns, 300)
    assert differences(store, text, records) == []
    at, victim = next(
        (place, record)
        for place, record in enumerate(records)
        if record.event.type == "credit" and record.event.kind is EventKind.USAGE
        and 0 < record.event.scale <= 6 and record.event.quantity > 0
        and record.event.key is None and record.event.producer == ""
    )  # fmt: skip

    event = victim.event
    altered = {
        "lost": [],
        "doubled": [victim, victim._replace(offset=10**9)],
        "altered": [victim._replace(event=event._replace(quantity=event.quantity + 1))],
        "moved": [victim._replace(event=event._replace(tenant=f"{event.tenant}'"))],
        "later": [victim._replace(event=event._replace(time=event.time - 3_600_000_000))],
        "phantom": [victim, victim._replace(event=event._replace(quantity=-event.quantity))],
    }[crime]
    truth = [*records[:at], *altered, *records[at + 1 :]]

    assert any(found.what == "usage" for found in differences(store, text, truth))

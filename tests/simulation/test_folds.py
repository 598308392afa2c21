"""Both folds, both stores, any cut into batches, and the oracle: one result."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import pytest

from meterstream_aggregator.batch import LogRecord
from meterstream_aggregator.catalogue import Aggregate, Catalogue
from meterstream_aggregator.catalogue_file import parse_catalogue
from meterstream_aggregator.store.memory import MemoryStore
from meterstream_aggregator.store.port import StoreReader
from meterstream_aggregator.store.sqlite import SqliteStore
from meterstream_aggregator.store.sqlite_reader import open_reader
from tests.oracle import counting
from tests.simulation.driver import Folder, by_columns, everything, plainly
from tests.simulation.generator import world

SEEDS = range(12)
EVENTS = 300


def cut(records: Sequence[LogRecord], rng: random.Random) -> Iterator[Sequence[LogRecord]]:
    """Batches of very different sizes."""
    at = 0
    while at < len(records):
        size = rng.choice((1, 2, 7, 40, 200))
        yield records[at : at + size]
        at += size


def logged(seed: int) -> tuple[str, Catalogue, list[LogRecord]]:
    """A world as the aggregator sees it."""
    text, records = world(seed, EVENTS)
    return text, parse_catalogue(text), [LogRecord(*record) for record in records]


@pytest.mark.parametrize("seed", SEEDS)
def test_columns_equal_the_plain_fold(seed: int, tmp_path: Path) -> None:
    """The fast fold into SQLite, in small batches, leaves what the plain fold leaves at once."""
    _, catalogue, records = logged(seed)
    plain = MemoryStore()
    folder = Folder(plain, catalogue, plainly)
    folder.claim(range(4))
    folder.fold(records)

    store = SqliteStore(tmp_path / "store.sqlite3")
    worker = Folder(store, catalogue, by_columns)
    worker.claim(range(4))
    for batch in cut(records, random.Random(seed)):
        worker.fold(batch)

    reader = open_reader(tmp_path / "store.sqlite3")
    assert everything(reader, catalogue) == everything(plain, catalogue)
    reader.close()
    store.close()


@pytest.mark.parametrize("seed", SEEDS)
def test_the_oracle_agrees(seed: int) -> None:
    """A second implementation that shares no code counts the same."""
    text, catalogue, records = logged(seed)
    store = MemoryStore()
    folder = Folder(store, catalogue, by_columns)
    folder.claim(range(4))
    for batch in cut(records, random.Random(seed)):
        folder.fold(batch)

    answer = counting.count(text, [counting.LogRecord(*record) for record in records])

    assert _usage(store, catalogue) == {
        (key.tenant, key.meter, key.group, key.window_start): value
        for key, value in answer.usage.items()
    }


def _usage(
    store: StoreReader, catalogue: Catalogue
) -> dict[tuple[str, str, tuple[str, ...], int], tuple[int, Fraction]]:
    joined: dict[tuple[str, str, tuple[str, ...], int], tuple[int, Fraction]] = {}
    for meter in catalogue.meters:
        for row in store.usage(meter, tenants=None, start=0, end=2**55):
            key = (row.tenant, meter.name, row.group, row.start)
            value = Fraction(row.quantity, 10**row.scale)
            if meter.aggregate is Aggregate.COUNT:
                value = Fraction(row.events)
            events, known = joined.get(key, (0, None))
            if known is not None and meter.aggregate is Aggregate.MIN:
                value = min(value, known)
            elif known is not None and meter.aggregate is Aggregate.MAX:
                value = max(value, known)
            elif known is not None:
                value += known
            joined[key] = (events + row.events, value)
    return joined

"""The laws that hold in every simulated world, each as a function of a seed and a size.

A seed that fails says how to run it again: ``python -m tests.simulation --first SEED --seeds 1``,
with ``--events`` as it was. ``METERSTREAM_SEED=7 pytest tests/simulation`` tries one seed with the
sizes of the quick tests, ``METERSTREAM_SEED=7 MORE=50`` fifty from there on.
"""

from __future__ import annotations

import random
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from meterstream_aggregator import answering
from meterstream_aggregator.batch import LogRecord
from meterstream_aggregator.catalogue_file import parse_catalogue
from meterstream_aggregator.questions import ask
from meterstream_aggregator.store.memory import MemoryStore
from meterstream_aggregator.store.sqlite import SqliteStore
from meterstream_aggregator.store.sqlite_reader import open_reader
from meterstream_aggregator.store.standing import canonical_hash
from tests.oracle import counting
from tests.oracle.answers import figure_differences, fraction
from tests.oracle.verdict import differences_from
from tests.simulation.accidents import fold_with_accidents
from tests.simulation.catalogues import changed
from tests.simulation.closing import Watch
from tests.simulation.driver import Folder, by_columns, everything, plainly
from tests.simulation.generator import any_world, orderless_world, shuffled

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from meterstream_aggregator.catalogue import Catalogue
    from meterstream_aggregator.store.port import Store, StoreReader
    from tests.simulation.driver import Fold

HOUR = 3_600_000_000
PARTITIONS = range(4)


def cut(records: Sequence[LogRecord], rng: random.Random) -> Iterator[Sequence[LogRecord]]:
    """Batches of very different sizes."""
    at = 0
    while at < len(records):
        size = rng.choice((1, 2, 7, 40, 200))
        yield records[at : at + size]
        at += size


def fold_into(
    store: Store, catalogue: Catalogue, batches: Iterator[Sequence[LogRecord]], folding: Fold
) -> None:
    """One worker that never fails."""
    folder = Folder(store, catalogue, folding)
    folder.claim(PARTITIONS)
    for batch in batches:
        folder.fold(batch)


def again(seed: int, events: int) -> str:
    """The command that tries one seed again."""
    return f"python -m tests.simulation --first {seed} --seeds 1 --events {events}"


def every_law(seed: int, events: int) -> None:
    """All of them, in a place of its own: in memory where there is one, commits are quick there."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as place:
        the_store_is_a_function_of_the_log(seed, events, Path(place))
    order_does_not_matter(seed, events)
    the_catalogue_may_change(seed, events)


def the_store_is_a_function_of_the_log(seed: int, events: int, place: Path) -> None:
    """P1, P2, P3, P5: folds, batches, stores, workers and accidents make one store, the oracle's.

    The figures that it answers are the oracle's too, closing figure and adjustments are the total,
    and what was once final stays.
    """
    text, catalogue, records = _read(any_world(seed, events))
    rng = random.Random(f"laws {seed}")
    answer = counting.count(text, _for_oracle(records))
    plain, cut_memory = MemoryStore(), MemoryStore()
    fold_into(plain, catalogue, iter([records]), plainly)
    expected = everything(plain, catalogue)
    assert differences_from(plain, answer) == []

    fold_into(cut_memory, catalogue, cut(records, rng), by_columns)
    assert everything(cut_memory, catalogue) == expected
    whole = SqliteStore(place / "whole.sqlite3")
    fold_into(whole, catalogue, iter([records]), by_columns)
    whole.close()

    path = place / "accidents.sqlite3"
    SqliteStore(path).close()
    reader, bounds = open_reader(path), bounds_of(records, rng)
    watch = Watch(bounds)
    fold_with_accidents(path, catalogue, records, rng, lambda: watch.look(reader))
    assert everything(reader, catalogue) == expected
    assert canonical_hash(path) == canonical_hash(place / "whole.sqlite3")
    assert figure_differences(reader, answer, bounds) == []
    reader.close()


def order_does_not_matter(seed: int, events: int) -> None:
    """P4: in a world without contradictions any order of arrival gives the same totals."""
    _, catalogue, records = _read(orderless_world(seed, events))
    told: list[Any] = []
    for order in range(2):
        store = MemoryStore()
        again = [LogRecord(*record) for record in shuffled(order, _for_oracle(records))]
        fold_into(store, catalogue, cut(again, random.Random(order)), by_columns)
        told.append((_totals(store, records), _sessions(store), _tallies(store)))
    assert told[0] == told[1]


def the_catalogue_may_change(seed: int, events: int) -> None:
    """What was counted stays; from their dates on further definitions count."""
    text, catalogue, records = _read(any_world(seed, events))
    rng = random.Random(f"change {seed}")
    at = rng.randrange(1, len(records) // 2)
    later = changed(rng, text, max(record.append_time for record in records[:at]))
    store = MemoryStore()
    fold_into(store, catalogue, cut(records[:at], rng), by_columns)
    fold_into(store, parse_catalogue(later), cut(records[at:], rng), by_columns)
    answer = counting.count(text, _for_oracle(records), change=(at, later))
    assert differences_from(store, answer) == []
    assert figure_differences(store, answer, bounds_of(records, rng)) == []


def _read(
    made: tuple[str, list[counting.LogRecord]],
) -> tuple[str, Catalogue, list[LogRecord]]:
    text, records = made
    return text, parse_catalogue(text), [LogRecord(*record) for record in records]


def _for_oracle(records: Sequence[LogRecord]) -> list[counting.LogRecord]:
    return [counting.LogRecord(*record) for record in records]


def _totals(reader: StoreReader, records: Sequence[LogRecord]) -> dict[Any, Any]:
    """Every figure of every meter, over stretches of six hours."""
    times = [record.event.time for record in records if record.event.time > 10 * HOUR]
    bounds = range(min(times) // HOUR * HOUR, max(times) + 30 * HOUR, 6 * HOUR)
    catalogue = reader.catalogue()
    totals: dict[Any, Any] = {}
    for name in dict.fromkeys(meter.name for meter in catalogue.meters):
        definitions = catalogue.definitions(name)
        changes = {meter.since for meter in definitions if bounds[0] < meter.since < bounds[-1]}
        question = ask(definitions, sorted({*bounds, *changes}))
        for figure in answering.figures(reader, question, progress=0, now=2**55):
            if figure.total is not None and (figure.total.quantity or figure.events):
                key = (name, figure.start, figure.tenant)
                totals[key] = (figure.events, fraction(figure.total))
    return totals


def _sessions(reader: StoreReader) -> list[Any]:
    return [
        (*row._replace(last_append=0, attributes={}), sorted(row.attributes.items()))
        for row in reader.sessions(limit=10**9)
    ]


def _tallies(reader: StoreReader) -> list[tuple[int, int, int, int]]:
    rows = reader.positions()
    return [(row.partition, row.counted, row.duplicates, row.refused) for row in rows]


def bounds_of(records: Sequence[LogRecord], rng: random.Random) -> list[int]:
    """A few boundaries on whole hours somewhere in the world's time, and where the log ends."""
    times = [record.event.time for record in records if record.event.time > 10 * HOUR]
    middle = rng.choice(times) // HOUR * HOUR
    end = max(record.append_time for record in records) // HOUR * HOUR
    around = {middle + HOUR * hours for hours in (-48, -10, -2, -1, 0, 1, 2, 9, 40)}
    return sorted(around | {end + HOUR * hours for hours in (-6, 0, 1, 2, 3)})

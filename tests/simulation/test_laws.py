"""The laws on a few seeds; ``METERSTREAM_SEED=7 MORE=50`` tries fifty from seed 7 on.

Long runs: ``python -m tests.simulation --seeds 1000 --events 2000``.
"""

from __future__ import annotations

import os
import random
from typing import TYPE_CHECKING

import pytest

from meterstream_aggregator.batch import LogRecord
from meterstream_aggregator.catalogue_file import parse_catalogue
from meterstream_aggregator.errors import Fenced
from meterstream_aggregator.store.memory import MemoryStore
from meterstream_aggregator.store.sqlite import SqliteStore
from meterstream_aggregator.store.sqlite_reader import open_reader
from tests.simulation.accidents import fold_with_accidents
from tests.simulation.closing import Watch
from tests.simulation.driver import Folder, everything
from tests.simulation.generator import any_world, world
from tests.simulation.laws import (
    again,
    order_does_not_matter,
    the_catalogue_may_change,
    the_store_is_a_function_of_the_log,
)

if TYPE_CHECKING:
    from pathlib import Path

EVENTS = 150


def _seeds(quick: range) -> range:
    """The seeds that the environment asks for, else a few."""
    if "METERSTREAM_SEED" not in os.environ:
        return quick
    first, more = int(os.environ["METERSTREAM_SEED"]), int(os.environ.get("MORE", "1"))
    return range(first, first + more)


@pytest.mark.parametrize("seed", _seeds(range(3)))
def test_the_store_is_a_function_of_the_log(seed: int, tmp_path: Path) -> None:
    """Both folds, both stores, any batches, workers, accidents: the oracle's rows and figures."""
    try:
        the_store_is_a_function_of_the_log(seed, EVENTS, tmp_path)
    except BaseException as failure:
        failure.add_note(again(seed, EVENTS))
        raise


@pytest.mark.parametrize("seed", _seeds(range(50, 52)))
def test_order_does_not_matter(seed: int) -> None:
    """Two orders of arrival of one world give the same totals, sessions and tallies."""
    try:
        order_does_not_matter(seed, EVENTS)
    except BaseException as failure:
        failure.add_note(again(seed, EVENTS))
        raise


@pytest.mark.parametrize("seed", _seeds(range(70, 72)))
def test_the_catalogue_may_change(seed: int) -> None:
    """Definitions that come while the log is folded count from their dates on, and only then."""
    try:
        the_catalogue_may_change(seed, EVENTS)
    except BaseException as failure:
        failure.add_note(again(seed, EVENTS))
        raise


def test_every_accident_happens(tmp_path: Path) -> None:
    """Workers do die inside their commits, and zombies are fenced; closing figures become final."""
    text, records = any_world(7, 200)
    catalogue = parse_catalogue(text)
    path = tmp_path / "store.sqlite3"
    SqliteStore(path).close()
    reader = open_reader(path)
    hour = 3_600_000_000
    middle = records[len(records) // 2].append_time // hour * hour
    watch = Watch([middle - 5 * hour, middle])

    happened = fold_with_accidents(
        path,
        catalogue,
        [LogRecord(*record) for record in records],
        random.Random(3),
        lambda: watch.look(reader),
    )

    assert all(happened.values()), happened
    assert any(closed for closed in watch.final.values())
    reader.close()


def test_a_zombie_leaves_nothing() -> None:
    """Who was followed by another writes no row, in whichever partition the other is."""
    text, records = world(9, 100)
    catalogue, store = parse_catalogue(text), MemoryStore()
    zombie = Folder(store, catalogue)
    zombie.claim(range(4))
    log = [LogRecord(*record) for record in records]
    zombie.fold(log[:40])
    before = everything(store, catalogue)
    Folder(store, catalogue).claim([log[41].partition])

    with pytest.raises(Fenced):
        zombie.fold(log[40:])

    assert everything(store, catalogue) == before


def test_a_moved_closing_figure_is_noticed() -> None:
    """The watch fails when what was final is not what it was."""
    text, records = any_world(7, 100)
    store = MemoryStore()
    folder = Folder(store, parse_catalogue(text))
    folder.claim(range(4))
    folder.fold([LogRecord(*record) for record in records])
    hour = 3_600_000_000
    first = records[0].append_time // hour * hour
    watch = Watch([first - 24 * hour, first + 5 * hour])
    watch.look(store)
    place = next(place for place, closed in watch.final.items() if closed)

    watch.look(store)
    watch.final[place].popitem()

    with pytest.raises(AssertionError, match="changed after it was final"):
        watch.look(store)

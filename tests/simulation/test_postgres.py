"""The laws over PostgreSQL: its rows are those of the other stores, whatever happened meanwhile."""

from __future__ import annotations

import random
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from meterstream_aggregator.batch import LogRecord
from meterstream_aggregator.catalogue_file import parse_catalogue
from meterstream_aggregator.store.memory import MemoryStore
from meterstream_aggregator.store.opening import open_reader, open_store
from meterstream_aggregator.store.standing import canonical_hash, compare
from tests.oracle.answers import figure_differences
from tests.oracle.counting import count
from tests.oracle.verdict import differences_from
from tests.simulation.accidents import fold_with_accidents
from tests.simulation.closing import Watch
from tests.simulation.driver import by_columns, everything
from tests.simulation.generator import any_world
from tests.simulation.laws import PARTITIONS, bounds_of, cut, fold_into

if TYPE_CHECKING:
    from pathlib import Path

    from meterstream_aggregator.store.address import PostgresAddress

EVENTS = 150


@pytest.mark.parametrize("seed", range(2))
def test_postgres_is_a_function_of_the_log(
    seed: int, postgres_address: PostgresAddress, tmp_path: Path
) -> None:
    """Accidents, zombies, other batches: the rows of a file that one worker made, the oracle's."""
    text, made = any_world(seed, EVENTS)
    catalogue, records = parse_catalogue(text), [LogRecord(*record) for record in made]
    rng = random.Random(f"postgres {seed}")
    memory, file = MemoryStore(), tmp_path / "whole.sqlite3"
    fold_into(memory, catalogue, iter([records]), by_columns)
    with closing(open_store(file)) as whole:
        fold_into(whole, catalogue, cut(records, rng), by_columns)
    bounds = bounds_of(records, rng)
    watch = Watch(bounds[::4])

    with closing(open_reader(postgres_address)) as reader:
        happened = fold_with_accidents(
            postgres_address, catalogue, records, rng, lambda: watch.look(reader)
        )

        found = [each for each in compare(file, postgres_address) if each.different]
        assert found == [], (happened, found)
        assert canonical_hash(file) == canonical_hash(postgres_address)
        assert everything(reader, catalogue) == everything(memory, catalogue)
        answer = count(text, made)
        assert differences_from(reader, answer) == []
        assert figure_differences(reader, answer, bounds) == []
    assert sum(happened.values()) > 0
    assert {row.partition for row in memory.positions()} <= set(PARTITIONS)

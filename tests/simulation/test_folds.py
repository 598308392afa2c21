"""Both folds and any cut into batches leave one store in a world of the standard catalogue."""

from __future__ import annotations

import random

import pytest

from meterstream_aggregator.batch import LogRecord
from meterstream_aggregator.catalogue_file import parse_catalogue
from meterstream_aggregator.store.memory import MemoryStore
from tests.simulation.driver import by_columns, everything, plainly
from tests.simulation.generator import world
from tests.simulation.laws import cut, fold_into


@pytest.mark.parametrize("seed", range(6))
def test_columns_equal_the_plain_fold(seed: int) -> None:
    """The fast fold in small batches leaves what the plain fold leaves at once."""
    text, made = world(seed, 200)
    catalogue, records = parse_catalogue(text), [LogRecord(*record) for record in made]
    plain, fast = MemoryStore(), MemoryStore()

    fold_into(plain, catalogue, iter([records]), plainly)
    fold_into(fast, catalogue, cut(records, random.Random(seed)), by_columns)

    assert everything(fast, catalogue) == everything(plain, catalogue)

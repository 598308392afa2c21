"""The store is a function of the log: however it is cut into batches, by whichever fold."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hypothesis import given, settings
from hypothesis import strategies as st

from meterstream_aggregator.store.memory import MemoryStore
from tests.simulation.driver import Folder, by_columns, plainly
from tests.unit.aggregator.making import CATALOGUE, RECORDS, comparable_numbers

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from meterstream_aggregator.batch import LogRecord
    from tests.simulation.driver import Fold


def _left_by(batches: Iterable[Sequence[LogRecord]], folding: Fold) -> dict[str, Any]:
    """What a store holds once these batches are folded and committed, one after the other."""
    store = MemoryStore()
    folder = Folder(store, CATALOGUE, folding)
    folder.claim([0, 1, 2])
    for batch in batches:
        folder.fold(batch)
    content = store.content
    return {
        "usage": {key: row for key, row in content.usage.items() if row != (0, 0)},
        "series": content.series,
        "items": content.items,
        "places": content.places,
        "presences": content.presences,
        "numbers": {key: comparable_numbers(known) for key, known in content.numbers.items()},
        "sessions": content.sessions,
        "subjects": content.subjects,
        "keys": content.keys,
        "dead_letters": content.dead_letters,
        "positions": content.positions,
    }


@settings(max_examples=80)
@given(RECORDS, st.sets(st.integers(0, 40), max_size=8), st.sampled_from((plainly, by_columns)))
def test_any_cut_leaves_the_same(records: list[LogRecord], cuts: set[int], folding: Fold) -> None:
    """One batch by the plain fold, and many by either, leave equal stores."""
    ends = sorted({min(cut, len(records)) for cut in cuts} | {len(records)})
    pieces = [records[begin:end] for begin, end in zip([0, *ends[:-1]], ends, strict=True)]

    whole = _left_by([records], plainly)

    assert _left_by(pieces, folding) == whole

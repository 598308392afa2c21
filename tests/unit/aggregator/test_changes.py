"""Changes as columns: what a store adds, and sums beyond 64 bits."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meterstream_aggregator.catalogue import MINUTE
from meterstream_aggregator.changes import SeriesKey, UsageKey, usage_deltas
from tests.unit.aggregator.making import CATALOGUE, NOW, by_columns, event, known, logged, plainly

if TYPE_CHECKING:
    from meterstream_aggregator.changes import Changes

KEYS = st.builds(
    UsageKey,
    st.builds(
        SeriesKey,
        st.integers(0, 3),
        st.text(max_size=3),
        st.just("m"),
        st.tuples(st.text(max_size=2)),
        st.just("v"),
    ),
    st.integers(0, 2**32).map(lambda n: n * MINUTE),
    st.sampled_from((0, MINUTE, 7 * MINUTE)),
    st.integers(0, 50),
)


@given(st.dictionaries(KEYS, st.tuples(st.integers(-9, 9), st.integers(-(2**80), 2**80))))
def test_rows_come_back_from_columns(rows: dict[UsageKey, tuple[int, int]]) -> None:
    """Any rows, however wide their amounts, are the rows again: one delta per arrival, in order."""
    deltas = usage_deltas(CATALOGUE.meter("credit"), rows)

    assert {key: row for delta in deltas for key, row in delta.rows().items()} == rows
    assert all(len(set(delta.series)) == len(delta.series) for delta in deltas)
    arrivals = [delta.arrival for delta in deltas]
    assert arrivals == sorted({key.arrival for key in rows})


def _rows(changes: Changes, meter: str) -> dict[int, tuple[int, int]]:
    """(events, quantity) by scale."""
    [delta] = [delta for delta in changes.usage if delta.meter == meter]
    return {key.scale: value for key, value in delta.rows().items()}


@pytest.mark.parametrize("edge", [2**63 - 1, -(2**63)])
@pytest.mark.parametrize("times", [2, 3, 40])
def test_a_sum_outgrows_64_bits_exactly(edge: int, times: int) -> None:
    """Extremes added up in one batch are exact; least and greatest stay what they are."""
    records = logged([event(type="credit", quantity=edge)] * times + [event(type="credit")])

    changes, _ = by_columns(records, known())

    assert _rows(changes, "credit") == {0: (times + 1, times * edge + 1)}
    assert _rows(changes, "credit.least") == {0: (times + 1, min(edge, 1))}
    assert _rows(changes, "credit.most") == {0: (times + 1, max(edge, 1))}


@settings(max_examples=60)
@given(
    st.lists(
        st.tuples(st.integers(-(2**63), 2**63 - 1), st.integers(0, 18)), min_size=1, max_size=30
    )
)
def test_scales_are_never_mixed(amounts: list[tuple[int, int]]) -> None:
    """One row per scale, each an exact total of its own."""
    records = logged([event(type="credit", quantity=q, scale=s, time=NOW) for q, s in amounts])
    expected: dict[int, list[int]] = {}
    for quantity, scale in amounts:
        expected.setdefault(scale, []).append(quantity)

    for fold in (by_columns, plainly):
        changes, _ = fold(records, known())
        for meter, join in (("credit", sum), ("credit.least", min), ("credit.most", max)):
            assert _rows(changes, meter) == {
                scale: (len(given), join(given)) for scale, given in expected.items()
            }

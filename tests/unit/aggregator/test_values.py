"""An attribute of a whole batch as amounts: what `parse_amount` reads, row by row."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import given, settings
from hypothesis import strategies as st

from meterstream_aggregator.batch import batch_of_records
from meterstream_aggregator.values import column_amounts
from meterstream_schemas.errors import InvalidQuantity
from meterstream_schemas.quantity import parse_amount
from tests.unit.aggregator.making import AMOUNTS, event, logged

if TYPE_CHECKING:
    from meterstream_aggregator.batch import Batch

PLAIN = st.integers(-(10**18) + 1, 10**18 - 1).map(str)
TEXTS = st.lists(st.none() | AMOUNTS | PLAIN | st.text(max_size=5), max_size=12)


def batch(texts: list[str | None]) -> Batch:
    """Events whose attribute ``bytes`` is this, or absent."""
    return batch_of_records(
        logged([event(attributes={} if text is None else {"bytes": text}) for text in texts])
    )


def _check(texts: list[str | None]) -> None:
    amounts = column_amounts(batch(texts), "bytes")

    for row, text in enumerate(texts):
        if text is None:
            expected = (0, 0, False, False)
        else:
            try:
                expected = (*parse_amount(text), True, False)
            except InvalidQuantity:
                expected = (0, 0, False, True)
        assert tuple(column[row] for column in amounts) == expected, text


@settings(max_examples=150)
@given(TEXTS)
def test_a_column_is_read_as_its_texts_are(texts: list[str | None]) -> None:
    """Good, absent and unreadable amounts in any mixture."""
    _check(texts)


@settings(max_examples=100)
@given(st.lists(st.none() | PLAIN | st.sampled_from(("007", "-0", "-5", "9" * 18)), max_size=9))
def test_plain_integers_are_read_in_bulk(texts: list[str | None]) -> None:
    """The shortcut for columns of whole numbers reads what the parser reads."""
    _check(texts)


def test_a_column_is_read_once() -> None:
    """Several meters that read one attribute share the reading."""
    one = batch(["1", None])

    assert column_amounts(one, "bytes") is column_amounts(one, "bytes")
    assert not column_amounts(one, "absent").present.any()

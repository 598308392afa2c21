"""The beginning of a JSON text: what the whole text begins with, for the cost of no more."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from meterstream_services.clients.beginning import beginning
from meterstream_services.clients.exact_json import exact_text
from meterstream_services.clients.metadata import readable

_texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
_values = st.recursive(
    st.none() | _texts | st.decimals(allow_nan=False) | st.integers() | st.booleans(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_texts, inner, max_size=4),
    max_leaves=12,
)


@given(_values, st.integers(1, 80))
def test_it_is_what_the_text_begins_with(value: Any, most: int) -> None:  # noqa: ANN401 - any JSON
    """To the last character that is asked for; all of it where there is no more."""
    whole = exact_text(value)

    begun = beginning(value, most)

    assert begun[:most] == whole[:most]
    if len(whole) <= most:
        assert begun == whole


class _Watched(dict[str, Any]):
    """Counts what is asked of it."""

    asked = 0

    def items(self) -> Any:  # noqa: ANN401 - as a dict's
        """Each, and a count of them."""
        return self._each()

    def _each(self) -> Iterator[tuple[str, Any]]:
        for name, value in super().items():
            self.asked += 1
            yield name, value


def test_members_that_are_never_kept_are_not_looked_at() -> None:
    """Of eighty thousand the first twenty-four, whatever they are."""
    metadata = _Watched({f"k{number}": [Decimal("1.50")] for number in range(80_000)})

    told = readable(metadata)

    assert isinstance(told, dict)
    assert list(told.items())[:2] == [("k0", "[1.5]"), ("k1", "[1.5]")]
    assert metadata.asked <= 25


def test_a_long_and_deep_value_is_written_as_far_as_it_is_kept() -> None:
    """Neither levels nor members make it longer, and no level is too deep."""
    deep: Any = Decimal("1.5")
    for _ in range(5_000):
        deep = [deep]

    told = readable({"deep": deep, "wide": ["x" * 5_000] * 100_000, "name": {"n" * 5_000: 1}})

    assert isinstance(told, dict)
    assert told["deep"] == "[" * 1_024
    assert 1_024 <= len(told["wide"]) <= 1_100
    assert 1_024 <= len(told["name"]) <= 1_100

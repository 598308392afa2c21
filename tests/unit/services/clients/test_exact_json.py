"""JSON with exact numbers: the short ways write what the long one writes."""

from __future__ import annotations

import json
from decimal import Decimal
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meterstream_services.clients.exact_json import exact_text, plain

_texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
_numbers = st.decimals(allow_nan=False, allow_infinity=False) | st.integers() | st.booleans()
_values = st.recursive(
    st.none() | _texts | _numbers,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_texts, inner, max_size=4),
    max_leaves=12,
)


@pytest.mark.parametrize(
    ("number", "text"),
    [
        ("1.50", "1.5"), ("100", "100"), ("0.00", "0"), ("-0", "-0"), ("1E+3", "1000"),
        ("1.200E-9", "0.0000000012"), ("1E+300", "1E+300"), ("NaN", "NaN"),
        ("1" * 120 + ".0", "1" * 120), ("0." + "3" * 99, "0." + "3" * 99),
        ("1" * 150 + "." + "1" * 100, "1" * 150 + "." + "1" * 100),
    ],
)  # fmt: skip
def test_plain_numbers(number: str, text: str) -> None:
    """No exponent and no zeros at the end, unless that were many digits."""
    assert plain(Decimal(number)) == text


@given(st.decimals(allow_nan=False, allow_infinity=False))
def test_a_plain_number_is_the_number(number: Decimal) -> None:
    """Whatever its form, nothing of its value is lost."""
    assert Decimal(plain(number)) == number


def through(value: Any) -> str:  # noqa: ANN401 - whatever JSON can hold
    """The same by the standard library, with each number in a place of its own."""
    numbers: list[str] = []

    def place(number: Decimal) -> str:
        numbers.append(plain(number))
        return f"\0{len(numbers) - 1}\0"

    def placed(each: Any) -> Any:  # noqa: ANN401 - as above
        if isinstance(each, Decimal):
            return place(each)
        if isinstance(each, dict):
            return {name: placed(inner) for name, inner in each.items()}
        return [placed(inner) for inner in each] if isinstance(each, list) else each

    text = json.dumps(placed(value), ensure_ascii=False)
    for at, number in enumerate(numbers):
        text = text.replace(f'"\\u0000{at}\\u0000"', number)
    return text


@given(_values)
def test_texts_are_those_of_json(value: Any) -> None:  # noqa: ANN401 - as above
    """With numbers in it and without, as one way or the other writes it."""
    told = exact_text(value)

    assert told == through(value)
    assert json.loads(told, parse_float=Decimal) == json.loads(through(value), parse_float=Decimal)


def test_other_mappings_and_sequences() -> None:
    """Such as answers have."""
    assert exact_text(MappingProxyType({"a": (1, Decimal("2.50"))})) == '{"a": [1, 2.5]}'
    assert exact_text({"a": MappingProxyType({"b": ()})}) == '{"a": {"b": []}}'

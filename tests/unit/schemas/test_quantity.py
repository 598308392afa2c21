"""Exact amounts: what is taken, digit for digit, and what is refused with which words."""

from __future__ import annotations

from decimal import Decimal, localcontext
from enum import IntEnum

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meterstream_schemas.errors import InvalidQuantity
from meterstream_schemas.events import QUANTITY_MAX, QUANTITY_MIN, SCALE_MAX
from meterstream_schemas.quantity import Amount, format_amount, parse_amount, rescale, to_decimal

AMOUNTS = st.builds(Amount, st.integers(QUANTITY_MIN, QUANTITY_MAX), st.integers(0, SCALE_MAX))


class Weight(IntEnum):
    """An integer of a caller's own type."""

    HEAVY = 7


@pytest.mark.parametrize(
    ("given_value", "amount"),
    [
        (0, Amount(0, 0)),
        (-3, Amount(-3, 0)),
        (QUANTITY_MAX, Amount(QUANTITY_MAX, 0)),
        (QUANTITY_MIN, Amount(QUANTITY_MIN, 0)),
        (Weight.HEAVY, Amount(7, 0)),
        (Decimal("1.50"), Amount(15, 1)),
        (Decimal("-0.000001"), Amount(-1, 6)),
        (Decimal("1E+3"), Amount(1000, 0)),
        (Decimal("-0"), Amount(0, 0)),
        (Decimal("0.000"), Amount(0, 0)),
        ("12.5", Amount(125, 1)),
        ("+.5", Amount(5, 1)),
        ("5.", Amount(5, 0)),
        ("25e-1", Amount(25, 1)),
        ("1e3", Amount(1000, 0)),
        ("0.000000000000000001", Amount(1, 18)),
    ],
)
def test_amounts_are_taken_exactly(given_value: object, amount: Amount) -> None:
    """An int, a Decimal and decimal text become the same integer and scale, zeros dropped."""
    assert parse_amount(given_value) == amount


@pytest.mark.parametrize(
    ("given_value", "words"),
    [
        (1.5, "quantity: 1.5 is a float; pass Decimal('1.5') or the text '1.5'"),
        (float("nan"), "quantity: nan is not a finite number; pass what was used"),
        (True, "quantity: True is a bool; pass 1 or 0"),
        (None, "quantity: NoneType is not an amount; pass an int, a Decimal or decimal text"),
        (b"1", "quantity: bytes is not an amount"),
        (Decimal("NaN"), "quantity: NaN is not a finite number"),
        (Decimal("-Infinity"), "quantity: -Infinity is not a finite number"),
        ("", "quantity: '' is not a decimal number such as '12.5'"),
        ("1,5", "quantity: '1,5' is not a decimal number"),
        (" 1", "quantity: ' 1' is not a decimal number"),
        ("1_000", "quantity: '1_000' is not a decimal number"),
        ("٣", "quantity: '٣' is not a decimal number"),
        ("0x10", "quantity: '0x10' is not a decimal number"),
        ("1e999999", "quantity: '1e999999' is not a decimal number"),
        ("9" * 65, "is not a decimal number"),
        ("1e50", "does not fit: at most 18 decimal places"),
        (Decimal("1e999999"), "does not fit"),
        (Decimal("1e-999999"), "does not fit"),
        (Decimal("0e-999999"), "does not fit"),
        ("0.0000000000000000001", "does not fit: at most 18 decimal places"),
        (2**63, "quantity: an integer of 64 bits does not fit"),
        (-(2**63) - 1, "quantity: an integer of 64 bits does not fit"),
        pytest.param(10**5000, "quantity: an integer of 16610 bits does not fit", id="huge"),
        ("9223372036854775808", "does not fit"),
    ],
)
def test_what_is_no_exact_amount_is_refused_with_the_remedy(
    given_value: object, words: str
) -> None:
    """Floats, bools, NaN, odd text and what does not fit are refused in clear words."""
    with pytest.raises(InvalidQuantity) as refusal:
        parse_amount(given_value)

    assert words in str(refusal.value)
    assert refusal.value.field == "quantity"


@given(AMOUNTS)
def test_an_amount_survives_decimal_and_text(amount: Amount) -> None:
    """Formatting or making a Decimal and parsing again gives an equal amount, for all amounts."""
    text = format_amount(*amount)
    again = parse_amount(text)

    assert again.decimal() == amount.decimal()
    assert parse_amount(to_decimal(*amount)) == again
    assert "e" not in text.lower()


@given(AMOUNTS)
def test_a_decimal_is_exact_whatever_the_context_says(amount: Amount) -> None:
    """A host that works with three digits of precision gets all digits all the same."""
    with localcontext(prec=3):
        value = to_decimal(*amount)

    assert value.as_tuple().exponent == -amount.scale
    assert int(value.scaleb(amount.scale)) == amount.quantity


@given(AMOUNTS, st.integers(0, 20))
def test_a_finer_scale_is_the_same_amount(amount: Amount, further: int) -> None:
    """Rescaling changes digits, not value."""
    finer = rescale(amount.quantity, amount.scale, amount.scale + further)

    assert finer == amount.quantity * 10**further


@given(st.floats() | st.booleans() | st.complex_numbers() | st.binary() | st.lists(st.integers()))
def test_no_other_type_ever_becomes_an_amount(value: object) -> None:
    """What is not int, Decimal or text is refused, and nothing else is raised."""
    with pytest.raises(InvalidQuantity):
        parse_amount(value)


@given(st.text() | st.decimals())
def test_text_and_decimals_are_taken_exactly_or_refused(value: str | Decimal) -> None:
    """Whatever the digits are: the same number, or InvalidQuantity."""
    try:
        amount = parse_amount(value)
    except InvalidQuantity:
        return

    assert amount.decimal() == Decimal(value)

"""JSON bodies: every digit is kept, and whatever else is sent is refused with a sentence."""

from __future__ import annotations

import contextlib
import json
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meterstream_services.http.json_bodies import DEPTH_MAX, VALUES_MAX, BadJson, parse_json

_DECIMALS = st.decimals(allow_nan=False, allow_infinity=False)
_LEAVES = st.none() | st.booleans() | st.integers() | _DECIMALS | st.text()
_VALUES = st.recursive(
    _LEAVES,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


def _written(value: object) -> str:
    """JSON with all digits of its decimals."""
    if isinstance(value, Decimal):
        text = str(value)
        return text if set(text) & set(".E") else f"{text}E0"
    if isinstance(value, list):
        return "[" + ",".join(map(_written, value)) + "]"
    if isinstance(value, dict):
        members = (f"{json.dumps(name)}:{_written(each)}" for name, each in value.items())
        return "{" + ",".join(members) + "}"
    return json.dumps(value)


@given(_VALUES)
def test_whatever_is_written_is_read_digit_for_digit(value: object) -> None:
    """Any JSON value comes back as it was: integers of any size, decimals of any exponent."""
    assert parse_json(_written(value).encode()) == value


@given(st.binary(max_size=60) | st.text(max_size=60).map(lambda text: text.encode()))
def test_anything_is_read_or_refused(body: bytes) -> None:
    """No bytes do anything but give a value or `BadJson`."""
    with contextlib.suppress(BadJson):
        parse_json(body)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0.1", Decimal("0.1")),
        ("[1e999999]", [Decimal("1e999999")]),
        ("18446744073709551616", 2**64),
        ('{"a": [1.10]}', {"a": [Decimal("1.10")]}),
        ('{"a": 1, "a": 2}', {"a": 2}),
        ('{"a": 1.5, "a": 2.5}', {"a": Decimal("2.5")}),
    ],
)
def test_numbers_and_repeated_names(text: str, value: object) -> None:
    """Non-integers are decimals with their digits; of one name the last member counts."""
    found = parse_json(text.encode())

    assert found == value
    assert str(found) == str(value)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" ",
        b"NaN",
        b"[Infinity]",
        b"[1.5, NaN]",
        b"[1e999999, NaN]",
        b"\xef\xbb\xbf{}",
        b'"\xff"',
        b'"\\ud800"',
        b'[1e999999, "\\ud800"]',
        b"9" * 4301,
        b"1e9999999999999999999",
        b"{'a': 1}",
        b"[1,]",
        '{"a": 1}'.encode("utf-16"),
    ],
)
def test_what_is_no_json_is_refused(body: bytes) -> None:
    """Bad encodings, constants, cut texts and endless numbers are `BadJson` with a reason."""
    with pytest.raises(BadJson) as refused:
        parse_json(body)

    assert refused.value.reason


@pytest.mark.parametrize("inner", [b"1", b"1.5", b"1e999999", b""])
@pytest.mark.parametrize("deep", [DEPTH_MAX + 1, 900, 100_000])
def test_depth_is_bounded(inner: bytes, deep: int) -> None:
    """`DEPTH_MAX` levels are read; one more, or a hundred thousand, is `BadJson`."""
    flat_enough = b"[" * DEPTH_MAX + inner + b"]" * DEPTH_MAX
    assert parse_json(flat_enough)

    with pytest.raises(BadJson):
        parse_json(b"[" * deep + inner + b"]" * deep)


@pytest.mark.parametrize("value", [b"1", b"1.5", b"{}", b"1e999"])
def test_values_are_bounded(value: bytes) -> None:
    """`VALUES_MAX` values are read and more are not, whichever parser reads them."""
    assert len(parse_json(b"[" + b",".join([value] * VALUES_MAX) + b"]")) == VALUES_MAX

    with pytest.raises(BadJson):
        parse_json(b"[" + b",".join([value] * (VALUES_MAX + 2)) + b"]")

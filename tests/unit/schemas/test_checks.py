"""The checks at every door, with their words."""

from __future__ import annotations

from types import MappingProxyType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meterstream_schemas.checks import check_attributes, check_text, check_time, check_value
from meterstream_schemas.errors import InvalidEvent
from meterstream_schemas.events import ATTRIBUTES_MAX, TIME_MAX_MICROSECONDS


@pytest.mark.parametrize("text", ["a", "Ünïcode ☂", "a b", "x" * 128, "é" * 64, "\u200bzero"])
def test_ordinary_texts_pass(text: str) -> None:
    """Anything printable and not too long is a tenant's good right."""
    assert check_text(text, field="tenant", bytes_max=128) == text


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "tenant: NoneType is not text; pass a str"),
        (b"acme", "tenant: bytes is not text; pass a str"),
        ("", "tenant: is empty; pass at least one character"),
        ("x" * 129, "tenant: is 129 characters; at most 128 bytes are kept"),
        ("é" * 65, "tenant: is 130 bytes; at most 128 are kept"),
        ("a\x00b", "tenant: 'a\\x00b' holds a control character; remove it"),
        ("a\nb", "holds a control character"),
        ("\x7f", "holds a control character"),
        ("\ud800", "tenant: '\\ud800' holds a lone surrogate; repair the text"),
        pytest.param("x" * 10_000_000, "tenant: is 10000000 characters", id="10 MB"),
    ],
)
def test_other_texts_are_refused_with_the_remedy(text: object, words: str) -> None:
    """Each way to be wrong has its own sentence, and names the field."""
    with pytest.raises(InvalidEvent) as refusal:
        check_text(text, field="tenant", bytes_max=128)

    assert words in str(refusal.value)
    assert refusal.value.field == "tenant"


@pytest.mark.parametrize(
    ("attributes", "words"),
    [
        ([("a", "b")], "attributes: list is not a mapping; pass a dict"),
        ({"a": 1}, "attributes.a: int is not text; pass a str"),
        ({"a": None}, "attributes.a: NoneType is not text; pass a str"),
        ({1: "a"}, "attributes: int is not text"),
        ({"": "a"}, "attributes: is empty"),
        ({"n" * 65: "a"}, "attributes: is 65 characters; at most 64"),
        ({"a": "v" * 1025}, "attributes.a: is 1025 characters; at most 1024"),
        ({"a": "\udfff"}, "attributes.a: '\\udfff' holds a lone surrogate"),
        ({str(n): "" for n in range(33)}, f"attributes: 33 of them; at most {ATTRIBUTES_MAX}"),
    ],
)
def test_wrong_attributes_are_refused_by_name(attributes: object, words: str) -> None:
    """The sentence names the attribute that is wrong."""
    with pytest.raises(InvalidEvent) as refusal:
        check_attributes(attributes)

    assert words in str(refusal.value)


def test_any_mapping_of_text_will_do() -> None:
    """Attributes need not be a dict, and values may be empty."""
    attributes = MappingProxyType({"a": "", "b": "é"})

    assert check_attributes(attributes) is attributes


@pytest.mark.parametrize("time", [-1, TIME_MAX_MICROSECONDS, 2**70])
def test_times_beyond_four_digit_years_are_refused(time: int) -> None:
    """A time is between 1970 and 9999."""
    with pytest.raises(InvalidEvent, match="lies outside the years 1970 to 9999"):
        check_time(time)


@given(st.text())
def test_a_text_that_passes_can_be_written(text: str) -> None:
    """Whatever passes encodes to at most so many bytes; nothing but InvalidEvent is raised."""
    for check in (check_text, check_value):
        try:
            passed = check(text, field="f", bytes_max=20)
        except InvalidEvent:
            continue
        assert len(passed.encode()) <= 20

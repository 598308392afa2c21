"""Confluent framing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meterstream_schemas.errors import UndecodableRecord
from meterstream_schemas.wire import header, split


def test_the_header_is_a_zero_byte_and_the_id_in_big_endian() -> None:
    """The five bytes are those every Confluent client writes."""
    assert header(0x01020304) == b"\x00\x01\x02\x03\x04"


@given(st.integers(0, 2**32 - 1), st.binary(max_size=50))
def test_a_framed_record_splits_into_what_it_was_made_of(schema_id: int, body: bytes) -> None:
    """Id and body come back for every id of four bytes."""
    assert split(header(schema_id) + body) == (schema_id, body)


@pytest.mark.parametrize(
    ("record", "words"),
    [
        (b"", "0 bytes are too short"),
        (b"\x00\x00\x00\x01", "4 bytes are too short"),
        (b"\x01\x00\x00\x00\x01", "first byte is 0x01"),
        (b'{"a":1}', "first byte is 0x7b"),
    ],
)
def test_what_is_not_framed_is_undecodable(record: bytes, words: str) -> None:
    """A short header and another first byte are named."""
    with pytest.raises(UndecodableRecord, match=words):
        split(record)

"""Text is vouched for only where it is UTF-8, in whichever column it stands."""

from __future__ import annotations

import pyarrow as pa
import pytest

from meterstream_consumers import vouching
from meterstream_consumers.decode import native_columns
from meterstream_consumers.vouching import is_plain
from meterstream_schemas import codec
from tests.unit.aggregator.making import numbered
from tests.unit.consumers.making import SCHEMA

TEXT = codec.bundled_text(codec.LATEST_ID)
PLAIN = codec.encode_body(numbered(1), SCHEMA)
PLACES: dict[str, dict[str, object]] = {
    "tenant": {"tenant": "here"},
    "type": {"type": "here"},
    "session": {"session": "here"},
    "subject": {"subject": "here"},
    "an attribute's name": {"attributes": {"here": "a"}},
    "an attribute's text": {"attributes": {"a": "here"}},
    "producer": {"producer": "here"},
    "key": {"key": "here"},
}


@pytest.fixture(autouse=True)
def _few_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vouching, "PLAIN_ROWS_MIN", 1)


def _with(text: bytes, place: str) -> bytes:
    """A record that has four bytes of text in a place."""
    return codec.encode_body(numbered(1, **PLACES[place]), SCHEMA).replace(b"here", text)


@pytest.mark.parametrize("place", PLACES)
def test_text_that_is_no_utf8_is_found_in_every_column(place: str) -> None:
    """One such text is enough; a letter of two bytes is none, but its halves in two rows are."""
    bad = _with(b"abc\xff", place)
    halves = [_with(b"abc\xc3", place), _with(b"\xa9abc", place)]

    assert native_columns([PLAIN, bad, PLAIN], TEXT) is None
    assert native_columns(halves, TEXT) is None
    assert native_columns([PLAIN, _with("éab".encode(), place), PLAIN], TEXT) is not None
    assert native_columns([PLAIN, _with(b"abcd", place), PLAIN], TEXT) is not None


@pytest.mark.parametrize(
    "column",
    [
        pa.array([b"a"], pa.binary()),
        pa.array(["a"], pa.large_string()),
        pa.array([["a"]], pa.list_(pa.string())),
        pa.array([{"a": "b"}], pa.struct([("a", pa.string())])),
        pa.array(["a", "é"]),
        pa.array([[("a", "é")]], pa.map_(pa.string(), pa.string())),
        pa.array([[("é", "a")]], pa.map_(pa.string(), pa.string())),
        pa.StringArray.from_buffers(
            2, pa.array([0, 2, 1], pa.int32()).buffers()[1], pa.py_buffer(b"ab")
        ),
    ],
    # Named by hand: the text of the last one shows memory that is nobody's, another in each run.
    ids=[
        "binary",
        "large-text",
        "list",
        "struct",
        "text",
        "map-value",
        "map-name",
        "bad-offsets",
    ],
)
def test_what_is_not_surely_plain_is_validated(column: object) -> None:
    """Types that nobody looked at, letters beyond ASCII, offsets that fall."""
    assert not is_plain(column)


@pytest.mark.parametrize(
    "column",
    [
        pa.array([], pa.string()),
        pa.array([None, None], pa.string()),
        pa.array(["a", None, ""]),
        pa.array([1, 2]),
        pa.array([[], []], pa.map_(pa.string(), pa.string())),
        pa.array([[("a", "b")], []], pa.map_(pa.string(), pa.string())),
    ],
    ids=str,
)
def test_plain_columns_need_no_more(column: object) -> None:
    """ASCII, no text at all, and numbers."""
    assert is_plain(column)


@pytest.mark.parametrize("length", [0, 63, 64, 8191, 8192])
def test_the_length_is_exact_at_each_limit_of_a_byte(length: int) -> None:
    """Nothing canonical is sent the slow way, and one byte more is noticed."""
    for quantity in (-length - 1, -length, length, length + 1):
        said = numbered(1, quantity=quantity, attributes={"a": "x" * length})
        body = codec.encode_body(said, SCHEMA)

        assert native_columns([body], TEXT) is not None
        assert native_columns([body + b"\x00"], TEXT) is None

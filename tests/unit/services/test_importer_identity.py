"""Which rows are the same row."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from meterstream_services.importer.identity import Occurrences, RowIdentity, content_of

ROWS = st.lists(st.sampled_from(["a", "b", "c", "d,e"]), max_size=30)


def keys(rows: list[str], event_type: str = "t", source: str = "") -> list[str]:
    """The keys of a whole file."""
    identity = RowIdentity(event_type, source=source)
    return [identity.key(row) for row in rows]


@given(ROWS, ROWS)
def test_appending_rows_changes_no_key(rows: list[str], appended: list[str]) -> None:
    """A file that was only appended to gives its old rows their old keys, and new ones new."""
    before, after = keys(rows), keys(rows + appended)

    assert after[: len(before)] == before
    assert len(set(after)) == len(after)


def test_identical_rows_of_one_file_have_different_keys() -> None:
    """Two honest identical rows are two events."""
    first, second, third = keys(["x", "x", "x"])

    assert len({first, second, third}) == 3
    assert second == f"{first}-2"
    assert third == f"{first}-3"


def test_type_and_source_are_part_of_the_identity() -> None:
    """The same row under another type or source word is another event."""
    assert len({*keys(["x"]), *keys(["x"], "u"), *keys(["x"], "t", "march")}) == 3


def test_cells_cannot_be_shifted_into_one_another() -> None:
    """Rows whose joined text is equal but whose cells differ have different contents."""
    assert content_of(["a", "b"]) != content_of(["ab", ""])
    assert content_of(["1:a", ""]) != content_of(["", "1:a"])


@given(st.lists(st.integers(0, 2**64 - 1) | st.integers(0, 3), max_size=200))
def test_occurrences_count_like_a_counter(digests: list[int]) -> None:
    """The flat table says for every digest the how-many-eth it is, zero included."""
    occurrences, expected = Occurrences(), Counter[int]()

    for digest in digests:
        expected[digest or 1] += 1
        assert occurrences.add(digest) == expected[digest or 1]


def test_occurrences_survive_growth() -> None:
    """After the table has grown many times everything added before is still known."""
    occurrences = Occurrences()
    spread = [number * 0x9E3779B97F4A7C15 % 2**64 for number in range(1, 20_000)]

    assert {occurrences.add(digest) for digest in spread} == {1}
    assert {occurrences.add(digest) for digest in spread} == {2}

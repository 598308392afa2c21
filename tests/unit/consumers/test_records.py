"""Which of the records that were handed out are to be folded."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from meterstream_consumers.records import rows_to_fold
from tests.unit.consumers.making import Record, raw_of

PLACES = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 30)), max_size=60)
POSITIONS = st.dictionaries(st.integers(0, 3), st.integers(0, 30))


@given(PLACES, POSITIONS)
def test_only_ours_only_new_and_in_order(
    places: list[tuple[int, int]], positions: dict[int, int]
) -> None:
    """Of owned partitions, each offset from the position on, rising, whatever was handed out."""
    raw = raw_of(Record(partition, offset, 0, b"") for partition, offset in places)
    expected: list[int] = []
    reached = dict(positions)
    for row, (partition, offset) in enumerate(places):
        if partition in reached and offset >= reached[partition]:
            expected.append(row)
        if partition in reached:
            reached[partition] = max(reached[partition], offset + 1)

    assert rows_to_fold(raw, positions).tolist() == expected


def test_a_second_reading_is_left_out() -> None:
    """A partition that went and came back is read again from its position: once is enough."""
    offsets = [5, 6, 9, 5, 6, 9, 10]
    raw = raw_of(Record(0, offset, 0, b"") for offset in offsets)

    assert rows_to_fold(raw, {0: 6}).tolist() == [1, 2, 6]
    assert rows_to_fold(raw, {}).tolist() == []


def test_kept_rows_are_whole_records() -> None:
    """What is kept has its value, place and message; places follow."""
    records = [Record(n % 2, n, 1_000 + n, b"%d" % n) for n in range(4)]
    raw = raw_of(records)
    raw.places()

    kept = raw.kept(rows_to_fold(raw, {1: 2}))

    assert kept.messages == [records[3]]
    assert (kept.values, kept.offsets) == ([b"3"], [3])
    assert [column.tolist() for column in kept.places()] == [[1], [3], [1_003_000]]


def test_places_follow_a_growing_batch() -> None:
    """Places asked for too early are made anew."""
    raw = raw_of([Record(0, 1, 2, b"")])
    first = raw.places()
    raw.values.append(b"")
    raw.partitions.append(3)
    raw.offsets.append(4)
    raw.append_times.append(5)

    assert first.offset.tolist() == [1]
    assert raw.places().offset.tolist() == [1, 4]
    assert raw.places() is raw.places()

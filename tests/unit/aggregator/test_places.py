"""The index of the log: hours and producers by segment, noted row by row or all at once."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from meterstream_aggregator.batch import LogRecord, batch_of_records
from meterstream_aggregator.catalogue import HOUR
from meterstream_aggregator.changes import SEGMENT, Changes, Place, Presence, Span
from meterstream_aggregator.places import note_place, note_places
from tests.unit.aggregator.making import NOW, event

EVENTS = st.tuples(
    st.sampled_from((0, 1, HOUR, 70_000 * HOUR, 140_000 * HOUR)), st.sampled_from(("", "p", "q"))
)


@settings(max_examples=100)
@given(
    st.lists(
        st.tuples(st.integers(0, 2), st.sampled_from((1, 2, SEGMENT, 2**33)), EVENTS, st.booleans())
    )
)
def test_columns_note_what_records_note(told: list[tuple[int, int, tuple[int, str], bool]]) -> None:
    """Whatever is counted, in however wide a range of times and offsets."""
    offsets = [0, SEGMENT - 1, 2**40]
    records: list[LogRecord] = []
    for partition, step, (time, name), _ in told:
        offsets[partition] += step
        said = event(time=time, producer=name)
        records.append(LogRecord(partition, offsets[partition], NOW, said))
    counted = [count for _, _, _, count in told]
    plain, fast = Changes(), Changes()

    for record, count in zip(records, counted, strict=True):
        if count:
            note_place(record, plain)
    note_places(batch_of_records(records), np.array(counted, dtype=np.bool_), fast)

    assert (fast.places, fast.presences) == (plain.places, plain.presences)


def test_an_hour_of_a_segment_has_its_span() -> None:
    """First and last offset and how many lie between; nobody is a producer."""
    changes = Changes()

    for offset, name in ((7, "p"), (9, ""), (SEGMENT, "p")):
        note_place(LogRecord(1, offset, NOW, event(time=HOUR, producer=name)), changes)

    assert changes.places == {Place(1, 1, 0): Span(7, 9, 2), Place(1, 1, 1): Span(65536, 65536, 1)}
    assert changes.presences == {
        Presence(1, "p", 0): Span(7, 7, 1),
        Presence(1, "p", 1): Span(65536, 65536, 1),
    }


def test_many_hours_and_producers_are_told_apart() -> None:
    """More groups than sixteen bits tell apart are first given small codes."""
    hours = range(0, 200_000, 11)
    records = [
        LogRecord(0, 100 * n, NOW, event(time=hour * HOUR, producer=f"p{n % 5}"))
        for n, hour in enumerate(hours)
    ]
    plain, fast = Changes(), Changes()

    for record in records:
        note_place(record, plain)
    note_places(batch_of_records(records), np.ones(len(records), dtype=np.bool_), fast)

    assert (fast.places, fast.presences) == (plain.places, plain.presences)

"""A batch gives back what went in, by rows and by columns."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meterstream_aggregator.batch import (
    ARROW_SCHEMA,
    LogRecord,
    appended_after,
    arrow_of_events,
    batch_of_columns,
    batch_of_records,
    distinct,
    log_times,
    ordered,
)
from tests.unit.aggregator.making import event, logged, nasty_records


@settings(max_examples=60)
@given(nasty_records(), st.data())
def test_rows_come_back(records: list[LogRecord], data: st.DataObject) -> None:
    """Any rows in any order are the plain events again; so is a single one."""
    batch = batch_of_records(records)
    rows = data.draw(st.lists(st.integers(0, max(len(records) - 1, 0)), max_size=5))
    if not records:
        rows = []

    assert batch.events(np.array(rows, dtype=np.int64)) == [records[row].event for row in rows]
    assert [batch.event(row) for row in rows] == [records[row].event for row in rows]
    assert batch.has_key().tolist() == [record.event.key is not None for record in records]


@settings(max_examples=60)
@given(nasty_records(), st.integers(0, 5), st.sampled_from(("bytes", "route", "", "absent")))
def test_an_attribute_is_a_column(records: list[LogRecord], cut: int, name: str) -> None:
    """An attribute of a batch, also of one that is a slice of a larger one."""
    columns = arrow_of_events([record.event for record in records]).slice(cut)
    kept = records[cut:]
    nothing = np.zeros(len(kept), dtype=np.int64)

    codes, values = batch_of_columns(columns, nothing, nothing, nothing).attribute(name)

    found = [values[code] if code >= 0 else None for code in codes.tolist()]
    assert found == [record.event.attributes.get(name) for record in kept]
    assert len(set(values)) == len(values)


def test_of_a_repeated_name_the_last_counts() -> None:
    """A map on the wire may name an attribute twice: column and event agree."""
    plain = arrow_of_events([event(), event()])
    twice = pa.array([[("a", "1"), ("b", "x"), ("a", "2")], []], ARROW_SCHEMA.field(8).type)
    columns = [twice if at == 8 else column for at, column in enumerate(plain.columns)]
    nothing = np.zeros(2, dtype=np.int64)
    batch = batch_of_columns(
        pa.RecordBatch.from_arrays(columns, schema=ARROW_SCHEMA), nothing, nothing, nothing
    )

    codes, values = batch.attribute("a")

    assert values[codes[0]] == batch.event(0).attributes["a"] == "2"
    assert codes[1] == -1


def test_an_absent_attribute_is_the_empty_text() -> None:
    """A filter that allows the empty text keeps what lacks the attribute."""
    batch = batch_of_records(
        logged([event(), event(attributes={"a": ""}), event(attributes={"a": "x"})])
    )
    column = batch.attribute("a")

    assert column.matching(frozenset({""})).tolist() == [True, True, False]
    assert column.matching(frozenset({"x"})).tolist() == [False, False, True]
    assert batch.attribute("none").matching(frozenset({"", "y"})).all()


@given(st.lists(st.integers(-(2**63), 2**63 - 1) | st.integers(0, 3)))
def test_distinct_values_and_where_they_stand(values: list[int]) -> None:
    """Each value once, in order of appearance, and for each place which of them it is."""
    found, index = distinct(np.array(values, dtype=np.int64))

    assert found.tolist() == list(dict.fromkeys(values))
    assert found[index].tolist() == values


def test_append_time_only_rises() -> None:
    """The highest append time per partition; a step back in the log is none here."""
    after = appended_after(
        {0: 10, 1: 10, 2: 10}, np.array([0, 0, 1]), np.array([12, 11, 9], dtype=np.int64)
    )

    assert after == {0: 12, 1: 10, 2: 10}


ROWS = st.lists(st.tuples(st.sampled_from((0, 1, 7)), st.integers(90, 110)), max_size=40)
BEFORE = {0: 100, 1: 0, 7: 95}


def columns(rows: list[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
    """Partitions and append times as columns."""
    both = np.array(rows, dtype=np.int64).reshape(-1, 2)
    return both[:, 0].copy(), both[:, 1].copy()


@given(ROWS)
def test_log_time_is_the_highest_so_far(rows: list[tuple[int, int]]) -> None:
    """Per partition the running maximum of what came before and of each row."""
    partition, append_time = columns(rows)
    highest, expected = dict(BEFORE), list[int]()
    for of, at in rows:
        highest[of] = max(highest[of], at)
        expected.append(highest[of])

    found = log_times(partition, append_time, BEFORE)

    assert found.tolist() == expected
    assert found.dtype == np.int64
    assert append_time.tolist() == [at for _, at in rows]


@given(ROWS, st.integers(0, 40))
def test_log_times_do_not_depend_on_the_cut(rows: list[tuple[int, int]], cut: int) -> None:
    """Two batches give what one gives: the second begins with what the first has reached."""
    partition, append_time = columns(rows)
    whole = log_times(partition, append_time, BEFORE)

    first = log_times(partition[:cut], append_time[:cut], BEFORE)
    reached = appended_after(BEFORE, partition[:cut], first)
    second = log_times(partition[cut:], append_time[cut:], reached)

    assert [*first.tolist(), *second.tolist()] == whole.tolist()


@given(ROWS)
def test_log_times_are_left_alone_where_none_falls(rows: list[tuple[int, int]]) -> None:
    """The very array comes back exactly when nothing had to be raised."""
    partition, append_time = columns(rows)

    found = log_times(partition, append_time, BEFORE)

    assert (found is append_time) == (found.tolist() == append_time.tolist())
    assert log_times(partition, found, BEFORE) is found


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([(0, 100), (0, 99)], [100, 100]),
        ([(0, 99)], [100]),
        ([(1, 5), (7, 95), (1, 4)], [5, 95, 5]),
        ([(7, 105), (0, 100), (7, 104), (0, 101)], [105, 100, 105, 101]),
    ],
)
def test_a_step_back_is_raised(rows: list[tuple[int, int]], expected: list[int]) -> None:
    """Within a run, against what came before, and from one run of a partition to its next."""
    assert log_times(*columns(rows), BEFORE).tolist() == expected


@settings(max_examples=100)
@given(st.lists(st.integers(0, 3) | st.integers(0, 2**62) | st.just(2**62), max_size=40))
def test_rows_of_one_value_lie_side_by_side(values: list[int]) -> None:
    """Each value once, its rows in order; values ascend where value and row have room together."""
    order, begins = ordered(np.array(values, dtype=np.int64))

    rows = np.split(order, begins[1:]) if values else []
    assert len(begins) == len(rows) == len(set(values))
    told = [values[each[0]] for each in rows]
    assert {value: each.tolist() for value, each in zip(told, rows, strict=True)} == {
        value: [row for row, one in enumerate(values) if one == value] for value in values
    }
    if max(values, default=0) < 2**57:
        assert told == sorted(told)

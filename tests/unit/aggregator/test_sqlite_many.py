"""Rows written and asked about together are what they would be one by one."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from meterstream_aggregator.changes import Changes, Numbered, SeriesKey, SessionColumns
from meterstream_aggregator.dedup import Numbers, ProducerKey, pack
from meterstream_aggregator.sessions import Session, SessionKey, Start
from meterstream_aggregator.store.port import TopicBinding
from meterstream_aggregator.store.sqlite import SqliteStore
from meterstream_aggregator.store.sqlite_many import (
    ROWS_TOGETHER,
    Insert,
    ask_rows,
    insert_columns,
    insert_rows,
)
from meterstream_aggregator.store.sqlite_numbers import packed, rows_of_numbers
from meterstream_aggregator.store.sqlite_series import SeriesIds
from tests.contract.stores import CATALOGUE, NOW, added, row, series

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SIZES = [0, 1, ROWS_TOGETHER - 1, ROWS_TOGETHER, ROWS_TOGETHER + 1, 3 * ROWS_TOGETHER + 5]
UPSERT = Insert("INSERT INTO t", "(?, ?)", "ON CONFLICT DO UPDATE SET b = b + excluded.b")


@pytest.fixture
def db() -> Iterator[sqlite3.Connection]:
    """A database with one table."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as db:
        db.execute("CREATE TABLE t (a PRIMARY KEY, b)")
        yield db


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    """A bound store."""
    with closing(SqliteStore(tmp_path / "store.sqlite3")) as store:
        store.bind(TopicBinding("events", "id-1", 4), CATALOGUE)
        yield store


@pytest.mark.parametrize("size", SIZES)
def test_every_row_is_inserted_once(db: sqlite3.Connection, size: int) -> None:
    """As tuples and as columns, however many there are, and twice the same key joins."""
    expected = [(n, 2 * n * n) for n in range(size)]

    insert_rows(db, UPSERT, [(n, n * n) for n in range(size)])
    column = np.arange(size, dtype=np.int64)
    insert_columns(db, UPSERT, [column, column * column])

    assert db.execute("SELECT a, b FROM t ORDER BY a").fetchall() == expected


def test_integers_beyond_64_bits_come_as_objects(db: sqlite3.Connection) -> None:
    """Columns of Python's integers beside int64 keep every digit."""
    column = np.array([2**62, -1], dtype=object) >> 1
    insert_columns(db, UPSERT, [np.arange(2), column])

    assert db.execute("SELECT a, b FROM t").fetchall() == [(0, 2**61), (1, -1)]


@pytest.mark.parametrize("size", SIZES)
def test_answers_name_what_they_answer(db: sqlite3.Connection, size: int) -> None:
    """Each answer has the place of its question; what is unknown has none; NUL is a letter."""
    insert_rows(db, UPSERT, [(f"x\x00{n}", n) for n in range(0, size, 2)])
    question = (
        "WITH wanted (place, a) AS ({wanted})"
        " SELECT wanted.place, t.b FROM wanted CROSS JOIN t WHERE t.a = wanted.a"
    )

    found = list(ask_rows(db, question, [(f"x\x00{n}",) for n in range(size)]))

    assert found == [(n, n) for n in range(0, size, 2)]


def test_numbers_are_packed_as_one_by_one() -> None:
    """Of producers without lanes, with some, with holes and marks."""
    rng = np.random.default_rng(5)
    many = [Numbers() for _ in range(40)]
    for at, numbers in enumerate(many[1:], 1):
        lanes = rng.choice(256, size=at, replace=False)
        numbers.upto[lanes] = rng.integers(1, 2**40, at)
        if at % 3 == 0:
            numbers.take(7, 2**41, NOW)
        if at % 5 == 0:
            numbers.claim(9, 2**42, NOW, closing=True)

    assert [(bytes(upto), irregular or None) for upto, irregular in packed(many)] == [
        pack(numbers) for numbers in many
    ]
    assert packed([]) == []
    [told] = rows_of_numbers({ProducerKey(3, "p"): many[15]})
    assert {type(cell) for cell in told} == {int, str, bytearray}, "others cost an adapter"


def test_series_have_one_id_by_key_and_by_number(store: SqliteStore) -> None:
    """Found or made, in whatever order and mixture they are asked for, and after forgetting."""
    keys = [series(tenant=f"t{n}") for n in range(90)]
    ids = SeriesIds(store._db)
    first = ids.of_keys(keys[10:50])
    delta = added({row(0): (1, 1)}).usage[0]
    numbers = np.array([5, 40, 5, 89, 10])
    delta.numbered = Numbered(keys, numbers)
    by_number = ids.of(delta).tolist()
    ids.clear()
    every = ids.of_keys(keys)

    assert every[10:50] == first
    assert by_number == [every[number] for number in numbers]
    assert len(set(every)) == len(keys)
    assert store._db.execute("SELECT count(*) FROM series").fetchone() == (90,)


def test_numbers_of_series_hold_for_their_list_alone(store: SqliteStore) -> None:
    """Another list of keys, or a longer one, is not taken for the one that is known."""
    one = [series(tenant=f"a{n}") for n in range(3)]
    ids = SeriesIds(store._db)
    delta = added({row(0): (1, 1)}).usage[0]

    def of(keys: list[SeriesKey], *numbers: int) -> list[int]:
        delta.numbered = Numbered(keys, np.array(numbers))
        return [int(found) for found in ids.of(delta)]

    first = of(one, 0, 1, 2)
    one.append(series(tenant="a3"))
    longer = of(one, 3, 0)
    other = of([series(tenant=f"b{n}") for n in range(3)], 0, 1, 2)

    assert longer[1] == first[0]
    assert len({*first, *longer, *other}) == 7


def test_sessions_as_columns_are_the_rows_of_sessions_as_objects(store: SqliteStore) -> None:
    """Absent ends, deadlines, subjects and attributes are NULL either way."""
    facts: list[tuple[int | None, int | None, str, tuple[tuple[str, str], ...]]] = [
        (5, None, "", ()),
        (None, 9, "u", (("a", "b"),)),
        (0, 0, "", (("é", ""),)),
    ]
    keys = [SessionKey(0, "acme", "run", f"s{n}") for n in range(len(facts))]
    changes, told = Changes(), Changes()
    for key, (end, deadline, subject, pairs) in zip(keys, facts, strict=True):
        ends = () if end is None else (end,)
        changes.sessions[key] = (Session((Start(0, subject, pairs),), ends, 5, NOW), deadline)
    rows: list[tuple[Any, ...]] = [
        (*key, 0, end, 5, NOW, deadline, subject or None, text)
        for key, (end, deadline, subject, _), text in zip(
            keys, facts, [None, '{"a":"b"}', '{"é":""}'], strict=True
        )
    ]
    told.session_columns = [SessionColumns(*map(list, zip(*rows, strict=True)))]
    found: list[list[tuple[Any, ...]]] = []
    for each in (changes, told):
        store.commit([], each)
        found.append(store._db.execute("SELECT * FROM session ORDER BY session").fetchall())
        store._db.execute("DELETE FROM session")

    assert found[0] == found[1] == [(*cells, None) for cells in rows]

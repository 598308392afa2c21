"""Two stores as canonical rows: what makes them differ, what does not, and what is left out."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from meterstream_aggregator.errors import StoreMismatch, StoreUnavailable
from meterstream_aggregator.store.canonical import DIFFERENCES_SHOWN, LEFT_OUT, TABLES, store_hash
from meterstream_aggregator.store.canonical_sqlite import snapshot_into
from meterstream_aggregator.store.sqlite import SqliteStore
from meterstream_aggregator.store.standing import canonical_hash, compare

if TYPE_CHECKING:
    from pathlib import Path

ROWS = 3


@pytest.fixture
def filled(tmp_path: Path) -> Path:
    """A store with three rows in every table, of values that are never the same."""
    path = tmp_path / "live.sqlite3"
    SqliteStore(path).close()
    with closing(sqlite3.connect(path)) as db, db:
        for table, columns in _schema(db).items():
            rows = 1 if table in {"binding", "made"} else ROWS
            for row in range(1, rows + 1):
                values = [_value(name, kind, row) for name, kind in columns]
                marks = ", ".join("?" * len(values))
                db.execute(f"INSERT OR REPLACE INTO {table} VALUES ({marks})", values)
    return path


def _schema(db: sqlite3.Connection) -> dict[str, list[tuple[str, str]]]:
    names = [
        name
        for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        if not name.startswith("sqlite_")
    ]
    return {
        name: [(row[1], row[2]) for row in db.execute(f"PRAGMA table_info({name})")]
        for name in names
    }


def _value(name: str, kind: str, row: int) -> Any:  # noqa: ANN401 - of any column
    if name in {"series", "id", "only"}:
        return row
    if name == "closed":
        return row % 2
    return {"INTEGER": row * 10, "TEXT": f"{name} {row} é", "BLOB": bytes([row, 255])}[kind]


def _changed(path: Path, *statements: str) -> Path:
    """A copy of the store after these statements."""
    copy = path.with_name("other.sqlite3")
    snapshot_into(path, copy)
    _execute(copy, *statements)
    return copy


def _execute(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path)) as db, db:
        for statement in statements:
            db.execute(statement)


def test_a_copy_is_the_same(filled: Path) -> None:
    """A copy agrees in every row, and has the same hash."""
    copy = _changed(filled)

    found = list(compare(filled, copy))

    assert [(each.table, each.rows, each.different) for each in found] == [
        (table.name, ROWS, 0) for table in TABLES
    ]
    assert all(each.live_hash == each.rebuilt_hash for each in found)
    assert canonical_hash(filled) == canonical_hash(copy)
    assert canonical_hash(copy) == store_hash([(each.table, each.live_hash) for each in found])


def test_every_column_is_compared_or_left_out_for_a_reason(filled: Path) -> None:
    """A column that the schema gains must be decided about."""
    compared = {(table.name, column) for table in TABLES for column in table.columns}
    with closing(sqlite3.connect(filled)) as db:
        schema = _schema(db)
    for table, columns in schema.items():
        for column, _ in columns:
            if (table, column) not in compared and (table, column) not in {
                ("usage", "quantity_high"),  # "quantity"
                ("usage", "quantity_low"),
                ("usage", "series"),
                ("late", "series"),
                ("item", "series"),
            }:
                assert table in LEFT_OUT or f"{table}.{column}" in LEFT_OUT, (table, column)


@pytest.mark.parametrize(
    ("table", "column"),
    [(table.name, column) for table in TABLES for column in table.columns],
)
def test_any_changed_cell_is_found(filled: Path, table: str, column: str) -> None:
    """One other value in one cell: its table differs, and the hashes do."""
    of_series = column in {"meter", "tenant", "groups", "partition", "version"}
    changed = "series" if table in {"usage", "late", "item"} and of_series else table
    copy = _changed(filled, _one_cell(filled, changed, column))

    found = {each.table: each for each in compare(filled, copy)}

    assert found[table].different
    assert found[table].live_hash != found[table].rebuilt_hash
    assert canonical_hash(filled) != canonical_hash(copy)
    others = {name for name, each in found.items() if each.different} - {table}
    assert others <= {"series", "usage", "late", "item"}


def _one_cell(path: Path, table: str, column: str) -> str:
    """Another value in the second row."""
    with closing(sqlite3.connect(path)) as db:
        columns = dict(_schema(db)[table])
    column = "quantity_low" if (table, column) == ("usage", "quantity") else column
    other = {"INTEGER": "21", "TEXT": "'other'", "BLOB": "x'00'"}[columns[column]]
    first, kind = next(iter(columns.items()))
    second = _value(first, kind, 2)
    return f'UPDATE {table} SET "{column}" = {other} WHERE "{first}" = {second!r}'


def test_ids_of_series_epochs_and_owners_do_not_matter(filled: Path) -> None:
    """Who folded, how often, and in which order series were first written is not compared."""
    copy = _changed(
        filled,
        "UPDATE series SET id = id + 100",
        "UPDATE usage SET series = series + 100",
        "UPDATE late SET series = series + 100",
        "UPDATE item SET series = series + 100",
        "UPDATE position SET epoch = 9, owner = 'another'",
        "DELETE FROM outbox",
        "DELETE FROM binding",
    )

    assert canonical_hash(filled) == canonical_hash(copy)


def test_a_partition_that_was_only_claimed_is_no_row(filled: Path) -> None:
    """A claim without a commit is no fact of the log."""
    copy = _changed(filled, "INSERT INTO position VALUES (99, 1, 'w', NULL, 0, 0, 0, 0)")

    assert canonical_hash(filled) == canonical_hash(copy)


def test_rows_of_one_side_are_shown(filled: Path) -> None:
    """A row that one side lacks is shown beside nothing, on either side."""
    copy = _changed(
        filled,
        "DELETE FROM dead_letter WHERE partition = 10",
        "UPDATE dead_letter SET partition = 40 WHERE partition = 30",
    )

    found = {each.table: each for each in compare(filled, copy)}["dead_letter"]

    assert (found.rows, found.different) == (4, 3)
    assert [
        (each.live and each.live[0], each.rebuilt and each.rebuilt[0]) for each in found.differences
    ] == [(10, None), (30, None), (None, 40)]


def test_only_the_first_differences_are_kept(filled: Path) -> None:
    """Memory is bounded: the rest is only counted."""
    copy = _changed(
        filled,
        *(f"INSERT INTO place VALUES (0, {hour}, 0, 1, 2, 3)" for hour in range(50)),
    )

    found = {each.table: each for each in compare(filled, copy)}["place"]

    assert found.different == 50
    assert len(found.differences) == DIFFERENCES_SHOWN


def test_amounts_of_any_size_are_one_number(filled: Path) -> None:
    """Two integers are told as the amount that they are; beyond 64 bits as text."""
    for row, (high, low) in enumerate([(1, 2**62 - 1), (2, 0), (-3, 5)], 1):
        amount = f"quantity_high = {high}, quantity_low = {low}"
        _execute(filled, f"UPDATE usage SET {amount} WHERE block = {row * 10}")
    copy = _changed(filled, "UPDATE usage SET quantity_high = quantity_high + 1")

    found = {each.table: each for each in compare(filled, copy)}["usage"]

    told = [each.live[-1] for each in found.differences if each.live is not None]
    assert told == [2**63 - 1, str(2**63), str(-3 * 2**62 + 5)]


def test_a_snapshot_is_taken_while_a_worker_writes(tmp_path: Path) -> None:
    """An open transaction of a writer neither blocks the copy nor gets into it."""
    path, copy = tmp_path / "live.sqlite3", tmp_path / "copy.sqlite3"
    SqliteStore(path).close()
    with closing(sqlite3.connect(path, isolation_level=None)) as writer:
        writer.execute("BEGIN IMMEDIATE")
        writer.execute("INSERT INTO place VALUES (0, 1, 0, 1, 2, 3)")

        snapshot_into(path, copy)

        writer.execute("COMMIT")
    assert canonical_hash(copy) != canonical_hash(path)
    found = {each.table: each for each in compare(path, copy)}["place"]
    assert (found.rows, found.different) == (1, 1)


def test_what_is_no_store_is_refused(tmp_path: Path) -> None:
    """No file, another database, and no database at all."""
    with pytest.raises(StoreUnavailable, match="there is no store there"):
        canonical_hash(tmp_path / "none.sqlite3")
    other = tmp_path / "other.sqlite3"
    with closing(sqlite3.connect(other)) as db, db:
        db.execute("CREATE TABLE mine (a)")
    with pytest.raises(StoreMismatch, match="version 0, and no store of meterstream"):
        canonical_hash(other)
    noise = tmp_path / "noise.sqlite3"
    shutil.copyfile(__file__, noise)
    with pytest.raises(StoreUnavailable, match="cannot be read now"):
        canonical_hash(noise)

"""Stores of different kinds as canonical rows: the same content is the same, any other is not."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from meterstream_aggregator.errors import StoreMismatch, StoreUnavailable
from meterstream_aggregator.store.canonical import LEFT_OUT, TABLES
from meterstream_aggregator.store.canonical_sqlite import snapshot_into
from meterstream_aggregator.store.sqlite import SqliteStore
from meterstream_aggregator.store.standing import canonical_hash, compare, standing
from tests.contract.filling import (
    OTHERS,
    ROWS,
    change_schema,
    columns_of_file,
    columns_of_schema,
    fill_file,
    fill_schema,
)

if TYPE_CHECKING:
    from pathlib import Path

    from meterstream_aggregator.store.address import PostgresAddress
    from tests.databases import Postgres

OF_SERIES = {("usage", "series"), ("late", "series"), ("item", "series")}


def test_kinds_have_the_same_tables_and_columns(
    postgres_address: PostgresAddress, tmp_path: Path
) -> None:
    """By meaning: but for how an amount is kept, and where the store's own name is."""
    SqliteStore(tmp_path / "s.sqlite3").close()
    file, schema = columns_of_file(tmp_path / "s.sqlite3"), columns_of_schema(postgres_address)

    mine = {(table, name) for table, columns in file.items() for name in columns}
    other = {(table, name) for table, columns in schema.items() for name in columns}

    assert mine - other == {
        ("usage", "quantity_high"), ("usage", "quantity_low"),
        ("made", "only"), ("made", "identity"),
    }  # fmt: skip
    assert other - mine == {("usage", "quantity"), ("binding", "identity")}


def test_every_column_of_a_schema_is_compared_or_left_out_for_a_reason(
    postgres_address: PostgresAddress,
) -> None:
    """A column that the schema gains must be decided about."""
    compared = {(table.name, column) for table in TABLES for column in table.columns} | OF_SERIES
    there = {
        (table, column)
        for table, columns in columns_of_schema(postgres_address).items()
        for column in columns
    }

    undecided = {
        (table, column)
        for table, column in there - compared
        if table not in LEFT_OUT and f"{table}.{column}" not in LEFT_OUT
    }

    assert undecided == set()
    assert {(table.name, column) for table in TABLES for column in table.columns} <= there | {
        (table.name, column) for table in TABLES if table.of_series for column in table.columns
    }


def test_the_same_content_is_the_same_in_every_kind(
    postgres: Postgres, postgres_address: PostgresAddress, tmp_path: Path
) -> None:
    """A file against a schema, either way, and two schemas: every row, and one hash."""
    file, schema = fill_file(tmp_path / "s.sqlite3"), fill_schema(postgres_address)

    with postgres.store() as another:
        fill_schema(another)
        for live, rebuilt in ((file, schema), (schema, file), (schema, another)):
            found = list(compare(live, rebuilt))
            assert [(each.table, each.rows, each.different) for each in found] == [
                (table.name, ROWS, 0) for table in TABLES
            ], [each.differences for each in found if each.different]
        assert len({canonical_hash(store) for store in (file, schema, another)}) == 1


def test_any_changed_cell_of_a_schema_is_found(
    postgres_address: PostgresAddress, tmp_path: Path
) -> None:
    """One other value in one cell: its table differs, and the hashes do.

    The n-th column of every table at once, but those of series: other tables tell of them too.
    """
    file, schema = fill_file(tmp_path / "s.sqlite3"), fill_schema(postgres_address)
    kinds = columns_of_schema(schema)
    own = {
        table.name: [column for column in table.columns if column in kinds[table.name]]
        for table in TABLES
    }
    of_series = own.pop("series")
    rounds = [
        {table: columns[at] for table, columns in own.items() if at < len(columns)}
        for at in range(max(map(len, own.values())))
    ]
    for changed in [*rounds, *({"series": column} for column in of_series)]:
        change_schema(
            schema,
            *(statement for each in changed.items() for statement in _one_cell(*each, kinds)),
        )
        found = {each.table: each for each in compare(file, schema)}
        for table in changed:
            assert found[table].different, (table, changed[table])
            assert found[table].live_hash != found[table].rebuilt_hash
        change_schema(schema, *(statement for table in changed for statement in _back(table)))

    assert canonical_hash(schema) == canonical_hash(file)


def _one_cell(table: str, column: str, kinds: dict[str, dict[str, str]]) -> list[str]:
    """Another value in the second row, and the table as it was beside it."""
    first = next(iter(kinds[table]))
    second = f'(SELECT "{first}" FROM "{table}" ORDER BY 1 OFFSET 1 LIMIT 1)'
    other = OTHERS[kinds[table][column]]
    return [
        f'CREATE TABLE "kept_{table}" AS SELECT * FROM "{table}"',
        f'UPDATE "{table}" SET "{column}" = {other} WHERE "{first}" = {second}',
    ]


def _back(table: str) -> list[str]:
    return [
        f'DELETE FROM "{table}"',
        f'INSERT INTO "{table}" OVERRIDING SYSTEM VALUE SELECT * FROM "kept_{table}"',
        f'DROP TABLE "kept_{table}"',
    ]


def test_who_folded_and_in_which_order_does_not_matter(
    postgres_address: PostgresAddress, tmp_path: Path
) -> None:
    """Ids of series, epochs, owners, a claim without a commit, and what waits to leave."""
    file, schema = fill_file(tmp_path / "s.sqlite3"), fill_schema(postgres_address)
    change_schema(
        schema,
        "ALTER TABLE series ALTER id DROP IDENTITY",
        "UPDATE series SET id = id + 100",
        *(f"UPDATE {table} SET series = series + 100" for table in ("usage", "late", "item")),
        "UPDATE \"position\" SET epoch = 9, owner = 'another'",
        "INSERT INTO \"position\" VALUES (99, 1, 'w', NULL, 0, 0, 0, 0)",
        "DELETE FROM outbox",
    )

    assert canonical_hash(schema) == canonical_hash(file)


@pytest.mark.parametrize("amount", [2**63 - 1, -(2**63), 2**63, -(2**63) - 1, 2**100, -(2**100), 0])
def test_amounts_are_the_same_however_they_are_kept(
    postgres_address: PostgresAddress, tmp_path: Path, amount: int
) -> None:
    """Two integers or NUMERIC: one number of any size."""
    file, schema = fill_file(tmp_path / "s.sqlite3"), fill_schema(postgres_address)
    change_schema(schema, f"UPDATE usage SET quantity = {amount} WHERE block = 10")
    copy = tmp_path / "copy.sqlite3"
    snapshot_into(file, copy)
    _set_amount(copy, amount)

    assert canonical_hash(copy) == canonical_hash(schema) != canonical_hash(file)


def _set_amount(path: Path, amount: int) -> None:
    with closing(sqlite3.connect(path)) as db, db:
        db.execute(
            "UPDATE usage SET quantity_high = ?, quantity_low = ? WHERE block = 10",
            (amount >> 62, amount & (2**62 - 1)),
        )


def test_texts_are_in_one_order(postgres_address: PostgresAddress, tmp_path: Path) -> None:
    """Byte by byte, whatever the database's own order of texts is."""
    names = ["a", "B", "b", "é", "e", "E", "z", "\U0001f600", "￿", "", " ", "A"]
    file, schema = tmp_path / "s.sqlite3", postgres_address
    SqliteStore(file).close()
    rows = [f"(0, '{name}', '{other}', 1, 2, 3, 4)" for name in names for other in names]
    with closing(sqlite3.connect(file)) as db, db:
        values = ", ".join(row.replace("', 1,", "', x'01',") for row in rows)
        db.execute(f"INSERT INTO caller_key VALUES {values}")
    values = ", ".join(row.replace("', 1,", r"', '\x01',") for row in rows)
    change_schema(schema, f"INSERT INTO caller_key VALUES {values}")

    found = {each.table: each for each in compare(file, schema)}["caller_key"]

    assert (found.rows, found.different) == (len(names) ** 2, 0)


def test_a_schema_is_taken_as_it_stands(postgres_address: PostgresAddress, tmp_path: Path) -> None:
    """What is written after the moment is in neither the answers nor the rows that were kept."""
    schema = fill_schema(postgres_address)
    before = canonical_hash(schema)

    with standing(schema, tmp_path) as now:
        assert len(now.reader.positions()) == ROWS
        change_schema(schema, 'DELETE FROM "position"', "DELETE FROM place")
        kept = now.keep()
        assert len(now.reader.positions()) == ROWS

    assert canonical_hash(kept) == before != canonical_hash(schema)
    found = {each.table: each.different for each in compare(kept, schema)}
    assert {name for name, different in found.items() if different} == {"position", "place"}


def test_no_store_is_told(postgres: Postgres, tmp_path: Path) -> None:
    """A schema that is not there, and one with tables of others."""
    with pytest.raises(StoreUnavailable, match="there is no store yet; make it: meterstream migr"):
        canonical_hash(postgres.address("nobody_was_here"))
    with postgres.store() as address:
        change_schema(address, "UPDATE migration SET version = 99")
        with (
            pytest.raises(StoreMismatch, match="newer than this program"),
            standing(address, tmp_path),
        ):
            pass

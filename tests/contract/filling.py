"""Stores with the same three rows in every table, of either kind, written past their own code."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

from meterstream_aggregator.store.postgres.connection import connect
from meterstream_aggregator.store.sqlite import SqliteStore

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from meterstream_aggregator.store.address import PostgresAddress

ROWS = 3
ODD = "\x00é\U0001f600"
"""What only bytes can keep in PostgreSQL."""
_MAY_BE_ODD = frozenset({
    ("item", "item"), ("session", "subject"), ("subject", "subject"), ("dead_letter", "detail"),
    ("dead_letter", "tenant"), ("dead_letter", "type"), ("dead_letter", "producer"),
})  # fmt: skip
_BYTES = frozenset({"upto", "content", "value"}) | {"key"}
_COLUMNS = """
    SELECT table_name::text, column_name::text, data_type::text FROM information_schema.columns
    WHERE table_schema = %s ORDER BY table_name, ordinal_position
"""


def fill_file(path: Path) -> Path:
    """Make a store in a file, and fill it."""
    SqliteStore(path).close()
    with closing(sqlite3.connect(path)) as db, db:
        for table, columns in columns_of_file(path).items():
            for row in range(1, (1 if table in {"binding", "made"} else ROWS) + 1):
                values = [_in_file(table, name, kind, row) for name, kind in columns.items()]
                marks = ", ".join("?" * len(values))
                db.execute(f"INSERT OR REPLACE INTO {table} VALUES ({marks})", values)
    return path


def columns_of_file(path: Path) -> dict[str, dict[str, str]]:
    """The columns of every table with their types."""
    with closing(sqlite3.connect(path)) as db:
        found = db.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        return {
            name: {row[1]: row[2] for row in db.execute(f"PRAGMA table_info({name})")}
            for (name,) in found
            if not name.startswith("sqlite_")
        }


def fill_schema(address: PostgresAddress) -> PostgresAddress:
    """Fill a store that was just migrated."""
    with connect(address, "migrate") as connection, connection.transaction():
        for table, columns in columns_of_schema(address).items():
            names = ", ".join(f'"{name}"' for name in columns)
            marks = ", ".join(["%s"] * len(columns))
            query = f'INSERT INTO "{table}" ({names}) OVERRIDING SYSTEM VALUE VALUES ({marks})'
            for row in range(1, (0 if table == "binding" else ROWS) + 1):
                values = [_in_schema(table, name, kind, row) for name, kind in columns.items()]
                connection.execute(query.encode(), values)
    return address


def columns_of_schema(address: PostgresAddress) -> dict[str, dict[str, str]]:
    """The columns of every table with their types, but for what remembers migrations."""
    found: dict[str, dict[str, str]] = {}
    with connect(address, "migrate") as connection:
        for table, column, kind in connection.execute(_COLUMNS, (address.schema,)).fetchall():
            if table != "migration":
                found.setdefault(table, {})[column] = kind
    return found


def change_schema(address: PostgresAddress, *statements: str) -> None:
    """Execute these statements in a store's schema."""
    with connect(address, "migrate") as connection, connection.transaction():
        for statement in statements:
            connection.execute(statement.encode())


OTHERS: Mapping[str, str] = {
    "integer": "21",
    "bigint": "21",
    "smallint": "21",
    "numeric": "21",
    "text": "'other'",
    "bytea": r"'\x00'",
    "boolean": "true",
}
"""By type another value than any that is there; ``closed`` of the second row is false."""


def _in_file(table: str, name: str, kind: str, row: int) -> Any:  # noqa: ANN401 - of any column
    if kind == "INTEGER":
        return _number(name, row)
    return bytes([row, 255]) if kind == "BLOB" else _text(table, name, row)


def _in_schema(table: str, name: str, kind: str, row: int) -> Any:  # noqa: ANN401 - of any column
    if kind == "boolean":
        return bool(_number(name, row))
    if kind == "numeric":
        high = _number(name, row) << 62 if table == "usage" else 0
        return high + _number(name, row)
    if kind == "bytea" and (table, name) not in _MAY_BE_ODD:
        assert name in _BYTES
        return bytes([row, 255])
    if kind in {"bytea", "text"}:
        text = _text(table, name, row)
        return text.encode() if kind == "bytea" else text
    return _number(name, row)


def _number(name: str, row: int) -> int:
    if name in {"series", "id", "only"}:
        return row
    return row % 2 if name == "closed" else row * 10


def _text(table: str, name: str, row: int) -> str:
    return f"{name} {row} {ODD if (table, name) in _MAY_BE_ODD else 'é'}"

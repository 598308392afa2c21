"""The canonical rows of a store in a schema of PostgreSQL, read inside one snapshot."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Any, Final

import orjson

from meterstream_aggregator.store.canonical import SERIES, Table
from meterstream_aggregator.store.postgres.reading import ReadConnection, Row

_CELLS: Final = {
    ("producer", "upto"): "upper(encode(upto, 'hex'))",
    ("producer", "closed"): "closed::integer",
    ("caller_key", "content"): "upper(encode(content, 'hex'))",
}
_ONLY: Final = {"position": "WHERE next_offset IS NOT NULL"}
_AMOUNTS: Final = frozenset({"quantity"})
_BYTES: Final = frozenset({"item", "subject", "detail", "tenant", "type", "producer"})
"""Texts that some table keeps as bytes: a stranger may have put a NUL into them."""
_LEAST: Final = -(2**63)
_MOST: Final = 2**63 - 1


class PostgresRows:
    """The canonical rows of a schema, of the snapshot that the connection is in."""

    def __init__(self, connection: ReadConnection) -> None:
        self._read = connection

    def lines(self, table: Table) -> Iterator[bytes]:
        """See `Canonical.lines`."""
        plain = not (_AMOUNTS | _BYTES) & set(table.columns)
        for portion in self._read.portions(_query(table), size=4_096):
            yield from map(orjson.dumps, portion if plain else map(_canonical, portion))


def _canonical(row: Row) -> list[Any]:
    return [_of(cell) if isinstance(cell, Decimal | bytes) else cell for cell in row]


def _of(cell: Decimal | bytes) -> int | str:
    if isinstance(cell, bytes):
        return cell.decode()
    amount = int(cell)
    return amount if _LEAST <= amount <= _MOST else str(amount)


def _query(table: Table) -> str:
    chosen = [_cell(table, column) for column in table.columns]
    keys = [_name(table, column) for column in table.columns[: table.keys]]
    of_series = " AS own JOIN series ON series.id = own.series" if table.of_series else ""
    return (
        f'SELECT {", ".join(chosen)} FROM "{table.name}"{of_series} {_ONLY.get(table.name, "")}'  # noqa: S608 - names of our own
        f" ORDER BY {', '.join(keys)}"
    )


def _cell(table: Table, column: str) -> str:
    return _CELLS.get((table.name, column)) or _name(table, column)


def _name(table: Table, column: str) -> str:
    if not table.of_series:
        return f'"{column}"'
    return f'series."{column}"' if column in SERIES else f'own."{column}"'

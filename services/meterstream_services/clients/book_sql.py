"""The book in small tables of SQLite or PostgreSQL.

Names are kept as hexadecimal digits of their UTF-8. So every text can be kept, also one with a NUL,
which PostgreSQL refuses, and the order of names is that of their code points whatever the
collation of the database.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Final

from meterstream_aggregator.store.address import StoreAddress
from meterstream_services.clients.book import (
    ENTRIES_MAX,
    Book,
    BookUnavailable,
    Content,
    kept_content,
    no_room,
)
from meterstream_services.sql.opening import open_database
from meterstream_services.sql.port import Database, DatabaseUnavailable, Row, Tables

TABLES: Final = Tables(
    name="book",
    application_id=0x6D736263,  # "msbc"
    migrations=(
        """\
CREATE TABLE book_entry (
    owner TEXT NOT NULL,
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    content TEXT NOT NULL,
    PRIMARY KEY (owner, kind, name)
);
CREATE INDEX book_entry_of_kind ON book_entry (kind, name);
""",
    ),
)

_GET: Final = "SELECT content FROM book_entry WHERE owner = ? AND kind = ? AND name = ?"
_ALL: Final = """\
SELECT owner, name, content FROM book_entry WHERE kind = ? AND name > ?
ORDER BY name, owner LIMIT ?"""
_REST_OF_NAME: Final = """\
SELECT owner, name, content FROM book_entry WHERE kind = ? AND name = ?
ORDER BY owner"""
_ALL_OF_OWNER: Final = """\
SELECT owner, name, content FROM book_entry WHERE owner = ? AND kind = ? AND name > ?
ORDER BY name LIMIT ?"""
_COUNT: Final = """\
SELECT count(*) FROM (
    SELECT 1 FROM book_entry WHERE owner = ? AND kind = ? LIMIT ?
) AS counted"""
_PUT: Final = """\
INSERT INTO book_entry (owner, kind, name, content) VALUES (?, ?, ?, ?)
ON CONFLICT (owner, kind, name) DO UPDATE SET content = excluded.content"""
_DELETE: Final = "DELETE FROM book_entry WHERE owner = ? AND kind = ? AND name = ?"


def open_book(address: StoreAddress) -> Book:
    """The book at an address; nothing is opened before it is used."""
    return SqlBook(open_database(address, TABLES))


class SqlBook:
    """A `Book` that survives the process. Writers take turns, also those of other processes."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def get(self, owner: str, kind: str, name: str) -> Content | None:
        """See `meterstream_services.clients.book.Book`."""
        with _available(), self._database.reading() as session:
            rows = session.rows(_GET, (owner, kind, _hexadecimal(name)))
        return json.loads(rows[0][0]) if rows else None

    def all(
        self, owner: str | None, kind: str, *, after: str = "", limit: int = 1000
    ) -> list[tuple[str, str, Content]]:
        """See `meterstream_services.clients.book.Book`."""
        beyond = _hexadecimal(after)
        with _available(), self._database.reading() as session:
            if owner is not None:
                rows = session.rows(_ALL_OF_OWNER, (owner, kind, beyond, limit))
            else:
                rows = session.rows(_ALL, (kind, beyond, limit))
                if rows and len(rows) == limit:
                    last = rows[-1][1]
                    whole = session.rows(_REST_OF_NAME, (kind, last))
                    rows = [row for row in rows if row[1] != last] + whole
        return [_entry(row) for row in rows]

    def change(
        self,
        owner: str,
        kind: str,
        name: str,
        change: Callable[[Content | None], Content | None],
    ) -> Content | None:
        """See `meterstream_services.clients.book.Book`."""
        place = owner, kind, _hexadecimal(name)
        with _available(), self._database.writing() as session:
            rows = session.rows(_GET, place)
            made = change(json.loads(rows[0][0]) if rows else None)
            if made is None:
                if rows:
                    session.rows(_DELETE, place)
                return None
            text = kept_content(name, made)
            if not rows and session.rows(_COUNT, (owner, kind, ENTRIES_MAX))[0][0] >= ENTRIES_MAX:
                raise no_room(kind)
            session.rows(_PUT, (*place, text))
            return made

    def close(self) -> None:
        """See `meterstream_services.clients.book.Book`."""
        self._database.close()


@contextmanager
def _available() -> Generator[None]:
    try:
        yield
    except DatabaseUnavailable as problem:
        raise BookUnavailable(str(problem)) from problem


def _hexadecimal(name: str) -> str:
    return name.encode("utf-8", "surrogatepass").hex()


def _entry(row: Row) -> tuple[str, str, Content]:
    return row[0], bytes.fromhex(row[1]).decode("utf-8", "surrogatepass"), json.loads(row[2])

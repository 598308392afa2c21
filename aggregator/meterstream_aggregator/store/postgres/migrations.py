"""The store's tables: numbered SQL files, applied once each, in order, and remembered.

`migrate` takes an advisory lock, so that two who migrate at once do it one after the other; each
file runs in a transaction of its own, together with the row of the table ``migration`` that
remembers it by number, name and SHA-256. A file that was applied and differs now is refused.
Whoever opens a store asks `check` first: an older store, a newer one, and one whose files were
others are all refused with what to do.
"""

from __future__ import annotations

import hashlib
from importlib import resources
from typing import Final, NamedTuple

import psycopg
from psycopg import sql

from meterstream_aggregator.errors import StoreMismatch
from meterstream_aggregator.store.address import PostgresAddress
from meterstream_aggregator.store.postgres.connection import Connection, connect
from meterstream_aggregator.store.postgres.errors import no_store, unavailable

_PACKAGE: Final = "meterstream_aggregator.store.postgres"
_LOCK: Final = "SELECT pg_advisory_lock(hashtextextended('meterstream ' || %s, 0))"
_TABLE: Final = """
    CREATE TABLE IF NOT EXISTS migration (
        version integer PRIMARY KEY,
        name text NOT NULL,
        checksum text NOT NULL,
        applied_at timestamptz NOT NULL DEFAULT now()
    )
"""
_KNOWN: Final = "SELECT version, name, checksum FROM migration ORDER BY version"


class Migration(NamedTuple):
    """One file: its number, its name without the ending, its text and the text's SHA-256."""

    version: int
    name: str
    text: str
    checksum: str


class Applied(NamedTuple):
    """A migration that a store remembers."""

    version: int
    name: str
    checksum: str


def migrations() -> list[Migration]:
    """All files of this program, by number."""
    found: list[Migration] = []
    for file in resources.files(_PACKAGE).joinpath("migrations").iterdir():
        if file.name.endswith(".sql"):
            text = file.read_text("utf-8")
            name = file.name.removesuffix(".sql")
            checksum = hashlib.sha256(text.encode()).hexdigest()
            found.append(Migration(int(name.partition("_")[0]), name, text, checksum))
    return sorted(found)


def check(address: PostgresAddress, connection: Connection) -> None:
    """Is it a store of this version? Raises `StoreUnavailable` where there is none yet.

    And `StoreMismatch` for an older or newer one, or one made by other files.
    """
    try:
        known = applied(connection)
    except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName) as problem:
        raise no_store(address) from problem
    if not known:
        raise no_store(address)
    if pending(address, known):
        raise StoreMismatch(
            f"{address}: is a store of version {known[-1].version}, this program keeps version "
            f"{migrations()[-1].version}; run: meterstream migrate --store '{address}'"
        )


def status(address: PostgresAddress) -> tuple[list[Applied], list[Migration]]:
    """What was applied, and what is still to come. Raises as `check`, but not for what is new."""
    with connect(address, "migrate") as connection, unavailable(address):
        known = _known_if_any(connection)
        return known, pending(address, known)


def migrate(address: PostgresAddress) -> list[Migration]:
    """Make the store, or bring it to this version; what was applied just now. Blocks.

    Raises `StoreUnavailable`, and `StoreMismatch` for a newer store or one made by other files;
    then nothing was changed.
    """
    with connect(address, "migrate") as connection, unavailable(address):
        connection.execute(_LOCK, (address.schema,))
        known = _known_if_any(connection)
        wanted = pending(address, known)
        if wanted:
            with connection.transaction():
                _make_schema(connection, address.schema)
                connection.execute(_TABLE)
        for each in wanted:
            with connection.transaction():
                connection.execute(each.text.encode())
                connection.execute(
                    "INSERT INTO migration (version, name, checksum) VALUES (%s, %s, %s)",
                    (each.version, each.name, each.checksum),
                )
        return wanted


def applied(connection: Connection) -> list[Applied]:
    """What the store of the session's schema remembers. Raises psycopg's error without a table."""
    return [Applied(*row) for row in connection.execute(_KNOWN).fetchall()]


def pending(address: PostgresAddress, known: list[Applied]) -> list[Migration]:
    """What is still to be applied. Raises `StoreMismatch` where ``known`` is no beginning of it."""
    ours = migrations()
    if known and known[-1].version > ours[-1].version:
        raise StoreMismatch(
            f"{address}: is a store of version {known[-1].version}, newer than this program's "
            f"{ours[-1].version}; install the meterstream that made it, or a later one"
        )
    for made, own in zip(known, ours, strict=False):
        if (made.version, made.checksum) != (own.version, own.checksum):
            raise StoreMismatch(
                f"{address}: was made by another file {made.name}.sql than this program has; "
                "restore that file, or make a new store in another schema and rebuild it"
            )
    return ours[len(known) :]


def _make_schema(connection: Connection, schema: str) -> None:
    """Unless it is there: whoever may make tables in it need not be allowed to make schemas."""
    found = connection.execute("SELECT to_regnamespace(%s)", (schema,)).fetchone()
    if found is None or found[0] is None:
        connection.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(schema)))


def _known_if_any(connection: Connection) -> list[Applied]:
    found = connection.execute("SELECT to_regclass('migration')").fetchone()
    return applied(connection) if found is not None and found[0] is not None else []

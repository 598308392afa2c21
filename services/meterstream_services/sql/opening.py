"""The database that an address means."""

from __future__ import annotations

from pathlib import Path

from meterstream_aggregator.store.address import StoreAddress
from meterstream_services.sql.port import Database, Tables
from meterstream_services.sql.sqlite import SqliteDatabase


def open_database(address: StoreAddress, tables: Tables) -> Database:
    """A database for one part; nothing is opened before it is used."""
    if isinstance(address, Path):
        return SqliteDatabase(address, tables)
    # Imported here: PostgreSQL's client is an extra.
    from meterstream_services.sql.postgres import PostgresDatabase  # noqa: PLC0415 - as above

    return PostgresDatabase(address, tables)

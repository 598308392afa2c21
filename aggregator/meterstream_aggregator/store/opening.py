"""Opens the store of an address. Each kind is imported when it is first asked for."""

from __future__ import annotations

from pathlib import Path

from meterstream_aggregator.errors import StoreMismatch
from meterstream_aggregator.store.address import PostgresAddress, StoreAddress
from meterstream_aggregator.store.port import Store, StoreReader


def open_store(address: StoreAddress) -> Store:
    """The writing side. Raises `StoreUnavailable` and `StoreMismatch` as the store does."""
    if isinstance(address, Path):
        from meterstream_aggregator.store.sqlite import SqliteStore  # noqa: PLC0415 - one of two

        return SqliteStore(address)
    _require_driver()
    from meterstream_aggregator.store.postgres.store import PostgresStore  # noqa: PLC0415 - one of two

    return PostgresStore(address)


def open_reader(address: StoreAddress) -> StoreReader:
    """The reading side. Raises `StoreUnavailable` and `StoreMismatch` as the store does."""
    if isinstance(address, PostgresAddress):
        _require_driver()
        from meterstream_aggregator.store.postgres.reader import PostgresReader  # noqa: PLC0415 - one of two

        return PostgresReader(address)
    from meterstream_aggregator.store.sqlite_reader import open_reader as of_file  # noqa: PLC0415 - one of two

    return of_file(address)


def _require_driver() -> None:
    try:
        import psycopg  # noqa: F401, PLC0415 - the extra may not be installed
    except ModuleNotFoundError as problem:
        raise StoreMismatch(
            "a store on PostgreSQL needs psycopg: pip install 'meterstream[postgres]'"
        ) from problem

"""Opens the store of an address. Each kind is imported when it is first asked for."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from meterstream_aggregator.errors import StoreMismatch
from meterstream_aggregator.store.address import PostgresAddress, StoreAddress
from meterstream_aggregator.store.port import Store, StoreReader

if TYPE_CHECKING:
    from meterstream_aggregator.store.postgres.reading import Connections


def open_store(address: StoreAddress) -> Store:
    """The writing side. Raises `StoreUnavailable` and `StoreMismatch` as the store does."""
    if isinstance(address, Path):
        from meterstream_aggregator.store.sqlite import SqliteStore  # noqa: PLC0415 - one of two

        return SqliteStore(address)
    require_driver()
    from meterstream_aggregator.store.postgres.store import PostgresStore  # noqa: PLC0415 - one of two

    return PostgresStore(address)


def open_reader(address: StoreAddress, *, patient: bool = False) -> StoreReader:
    """The reading side. Raises `StoreUnavailable` and `StoreMismatch` as the store does.

    ``patient``: no question of it is given up for the time it takes.
    """
    if isinstance(address, PostgresAddress):
        require_driver()
        from meterstream_aggregator.store.postgres.reader import PostgresReader  # noqa: PLC0415 - one of two

        return PostgresReader(address, patient=patient)
    from meterstream_aggregator.store.sqlite_reader import open_reader as of_file  # noqa: PLC0415 - one of two

    return of_file(address)


def require_driver() -> None:
    """Raise `StoreMismatch` where PostgreSQL's client is not installed."""
    if find_spec("psycopg") is None:
        raise StoreMismatch(
            "a store on PostgreSQL needs psycopg: pip install 'meterstream[postgres]'"
        )


class Readers:
    """Readers of one store, one for each question. For any number of threads.

    Of PostgreSQL a few connections are kept: making one costs more than most questions.
    """

    def __init__(self, address: StoreAddress) -> None:
        self._address = address
        self._connections: Connections | None = None
        if isinstance(address, PostgresAddress):
            require_driver()
            from meterstream_aggregator.store.postgres.reading import Connections  # noqa: PLC0415 - one of two

            self._connections = Connections(address)

    def open(self) -> StoreReader:
        """A reader, to be closed after its question. Raises as `open_reader` does.

        Blocks where too many are open, and raises `StoreUnavailable` when that lasts.
        """
        if self._connections is None:
            return open_reader(self._address)
        from meterstream_aggregator.store.postgres.reader import PostgresReader  # noqa: PLC0415 - one of two

        return PostgresReader(self._connections.address, connections=self._connections)

    def close(self) -> None:
        """Let go of what is kept. Readers that are open are not touched."""
        if self._connections is not None:
            self._connections.close()

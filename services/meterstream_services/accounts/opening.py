"""The accounts directory that an address means."""

from __future__ import annotations

from pathlib import Path

from meterstream_aggregator.store.address import StoreAddress
from meterstream_services.accounts.errors import AccountsUnavailable
from meterstream_services.accounts.port import EditableDirectory
from meterstream_services.accounts.sqlite import SqliteDirectory


def open_directory(address: StoreAddress) -> EditableDirectory:
    """A directory; nothing is opened before it is asked something."""
    if isinstance(address, Path):
        return SqliteDirectory(address)
    raise AccountsUnavailable(f"{address}: accounts are kept in a file of SQLite; name one")

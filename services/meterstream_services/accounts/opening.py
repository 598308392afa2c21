"""The accounts directory that an address means.

=============================  ==================================================================
address                        directory
=============================  ==================================================================
a file                         its own tables, in SQLite
``*.yaml *.yml *.json *.csv``  a static file, read anew when it changes; read only
``postgresql://...``           its own tables; the last answers stand in while it is away
``http(s)://...``              another service, asked through a cache; read only
=============================  ==================================================================
"""

from __future__ import annotations

from pathlib import Path
from typing import Final, NamedTuple, TypeAlias, TypeGuard
from urllib.parse import urlsplit

from meterstream_aggregator.store.address import PostgresAddress, StoreAddress, parse_address
from meterstream_services.accounts.bounded import BoundedDirectory
from meterstream_services.accounts.cached import CachedDirectory, Caching
from meterstream_services.accounts.port import EditableDirectory
from meterstream_services.accounts.static import StaticDirectory
from meterstream_services.accounts.tables import SqlDirectory, account_tables
from meterstream_services.sql.opening import open_database

STATIC_SUFFIXES: Final = frozenset({".yaml", ".yml", ".json", ".csv"})
ANSWER_SECONDS: Final = 5.0
"""How long a directory on a network may take for one answer; then it counts as away."""

OF_TABLES: Final = Caching(fresh_seconds=0.0)
"""Tables of our own are always asked: whoever wrote must read what was written."""


class RemoteAddress(NamedTuple):
    """A directory behind HTTP: the base of its URL, and the name of the variable with its key."""

    url: str

    def __str__(self) -> str:
        """For people, and for a process's arguments; no key is in it."""
        return self.url


DirectoryAddress: TypeAlias = StoreAddress | RemoteAddress


def parse_directory(text: str) -> DirectoryAddress:
    """The address that a text means. Raises `ValueError` for one that cannot be one."""
    if not text.lower().startswith(("http://", "https://")):
        return parse_address(text)
    parts = urlsplit(text)
    if "@" in parts.netloc or parts.query or parts.fragment or not parts.hostname:
        raise ValueError(
            "a directory's URL is http(s)://HOST[:PORT][/PATH]; give its key by "
            "METERSTREAM_ACCOUNTS_KEY"
        )
    return RemoteAddress(text.rstrip("/"))


def is_own(address: DirectoryAddress) -> TypeGuard[StoreAddress]:
    """Whether the accounts there are in tables of our own."""
    if isinstance(address, Path):
        return address.suffix.lower() not in STATIC_SUFFIXES
    return isinstance(address, PostgresAddress)


def open_directory(address: DirectoryAddress) -> EditableDirectory:
    """A directory; nothing is opened before it is asked something."""
    if isinstance(address, RemoteAddress):
        # Imported here: workers without a remote directory need no HTTP client.
        from meterstream_services.accounts.remote import RemoteDirectory  # noqa: PLC0415 - as above

        bounded = BoundedDirectory(RemoteDirectory(address.url), seconds=ANSWER_SECONDS)
        return CachedDirectory(bounded, Caching())
    if isinstance(address, Path) and not is_own(address):
        return StaticDirectory(address)
    directory = SqlDirectory(open_database(address, account_tables()))
    if isinstance(address, PostgresAddress):
        return CachedDirectory(BoundedDirectory(directory, seconds=ANSWER_SECONDS), OF_TABLES)
    return directory

"""Where a store is: a file of SQLite, or a schema of a PostgreSQL database.

Text forms: a path (``/var/lib/meterstream/store.sqlite3``), or a URL of PostgreSQL with one
parameter of our own, ``postgresql://user@host/database?schema=metering``. Each store has a schema
to itself; the default is ``meterstream``.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final, NamedTuple, TypeAlias
from urllib.parse import SplitResult, parse_qsl, urlencode, urlsplit, urlunsplit

DEFAULT_SCHEMA: Final = "meterstream"
_SCHEMES: Final = frozenset({"postgresql", "postgres"})
_SCHEMA_NAME: Final = re.compile(r"(?!pg(_|$))[a-z_][a-z0-9_]{0,62}")
"""PostgreSQL keeps names with ``pg_`` to itself, and roles are named after the schema."""


class PostgresAddress(NamedTuple):
    """A database as libpq takes it, without our parameter, and the store's schema in it."""

    url: str
    schema: str = DEFAULT_SCHEMA

    def __str__(self) -> str:
        """For people: without the password and without parameters."""
        parts = urlsplit(self.url)
        at = parts.netloc.rpartition("@")
        user = at[0].partition(":")[0]
        netloc = f"{user}@{at[2]}" if user else at[2]
        return f"{parts.scheme}://{netloc}{parts.path}?schema={self.schema}"

    def full(self) -> str:
        """All of it, as `parse_address` takes it: for a process's environment, not for people."""
        parts = urlsplit(self.url)
        query = f"{parts.query}&schema={self.schema}" if parts.query else f"schema={self.schema}"
        return urlunsplit(parts._replace(query=query))

    def __repr__(self) -> str:
        """As `__str__`: a password is never shown."""
        return f"PostgresAddress({str(self)!r})"


StoreAddress: TypeAlias = Path | PostgresAddress


def _split(url: str) -> SplitResult:
    """The parts of a URL. Raises `ValueError`, without the password, where one would end early."""
    try:
        parts = urlsplit(url)
    except ValueError:
        parts = None
    if parts is not None:
        behind = parts.path + parts.fragment + ("" if "@" in parts.netloc else parts.query)
        if "@" not in behind:
            return parts
    raise ValueError(
        "a URL whose parts cannot be told; write @ : / ? # [ ] and % in its user and password as "
        "%40 %3A %2F %3F %23 %5B %5D %25, or give the password by METERSTREAM_STORE_PASSWORD"
    )


def parse_address(text: str) -> StoreAddress:
    """The address that a text means. Raises `ValueError` for a URL that cannot be one."""
    if "://" not in text:
        return Path(text)
    parts = _split(text)
    if parts.scheme not in _SCHEMES:
        raise ValueError(
            f"a store is a file or a postgresql:// URL, not {parts.scheme}:// something"
        )
    pairs = parse_qsl(parts.query, keep_blank_values=True)
    schema = dict(pairs).get("schema", DEFAULT_SCHEMA)
    if not _SCHEMA_NAME.fullmatch(schema):
        raise ValueError(
            f"schema={schema!r}: a schema's name has small letters, digits and underscores, "
            "at most 63, no digit first, and is neither pg nor pg_ something"
        )
    query = urlencode([pair for pair in pairs if pair[0] != "schema"])
    return PostgresAddress(urlunsplit(parts._replace(query=query)), schema)

"""A tenant's account at a time, for workers that watch thresholds of accounts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from meterstream_services.accounts.history import account_at
from meterstream_services.accounts.sqlite import SqliteDirectory


def account_lookup(path: Path) -> Callable[[str, int], str | None]:
    """A function from (tenant, microseconds UTC) to its account then, None for none.

    Reads the directory in ``path`` each time; raises `AccountsUnavailable` when it cannot.
    """
    directory = SqliteDirectory(path)

    def lookup(tenant: str, time: int) -> str | None:
        return account_at(directory.histories([tenant]).get(tenant, ()), time)

    return lookup

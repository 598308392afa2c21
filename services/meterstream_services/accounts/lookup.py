"""A tenant's account at a time, for workers that watch thresholds of accounts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from meterstream_services.accounts.bounded import BoundedDirectory
from meterstream_services.accounts.history import account_at
from meterstream_services.accounts.opening import DirectoryAddress, open_directory
from meterstream_services.accounts.port import EditableDirectory

LOOKUP_SECONDS: Final = 2.0
"""How long a worker waits for one account, whatever the directory does. Counting goes on then."""


def account_lookup(address: DirectoryAddress) -> Callable[[str, int], str | None]:
    """A function from (tenant, microseconds UTC) to its account then, None for none.

    Asks the directory each time; raises `AccountsUnavailable` when it cannot, or not in time.
    """
    return lookup_in(open_directory(address))


def lookup_in(
    directory: EditableDirectory, *, seconds: float = LOOKUP_SECONDS
) -> Callable[[str, int], str | None]:
    """As `account_lookup`, in a directory that is open."""
    # One question at a time: while one hangs, the worker waits for no more than that.
    bounded = BoundedDirectory(directory, seconds=seconds, asking_max=1)

    def lookup(tenant: str, time: int) -> str | None:
        return account_at(bounded.histories([tenant]).get(tenant, ()), time)

    return lookup

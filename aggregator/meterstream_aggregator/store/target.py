"""Where a store is made anew: a place with nothing in it, and so again when that fails."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from meterstream_aggregator.errors import StoreMismatch
from meterstream_aggregator.store.address import StoreAddress


def prepare(target: StoreAddress) -> Callable[[], None]:
    """Make the place ready to be opened as a store; what to call when filling it failed.

    A file must not be there, or be empty; a schema must not be there, be empty, or have been made
    by ``meterstream migrate`` and never used. Raises `StoreMismatch` where there is something, and
    `StoreUnavailable`.
    """
    if isinstance(target, Path):
        if target.exists() and target.stat().st_size:
            raise StoreMismatch(
                f"{target} is there and is not empty; name a file that is not there"
            )
        return lambda: _remove(target)
    from meterstream_aggregator.store.postgres import target as of_schema  # noqa: PLC0415 - one of two

    return of_schema.prepare(target)


def _remove(target: Path) -> None:
    for name in (target.name, f"{target.name}-wal", f"{target.name}-shm"):
        target.with_name(name).unlink(missing_ok=True)

"""The version of a store, and the way from an older one to this program's, for either kind."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from meterstream_aggregator.errors import StoreUnavailable
from meterstream_aggregator.store import sqlite_migrations
from meterstream_aggregator.store.address import StoreAddress
from meterstream_aggregator.store.opening import require_driver
from meterstream_aggregator.store.sqlite_errors import unavailable


class Step(NamedTuple):
    """The version that it leads to, its name, and its SQL."""

    version: int
    name: str
    text: str


class Standing(NamedTuple):
    """A store's version, 0 for none yet, this program's, and what lies between the two."""

    version: int
    wanted: int
    pending: list[Step]


def standing(address: StoreAddress) -> Standing:
    """Where a store stands; nothing is changed. Blocks.

    Raises `StoreUnavailable`, and `StoreMismatch` where no way leads to this program's version.
    """
    if isinstance(address, Path):
        return _of_file(address)
    require_driver()
    from meterstream_aggregator.store.postgres import migrations  # noqa: PLC0415 - one of two

    known, pending = migrations.status(address)
    version = known[-1].version if known else 0
    return Standing(version, migrations.migrations()[-1].version, _steps(pending))


def migrate(address: StoreAddress) -> list[Step]:
    """Bring a store to this version; the steps taken just now. Blocks.

    On PostgreSQL it makes the store where there is none; a file is made by its first worker. Raises
    as `standing` does; then nothing was changed by the step that failed, nor by those behind it.
    """
    if isinstance(address, Path):
        return _steps(sqlite_migrations.migrate(address))
    require_driver()
    from meterstream_aggregator.store.postgres import migrations  # noqa: PLC0415 - one of two

    return _steps(migrations.migrate(address))


def _of_file(path: Path) -> Standing:
    if not path.exists():
        raise StoreUnavailable(f"{path}: there is no store yet; start a worker, which makes it")
    with (
        unavailable(path),
        closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as db,
    ):
        version = sqlite_migrations.version_of(path, db)
        pending = sqlite_migrations.pending(path, db)
    return Standing(version, sqlite_migrations.SCHEMA_VERSION, _steps(pending))


def _steps(found: Sequence[tuple[object, ...]]) -> list[Step]:
    return [Step(int(str(step[0])), str(step[1]), str(step[2])) for step in found]

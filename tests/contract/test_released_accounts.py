"""Accounts that an older version wrote are found by this one, and changed by it."""

from __future__ import annotations

import re
import sqlite3
import uuid
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from meterstream_aggregator.store.address import StoreAddress
from meterstream_services.accounts.model import (
    Account,
    AccountStatus,
    Merge,
    SetAccount,
    SetExternalId,
)
from meterstream_services.accounts.opening import open_directory
from meterstream_services.accounts.tables import account_tables
from meterstream_services.sql.opening import open_database
from meterstream_services.sql.port import statements
from tests.databases import Postgres, drop

if TYPE_CHECKING:
    from collections.abc import Iterator

    from meterstream_services.accounts.port import EditableDirectory

RELEASED: Final = Path(__file__).with_name("released_accounts")
"""A file of each released version but the newest, told in SQL."""
NEW_YEAR: Final = 1_767_225_600_000_000
MARCH: Final = 1_772_323_200_000_000
ACCOUNTS: Final = [
    Account("acme", "Acme GmbH & Söhne", "Europe/Berlin", 31, (("crm", "7"), ("plan", "pro"))),
    Account("bolt", status=AccountStatus.SUSPENDED),
    Account("idle", "Nobody's"),
]
HISTORIES: Final = {
    "rocket": ((0, "acme"), (NEW_YEAR, "bolt"), (MARCH, None)),
    "🛰": ((NEW_YEAR, "acme"),),
}


def _file(path: Path) -> Path:
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA journal_mode = WAL")
        db.executescript((RELEASED / "1.sql").read_text("utf-8"))
    return path


def _schema(address: StoreAddress) -> StoreAddress:
    """The same rows in tables of version 1 in PostgreSQL, where no release had them."""
    tables = account_tables()
    first = tables._replace(migrations=tables.migrations[:1])
    told = statements((RELEASED / "1.sql").read_text("utf-8"))
    accounts, spells = (
        [each for each in told if each.startswith(f'INSERT INTO "{table}"')]
        for table in ("account", "tenancy")
    )
    assert (len(accounts), len(spells)) == (3, 4)
    with closing(open_database(address, first)) as database, database.writing() as session:
        for each in (*accounts, *spells):
            session.rows(each)
    return address


@pytest.fixture(params=["sqlite", "postgres"])
def older(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[StoreAddress]:
    """Accounts of version 1."""
    if request.param == "sqlite":
        yield _file(tmp_path / "accounts.sqlite3")
        return
    postgres: Postgres = request.getfixturevalue("postgres")
    address = postgres.address(f"test_{uuid.uuid4().hex}")
    yield _schema(address)
    drop(address)


def _is_all_there(directory: EditableDirectory) -> None:
    assert directory.accounts() == ACCOUNTS
    assert directory.histories(["rocket", "🛰", "nobody"]) == HISTORIES
    assert directory.tenants_of("acme") == ["rocket", "🛰"]
    assert directory.tenants_of("bolt") == ["rocket"]


def test_older_accounts_are_found(older: StoreAddress) -> None:
    """Accounts and histories are what they were, whoever opens them first, and again later."""
    with closing(open_directory(older)) as first, closing(open_directory(older)) as second:
        _is_all_there(first)
        _is_all_there(second)
        assert first.external_ids("acme") == []
        assert first.changes(after=0) == ([], 0)

    with closing(open_directory(older)) as again:
        _is_all_there(again)


def test_older_accounts_go_on(older: StoreAddress) -> None:
    """What version 1 did not know is done to its accounts: merges, external ids, the feed."""
    with closing(open_directory(older)) as directory:
        directory.apply([SetExternalId("stripe", "cus_1", "acme"), SetAccount("bolt", name="B")])
        directory.apply([Merge("acme", "bolt", MARCH)])

        merged = directory.account("acme")
        assert merged is not None
        assert (merged.status, merged.merged_into) == (AccountStatus.MERGED, "bolt")
        assert merged.labels == ACCOUNTS[0].labels
        assert directory.histories(["🛰"]) == {"🛰": ((NEW_YEAR, "acme"), (MARCH, "bolt"))}
        assert directory.account_of("stripe", "cus_1") == "acme"
        assert [each.sequence for each in directory.changes(after=0).records] == [1, 2, 3, 4]


def _shape(path: Path) -> set[tuple[str, str, str]]:
    """Tables and indexes, without the blanks and comments of their texts."""
    with closing(sqlite3.connect(path)) as db:
        found = db.execute("SELECT type, name, coalesce(sql, '') FROM sqlite_master").fetchall()
    return {(kind, name, re.sub(r"--.*|\s+", " ", sql)) for kind, name, sql in found}


def test_an_older_file_becomes_a_new_one(tmp_path: Path) -> None:
    """Its tables are those of a file that is made today, under today's number."""
    older, new = _file(tmp_path / "older.sqlite3"), tmp_path / "new.sqlite3"
    assert len(_shape(older)) < len(_shape(_opened(new)))

    assert _shape(_opened(older)) == _shape(new)
    for path in (older, new):
        with closing(sqlite3.connect(path)) as db:
            assert db.execute("PRAGMA user_version").fetchone() == (2,)
            assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def _opened(path: Path) -> Path:
    with closing(open_directory(path)) as directory:
        directory.accounts()
    return path


def test_every_released_version_is_here() -> None:
    """Whoever adds a version keeps a file of the one before."""
    released = {path.name for path in RELEASED.iterdir()}

    assert released == {f"{n}.sql" for n in range(1, len(account_tables().migrations))}

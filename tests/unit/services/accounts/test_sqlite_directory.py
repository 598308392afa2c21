"""What only a directory in a file has to promise."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from meterstream_services.accounts.errors import AccountsUnavailable, InvalidChanges
from meterstream_services.accounts.model import Account, Assign, SetAccount, SetExternalId
from meterstream_services.accounts.opening import open_directory
from meterstream_services.accounts.tables import SqlDirectory, account_tables
from meterstream_services.sql.opening import open_database

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from meterstream_services.sql.port import Database, Row, Session, Value


def test_accounts_survive_their_process(tmp_path: Path) -> None:
    """What one directory wrote, the next one on the same file reads."""
    first = open_directory(tmp_path / "accounts.sqlite3")
    first.apply([SetAccount("a", name="A"), Assign("t", "a", 5)])
    first.close()

    second = open_directory(tmp_path / "accounts.sqlite3")

    assert second.histories(["t"]) == {"t": ((5, "a"),)}
    second.close()


def test_two_directories_share_a_file(tmp_path: Path) -> None:
    """Processes that serve the same file see each other's changes at once."""
    one = open_directory(tmp_path / "accounts.sqlite3")
    other = open_directory(tmp_path / "accounts.sqlite3")

    assert other.account("a") is None
    one.apply([SetAccount("a")])

    assert other.account("a") is not None
    one.close()
    other.close()


def test_a_missing_directory_is_unavailable(tmp_path: Path) -> None:
    """A path that cannot hold a file is an outage that names the path, not a crash."""
    directory = open_directory(tmp_path / "nowhere" / "accounts.sqlite3")

    with pytest.raises(AccountsUnavailable, match=r"nowhere.*cannot be used"):
        directory.accounts()


def test_another_database_is_left_alone(tmp_path: Path) -> None:
    """A SQLite file that is no file of accounts is refused and stays byte for byte the same."""
    path = tmp_path / "store.sqlite3"
    foreign = sqlite3.connect(path)
    foreign.execute("CREATE TABLE usage (a)")
    foreign.commit()
    foreign.close()
    before = path.read_bytes()

    with pytest.raises(AccountsUnavailable, match="is no file of accounts"):
        open_directory(path).accounts()

    assert path.read_bytes() == before


def test_a_file_of_garbage_is_unavailable(tmp_path: Path) -> None:
    """A file that is no database at all is refused with its name."""
    path = tmp_path / "accounts.sqlite3"
    path.write_bytes(b"not a database" * 100)

    with pytest.raises(AccountsUnavailable, match=r"accounts\.sqlite3"):
        open_directory(path).accounts()


def test_an_outage_heals(tmp_path: Path) -> None:
    """A directory whose file could not be opened works once it can be."""
    home = tmp_path / "later"
    directory = open_directory(home / "accounts.sqlite3")
    with pytest.raises(AccountsUnavailable):
        directory.accounts()

    home.mkdir()

    assert directory.accounts() == []
    directory.close()


def test_a_refused_change_leaves_the_file_free(tmp_path: Path) -> None:
    """After a refusal the next writer need not wait for a lock that nobody holds."""
    directory = open_directory(tmp_path / "accounts.sqlite3")
    with pytest.raises(InvalidChanges):
        directory.apply([Assign("t", "ghost", None)])

    assert directory.apply([SetAccount("a")]).accounts_created == 1
    directory.close()


class OneStatement:
    """A `Database` that answers single statements, and is asked for no transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.asked = 0

    def rows(self, statement: str, parameters: Sequence[Value] = ()) -> list[Row]:
        """Counted."""
        self.asked += 1
        return self._database.rows(statement, parameters)

    def reading(self) -> AbstractContextManager[Session]:
        """Never."""
        raise AssertionError("a lookup began a transaction")

    writing = reading

    def close(self) -> None:
        """The database behind it."""
        self._database.close()


def test_a_lookup_is_one_statement(tmp_path: Path) -> None:
    """What is asked many times a second takes no transaction: on a network each is a round trip."""
    path = tmp_path / "accounts.sqlite3"
    with closing(open_directory(path)) as written:
        written.apply([SetAccount("a"), Assign("t", "a", None), SetExternalId("s", "1", "a")])
    database = OneStatement(open_database(path, account_tables()))

    with closing(SqlDirectory(database)) as directory:
        assert directory.histories(["t", "u"]) == {"t": ((0, "a"),)}
        assert directory.account("a") == Account("a")
        assert directory.account_of("s", "1") == "a"
        assert directory.tenants_of("a") == ["t"]
        assert directory.external_ids("a") == [("s", "1")]

    assert database.asked == 5

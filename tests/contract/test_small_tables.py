"""What the small tables of services promise, on SQLite and on PostgreSQL."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
import uuid
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from meterstream_aggregator.store.address import PostgresAddress, StoreAddress
from meterstream_aggregator.store.postgres.connection import connect
from meterstream_services.sql.opening import open_database
from meterstream_services.sql.port import Database, DatabaseUnavailable, Session, Tables
from tests.databases import Postgres, drop

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

FIRST = """
-- Notes; each has a number.
CREATE TABLE note (
    name   TEXT PRIMARY KEY,
    number INTEGER NOT NULL
) WITHOUT ROWID;
"""
SECOND = "ALTER TABLE note ADD COLUMN words TEXT;\nCREATE INDEX note_by_number ON note (number);\n"
TABLES = Tables("notes", 0x6D737431, (FIRST,))
GROWN = Tables("notes", 0x6D737431, (FIRST, SECOND))
PUT = "INSERT INTO note (name, number) VALUES (?, ?)"


@pytest.fixture(params=["sqlite", "postgres"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[StoreAddress]:
    """An empty place, on each database."""
    if request.param == "sqlite":
        yield tmp_path / "notes.sqlite3"
        return
    postgres: Postgres = request.getfixturevalue("postgres")
    found = postgres.address(f"test_{uuid.uuid4().hex}")
    yield found
    drop(found)


@pytest.fixture
def postgres_place(postgres: Postgres) -> Iterator[PostgresAddress]:
    """An empty schema of PostgreSQL."""
    found = postgres.address(f"test_{uuid.uuid4().hex}")
    yield found
    drop(found)


def _names(database: Database) -> list[str]:
    with database.reading() as session:
        return [row[0] for row in session.rows("SELECT name FROM note ORDER BY name")]


def _put(
    database: Database,
    name: str,
    *,
    first: Callable[[Session], object] = id,
    then: Callable[[Session], object] = id,
) -> None:
    """Write a note, and do something before or after it in the same transaction."""
    with database.writing() as session:
        first(session)
        session.rows(PUT, (name, 1))
        then(session)


def _divide(_: Session) -> None:
    raise ZeroDivisionError


def _ask_for_nothing(session: Session) -> None:
    session.rows("SELECT nothing FROM nowhere")


def _ask_for_nothing_unnoticed(session: Session) -> None:
    with suppress(Exception):
        _ask_for_nothing(session)


def _repeat(session: Session) -> None:
    session.many(PUT, [("lost", 1), ("lost", 2)])


def test_what_is_written_is_kept(address: StoreAddress) -> None:
    """What one process committed, the next one reads; numbers have 64 bits."""
    with closing(open_database(address, TABLES)) as first, first.writing() as session:
        session.rows(PUT, ("big", 2**62))
        session.many(PUT, [("a", -1), ("b", 0)])

    with closing(open_database(address, TABLES)) as second, second.reading() as session:
        found = session.rows("SELECT name, number FROM note ORDER BY name")

    assert found == [("a", -1), ("b", 0), ("big", 2**62)]


def test_texts_sort_by_code_point(address: StoreAddress) -> None:
    """The order of texts is that of Python in every database, and LIKE takes a percent sign."""
    names = ["b", "A", "a", "é", "Z", "_", "🛰", "ab"]
    with closing(open_database(address, TABLES)) as database:
        with database.writing() as session:
            session.many(PUT, ((name, 1) for name in names))

        with database.reading() as session:
            like = session.rows("SELECT count(*) FROM note WHERE name LIKE 'a%'")

        assert _names(database) == sorted(names)
        assert like[0][0] in {2, 3}  # SQLite's LIKE takes A for a.


def test_a_block_that_raises_leaves_nothing(address: StoreAddress) -> None:
    """All of a transaction is kept or none, whatever ends it, and the next one is not held up."""
    with closing(open_database(address, TABLES)) as database:
        for failing in (_divide, _ask_for_nothing, _repeat):
            with pytest.raises((ZeroDivisionError, DatabaseUnavailable)) as caught:
                _put(database, "lost", then=failing)
            assert not getattr(caught.value, "in_doubt", False)

        assert _names(database) == []


def test_a_failure_that_is_swallowed_is_no_success(postgres_place: PostgresAddress) -> None:
    """PostgreSQL rolls back at COMMIT what had a failed statement; that is told."""
    with closing(open_database(postgres_place, TABLES)) as database:
        with pytest.raises(DatabaseUnavailable) as caught:
            _put(database, "lost", then=_ask_for_nothing_unnoticed)

        assert not caught.value.in_doubt
        assert _names(database) == []


def test_readers_see_one_moment(address: StoreAddress) -> None:
    """What is committed while a reader reads is not in its snapshot, and it need not wait."""
    with closing(open_database(address, TABLES)) as database:
        with database.reading() as reader:
            before = reader.rows("SELECT count(*) FROM note")
            with database.writing() as writer:
                writer.rows(PUT, ("a", 1))
            after = reader.rows("SELECT count(*) FROM note")

        assert before == after == [(0,)]
        assert _names(database) == ["a"]


def test_one_statement_needs_no_transaction(address: StoreAddress) -> None:
    """It reads what is committed, also while a writer writes, and its errors are the database's."""
    with closing(open_database(address, TABLES)) as database:
        query = "SELECT name FROM note WHERE number >= ? ORDER BY name"
        assert database.rows(query, (0,)) == []
        with database.writing() as writer:
            writer.add("note", ("name", "number"), [("a", 1), ("tab\tline\n\\.", -(2**62))])
            assert database.rows(query, (0,)) == []

        assert database.rows(query, (0,)) == [("a",)]
        assert database.rows("SELECT name, number FROM note WHERE number < 0") == [
            ("tab\tline\n\\.", -(2**62))
        ]
        with pytest.raises(DatabaseUnavailable) as caught:
            database.rows("SELECT nothing FROM nowhere")
        assert not caught.value.in_doubt
        assert database.rows(query, (2,)) == []


def test_rows_that_are_there_are_not_added(address: StoreAddress) -> None:
    """New rows are added all or none; null is null."""
    grown = ("name", "number", "words")
    with closing(open_database(address, GROWN)) as database:
        with database.writing() as session:
            session.add("note", grown, iter([("a", 1, None), ("b", 2, "")]))
        with pytest.raises(DatabaseUnavailable), database.writing() as session:
            session.add("note", grown, [("c", 3, "x"), ("a", 9, "y")])

        assert database.rows("SELECT name, number, words FROM note ORDER BY name") == [
            ("a", 1, None),
            ("b", 2, ""),
        ]


def test_what_is_asked_often_is_prepared(postgres_place: PostgresAddress) -> None:
    """PostgreSQL parses and plans a lookup once a session, not each time."""
    with closing(open_database(postgres_place, TABLES)) as database:
        for number in range(7):
            database.rows("SELECT name FROM note WHERE number = ?", (number,))

        prepared = database.rows("SELECT statement FROM pg_prepared_statements")

    assert prepared == [("SELECT name FROM note WHERE number = $1",)]


def test_readers_cannot_write_in_postgresql(postgres_place: PostgresAddress) -> None:
    """A reader that writes is refused by the database."""
    with (
        closing(open_database(postgres_place, TABLES)) as database,
        pytest.raises(DatabaseUnavailable),
        database.reading() as session,
    ):
        session.rows(PUT, ("a", 1))


_COUNTING = """
import sys
from meterstream_aggregator.store.address import parse_address
from meterstream_services.sql.opening import open_database
from tests.contract.test_small_tables import GROWN
database = open_database(parse_address(sys.argv[1]), GROWN)
for _ in range(20):
    with database.writing() as session:
        rows = session.rows("SELECT number FROM note WHERE name = 'counter'")
        number = rows[0][0] if rows else 0
        session.rows(
            "INSERT INTO note (name, number) VALUES ('counter', ?)"
            " ON CONFLICT (name) DO UPDATE SET number = excluded.number",
            (number + 1,),
        )
database.close()
"""


def test_processes_migrate_and_write_in_turn(address: StoreAddress) -> None:
    """Processes that begin at once make the tables once, and lose no step of a counter."""
    text = address.full() if isinstance(address, PostgresAddress) else str(address)
    started = [
        subprocess.Popen([sys.executable, "-c", _COUNTING, text], stderr=subprocess.PIPE, text=True)
        for _ in range(4)
    ]

    said = [process.communicate(timeout=60)[1] for process in started]

    assert [process.returncode for process in started] == [0] * 4, said
    with closing(open_database(address, GROWN)) as database, database.reading() as session:
        assert session.rows("SELECT number FROM note") == [(80,)]


def test_older_tables_are_brought_up_to_date(address: StoreAddress) -> None:
    """What an older version kept stays, and gets what the newer one adds."""
    with closing(open_database(address, TABLES)) as old, old.writing() as session:
        session.rows(PUT, ("kept", 7))

    with closing(open_database(address, GROWN)) as new, new.reading() as session:
        assert session.rows("SELECT name, number, words FROM note") == [("kept", 7, None)]


def test_tables_of_a_newer_version_are_refused(address: StoreAddress) -> None:
    """A program that is older than the tables touches nothing."""
    with closing(open_database(address, GROWN)) as new, new.writing() as session:
        session.rows(PUT, ("a", 1))

    with (
        closing(open_database(address, TABLES)) as old,
        pytest.raises(DatabaseUnavailable, match="version"),
        old.writing(),
    ):
        pytest.fail("a newer version's tables were opened")


def test_a_migration_that_fails_leaves_nothing(address: StoreAddress) -> None:
    """A migration is made whole or not at all, and can be made later."""
    broken = TABLES._replace(migrations=(FIRST, SECOND + "CREATE NONSENSE;\n"))
    with (
        closing(open_database(address, broken)) as database,
        pytest.raises(DatabaseUnavailable),
        database.reading(),
    ):
        pytest.fail("half a migration was taken for one")

    with closing(open_database(address, GROWN)) as database:
        assert _names(database) == []


def test_parts_share_a_schema_and_not_a_file(address: StoreAddress) -> None:
    """In PostgreSQL several parts live side by side; another part's file is refused as it is."""
    other = Tables("other", 0x6D737432, ("CREATE TABLE other (name TEXT PRIMARY KEY);\n",))
    with closing(open_database(address, TABLES)) as first, first.writing() as session:
        session.rows(PUT, ("a", 1))

    with closing(open_database(address, other)) as second:
        if isinstance(address, PostgresAddress):
            with second.writing() as session:
                session.rows("INSERT INTO other (name) VALUES ('x')")
        else:
            before = address.read_bytes()
            with pytest.raises(DatabaseUnavailable, match="is no file of other"), second.reading():
                pytest.fail("another's file was opened")
            assert address.read_bytes() == before

    with closing(open_database(address, TABLES)) as first:
        assert _names(first) == ["a"]


def test_threads_have_transactions_of_their_own(address: StoreAddress) -> None:
    """Threads at once neither lose nor mix what they write, and few connections stay behind."""
    with closing(open_database(address, TABLES)) as database:

        def write(number: int) -> None:
            for step in range(5):
                with database.writing() as session:
                    session.rows(PUT, (f"{number}.{step}", number))

        threads = [threading.Thread(target=write, args=(number,)) for number in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert len(_names(database)) == 60


def test_it_is_closed_twice_and_used_again(address: StoreAddress) -> None:
    """Closing is idempotent, and does not tear a transaction that is under way."""
    database = open_database(address, TABLES)
    with database.writing() as session:
        session.rows(PUT, ("a", 1))
        database.close()
    database.close()

    assert _names(database) == ["a"]


def _end_sessions(address: PostgresAddress) -> None:
    """End every session of the part, as a server does that is started anew."""
    with connect(address, "migrate") as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
            " WHERE application_name = 'meterstream notes' AND pid <> pg_backend_pid()"
        )


def test_lost_connections_are_replaced(postgres_place: PostgresAddress) -> None:
    """Sessions that ended while they lay in the pool cost nobody an answer."""
    with closing(open_database(postgres_place, TABLES)) as database:
        with database.reading(), database.reading(), database.writing() as session:
            session.rows(PUT, ("a", 1))
        _end_sessions(postgres_place)

        assert _names(database) == ["a"]
        _end_sessions(postgres_place)
        with database.writing() as session:
            session.rows(PUT, ("b", 1))
        assert _names(database) == ["a", "b"]
        _end_sessions(postgres_place)
        assert database.rows("SELECT name FROM note ORDER BY name") == [("a",), ("b",)]


def test_a_commit_without_an_answer_is_in_doubt(postgres_place: PostgresAddress) -> None:
    """Whoever loses the session at COMMIT hears that it may be kept; before it, that it is not."""
    with closing(open_database(postgres_place, TABLES)) as database:
        with pytest.raises(DatabaseUnavailable) as late:
            _put(database, "a", then=lambda _: _end_sessions(postgres_place))
        with pytest.raises(DatabaseUnavailable) as early:
            _put(database, "a", first=lambda _: _end_sessions(postgres_place))

        assert (late.value.in_doubt, early.value.in_doubt) == (True, False)
        assert "may or may not be kept" in str(late.value)
        assert _names(database) == []


def test_an_outage_names_no_password() -> None:
    """A database that nobody answers for is unavailable, and the message shows no password."""
    away = PostgresAddress("postgresql://user:secret-word@127.0.0.1:1/db")

    with (
        closing(open_database(away, TABLES)) as database,
        pytest.raises(DatabaseUnavailable) as caught,
        database.reading(),
    ):
        pytest.fail("nobody listens there")

    assert "secret-word" not in str(caught.value)
    assert "127.0.0.1" in str(caught.value)


def test_an_outage_of_a_file_heals(tmp_path: Path) -> None:
    """A file that could not be opened is opened once it can be; garbage is refused by name."""
    home = tmp_path / "later"
    with closing(open_database(home / "notes.sqlite3", TABLES)) as database:
        with pytest.raises(DatabaseUnavailable, match="cannot be used"), database.reading():
            pytest.fail("there is no such directory")
        home.mkdir()
        assert _names(database) == []

    (home / "garbage").write_bytes(b"not a database" * 100)
    with (
        closing(open_database(home / "garbage", TABLES)) as database,
        pytest.raises(DatabaseUnavailable, match="garbage"),
        database.reading(),
    ):
        pytest.fail("garbage was opened")


def test_a_file_is_for_its_owner_alone(tmp_path: Path) -> None:
    """Whatever the process's mask: other users of the machine read neither file nor journal."""
    path = tmp_path / "notes.sqlite3"
    with closing(open_database(path, TABLES)) as database:
        with database.writing() as session:
            session.rows(PUT, ("a", 1))
        modes = {each.name: each.stat().st_mode & 0o777 for each in tmp_path.iterdir()}

    assert modes["notes.sqlite3"] == 0o600
    assert set(modes.values()) == {0o600}


def test_a_foreign_file_stays_as_it_is(tmp_path: Path) -> None:
    """A database of somebody else is refused and stays byte for byte the same."""
    path = tmp_path / "foreign.sqlite3"
    with closing(sqlite3.connect(path)) as foreign:
        foreign.execute("CREATE TABLE usage (a)")
        foreign.commit()
    before = path.read_bytes()

    with (
        closing(open_database(path, TABLES)) as database,
        pytest.raises(DatabaseUnavailable, match="is no file of notes"),
        database.reading(),
    ):
        pytest.fail("a foreign file was opened")

    assert path.read_bytes() == before

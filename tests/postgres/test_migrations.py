"""The store's tables on PostgreSQL: made once, in order, remembered, and refused when altered."""

from __future__ import annotations

import json
import threading
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

from meterstream_aggregator.errors import StoreMismatch, StoreUnavailable
from meterstream_aggregator.store.opening import open_reader, open_store
from meterstream_aggregator.store.postgres import migrations
from meterstream_aggregator.store.postgres.connection import connect
from meterstream_services.cli.app import app
from tests.databases import drop, rows

if TYPE_CHECKING:
    from collections.abc import Iterator

    from meterstream_aggregator.store.address import PostgresAddress
    from tests.databases import Postgres


@pytest.fixture
def empty(postgres: Postgres) -> Iterator[PostgresAddress]:
    """A schema that is not there yet."""
    address = postgres.address(f"empty_{threading.get_ident()}")
    drop(address)
    yield address
    drop(address)


def test_a_store_is_made_once(empty: PostgresAddress) -> None:
    """The first run makes it, the second finds nothing to do, and its identity stays."""
    assert [step.name for step in migrations.migrate(empty)] == ["001_begin"]
    with closing(open_store(empty)) as store:
        identity = store.identity()
    assert migrations.migrate(empty) == []

    with closing(open_store(empty)) as store:
        assert store.identity() == identity
    assert len(identity) == 32


def test_everybody_may_migrate_at_once(empty: PostgresAddress) -> None:
    """Five at once, as five pods that start: one makes the store, the others find it made."""
    made: list[int] = []
    threads = [
        threading.Thread(target=lambda: made.append(len(migrations.migrate(empty))))
        for _ in range(5)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(made) == [0, 0, 0, 0, len(migrations.migrations())]


def test_without_tables_the_command_is_told(empty: PostgresAddress) -> None:
    """Workers and readers wait, and say what makes the store."""
    for opened in (open_store, open_reader):
        with pytest.raises(StoreUnavailable, match="meterstream migrate --store"):
            opened(empty)


def test_another_version_is_refused(postgres_address: PostgresAddress) -> None:
    """A newer store by its version, an older one with the command, an altered file by its name."""
    _change(postgres_address, "INSERT INTO migration VALUES (99, '099_later', 'x')")
    for opened in (open_store, open_reader):
        with pytest.raises(StoreMismatch, match="version 99, newer"):
            opened(postgres_address)
    with pytest.raises(StoreMismatch, match="version 99, newer"):
        migrations.migrate(postgres_address)

    _change(postgres_address, "DELETE FROM migration WHERE version = 99")
    _change(postgres_address, "UPDATE migration SET checksum = 'other' WHERE version = 1")
    for act in (open_store, open_reader, migrations.migrate):
        with pytest.raises(StoreMismatch, match=r"another file 001_begin\.sql"):
            act(postgres_address)


def test_an_older_store_names_the_command(
    postgres_address: PostgresAddress, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A program with one migration more refuses to work before it was run, and then works."""
    text = "CREATE TABLE further (n integer);"
    more = [*migrations.migrations(), migrations.Migration(2, "002_further", text, "sum")]
    monkeypatch.setattr(migrations, "migrations", lambda: more)
    with pytest.raises(StoreMismatch, match=r"version 1, .* version 2; run: meterstream migrate"):
        open_store(postgres_address)

    assert [step.name for step in migrations.migrate(postgres_address)] == ["002_further"]
    open_store(postgres_address).close()


def test_a_migration_that_fails_leaves_nothing(
    postgres_address: PostgresAddress, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its tables and its row go together: the next run begins with it again."""
    text = "CREATE TABLE further (n integer); SELECT 1 / 0;"
    more = [*migrations.migrations(), migrations.Migration(2, "002_further", text, "sum")]
    monkeypatch.setattr(migrations, "migrations", lambda: more)
    with pytest.raises(Exception, match="division by zero"):
        migrations.migrate(postgres_address)

    assert rows(postgres_address, "SELECT version FROM migration") == [(1,)]
    assert rows(postgres_address, "SELECT to_regclass('further')::text") == [(None,)]


def test_the_command_tells_what_it_does(empty: PostgresAddress) -> None:
    """--status before and after, --dry-run without a change, JSON as everywhere."""

    def run(*arguments: str) -> tuple[int, str]:
        store = f"{empty.url}?schema={empty.schema}"
        result = CliRunner().invoke(app, ["migrate", "--store", store, *arguments])
        return result.exit_code, result.stdout

    status, text = run("--status", "--format", "json")
    assert status == 1
    assert json.loads(text)["pending"] == ["001_begin"]
    status, text = run("--dry-run", "--roles")
    assert status == 0
    assert "CREATE TABLE binding" in text
    assert f'GRANT USAGE ON SCHEMA "{empty.schema}"' in text
    status, text = run("--format", "json")
    told = json.loads(text)
    assert (status, told["applied"], told["version"], told["pending"]) == (0, ["001_begin"], 1, [])
    assert told["store"] == str(empty)
    assert run("--status")[0] == 0


def _change(address: PostgresAddress, statement: str) -> None:
    with connect(address, "migrate") as connection:
        connection.execute(statement.encode())

"""Roles of least right: a reader cannot write, a worker cannot make or drop a table."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from meterstream_aggregator.errors import StoreMismatch
from meterstream_aggregator.store.opening import open_reader, open_store
from meterstream_aggregator.store.postgres import roles
from meterstream_aggregator.store.postgres.connection import Purpose, connect
from meterstream_aggregator.store.postgres.errors import unavailable
from tests.contract.stores import BINDING, CATALOGUE, added, commit, row, session_key, usage

if TYPE_CHECKING:
    from collections.abc import Iterator

    from meterstream_aggregator.store.address import PostgresAddress


@pytest.fixture
def logins(postgres_address: PostgresAddress) -> Iterator[dict[str, PostgresAddress]]:
    """A login for each role, and nothing more: no right to temporary tables either."""
    roles.grant(postgres_address)
    names = roles.names(postgres_address)
    schema = postgres_address.schema
    with connect(postgres_address, "migrate") as connection:
        for name in names:
            connection.execute(
                f"CREATE ROLE {name}_login LOGIN PASSWORD 'pw' IN ROLE {name}".encode()
            )
    parts = urlsplit(postgres_address.url)
    place = parts.netloc.rpartition("@")[2]
    yield {
        name.removeprefix(f"{schema}_"): postgres_address._replace(
            url=parts._replace(netloc=f"{name}_login:pw@{place}").geturl()
        )
        for name in names
    }
    with connect(postgres_address, "migrate") as connection:
        connection.execute(f"DROP OWNED BY {', '.join(names)}".encode())
        for name in names:
            connection.execute(f"DROP ROLE {name}_login, {name}".encode())


def _refused(address: PostgresAddress, purpose: Purpose, statement: str) -> None:
    with (
        connect(address, purpose) as connection,
        pytest.raises(StoreMismatch, match="meterstream migrate --roles"),
        unavailable(address),
    ):
        connection.execute(statement.encode())


def test_a_worker_works_and_changes_no_table(logins: dict[str, PostgresAddress]) -> None:
    """All that a worker does is allowed to it, and nothing with tables is."""
    worker = logins["worker"]
    with closing(open_store(worker)) as store:
        store.bind(BINDING, CATALOGUE)
        claim = store.claim(0, "w")
        commit(store, claim, added({row(): (1, 5), row(scale=2): (1, -7)}))
        assert store.known_sessions([session_key("s")]) == {}

    for statement in (
        "DROP TABLE usage",
        "ALTER TABLE usage ADD COLUMN more integer",
        "TRUNCATE usage",
        "CREATE TABLE more (n integer)",
        "INSERT INTO migration VALUES (9, '', '')",
    ):
        _refused(worker, "worker", statement)


def test_a_reader_reads_and_writes_nothing(
    postgres_address: PostgresAddress, logins: dict[str, PostgresAddress]
) -> None:
    """Its answers are the worker's rows; every way to change one is refused."""
    with closing(open_store(postgres_address)) as store:
        store.bind(BINDING, CATALOGUE)
        commit(store, store.claim(0, "w"), added({row(): (1, 5)}))
    with closing(open_reader(logins["reader"])) as reader:
        assert list(usage(reader).values()) == [(1, 5)]

    for statement in (
        "DELETE FROM usage",
        "UPDATE position SET next_offset = 0",
        "INSERT INTO late VALUES (1, 1, 1, 1, 1)",
        "DROP TABLE usage",
    ):
        _refused(logins["reader"], "worker", statement)
    with (
        closing(open_store(logins["reader"])) as thief,
        pytest.raises(StoreMismatch, match="may not do that"),
    ):
        thief.claim(0, "thief")


def test_granting_again_changes_nothing(postgres_address: PostgresAddress) -> None:
    """It may be run at every deployment."""
    assert roles.grant(postgres_address) == roles.grant(postgres_address)
    with connect(postgres_address, "migrate") as connection:
        names = ", ".join(roles.names(postgres_address))
        connection.execute(f"DROP OWNED BY {names}".encode())
        connection.execute(f"DROP ROLE {names}".encode())

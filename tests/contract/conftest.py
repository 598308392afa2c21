"""Every implementation of the store, each in a fresh place."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

import pytest

from meterstream_aggregator.store.memory import MemoryStore
from meterstream_aggregator.store.opening import open_reader, open_store
from meterstream_aggregator.store.postgres.connection import connect
from meterstream_services.accounts.memory import MemoryDirectory
from meterstream_services.accounts.opening import open_directory
from tests.contract.stores import BINDING, CATALOGUE, Place
from tests.databases import drop

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from meterstream_aggregator.store.address import PostgresAddress, StoreAddress
    from meterstream_aggregator.store.port import Store, StoreReader
    from meterstream_services.accounts.port import EditableDirectory
    from tests.databases import Postgres


@pytest.fixture(params=["memory", "sqlite", "postgres"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    """A fresh place for each test, in each implementation."""
    opened: list[Store | StoreReader] = []
    memory = MemoryStore()
    address: StoreAddress = tmp_path / "s.sqlite3"
    if request.param == "postgres":
        address = request.getfixturevalue("postgres_address")

    def open_one() -> Store:
        store = memory if request.param == "memory" else open_store(address)
        opened.append(store)
        return store

    def reader() -> StoreReader:
        found = memory if request.param == "memory" else open_reader(address)
        opened.append(found)
        return found

    yield Place(open_one, reader)
    for each in opened:
        each.close()


@pytest.fixture
def store(place: Place) -> Store:
    """A store bound to the catalogue of the tests."""
    store = place.open()
    store.bind(BINDING, CATALOGUE)
    return store


@pytest.fixture(scope="module")
def accounts_schema(postgres: Postgres) -> Iterator[PostgresAddress]:
    """One schema of PostgreSQL for these tests; each empties the tables that it finds there."""
    address = postgres.address(f"test_{uuid.uuid4().hex}")
    yield address
    drop(address)


@pytest.fixture(params=["memory", "sqlite", "postgres"])
def directory(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[EditableDirectory]:
    """Each implementation, empty."""
    made: EditableDirectory
    if request.param == "memory":
        made = MemoryDirectory()
    elif request.param == "sqlite":
        made = open_directory(tmp_path / "accounts.sqlite3")
    else:
        address: PostgresAddress = request.getfixturevalue("accounts_schema")
        made = open_directory(address)
        made.accounts(limit=1)
        tables = "tenancy, external_id, account, account_change"
        with connect(address, "migrate") as connection:
            connection.execute(f"TRUNCATE {tables}".encode())
    yield made
    made.close()

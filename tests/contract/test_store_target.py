"""Where a store is made anew: only where nothing is, and nothing is left when it fails."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from meterstream_aggregator.errors import StoreMismatch
from meterstream_aggregator.store.opening import open_reader, open_store
from meterstream_aggregator.store.target import prepare
from tests.contract.filling import change_schema, columns_of_schema, fill_schema
from tests.contract.stores import BINDING, CATALOGUE, added, commit, row
from tests.databases import drop, rows

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from meterstream_aggregator.store.address import PostgresAddress, StoreAddress
    from tests.databases import Postgres


@pytest.fixture
def nowhere(postgres_address: PostgresAddress) -> Iterator[PostgresAddress]:
    """A schema that is not there; whatever a test makes of it goes."""
    address = postgres_address._replace(schema=f"{postgres_address.schema[:40]}_new")
    yield address
    drop(address)


def _fold_something(target: StoreAddress) -> None:
    with closing(open_store(target)) as store:
        store.bind(BINDING, CATALOGUE)
        commit(store, store.claim(0, "rebuild"), added({row(): (1, 1)}))
    with closing(open_reader(target)) as reader:
        assert reader.tenants() == ["acme"]


def _schemas(address: PostgresAddress) -> list[str]:
    found = rows(address, "SELECT nspname::text FROM pg_catalog.pg_namespace")
    return [str(name) for (name,) in found]


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    """Or is empty: it is made, and is gone after a failure, with what SQLite keeps beside it."""
    for name in ("new.sqlite3", "empty.sqlite3"):
        target = tmp_path / name
        if name.startswith("empty"):
            target.touch()
        undo = prepare(target)
        _fold_something(target)
        with pytest.raises(StoreMismatch, match="is there and is not empty"):
            prepare(target)
        undo()
    assert list(tmp_path.iterdir()) == []


def test_a_schema_that_is_not_there(nowhere: PostgresAddress) -> None:
    """It is made with its tables, and gone after a failure."""
    undo = prepare(nowhere)
    _fold_something(nowhere)
    with pytest.raises(StoreMismatch, match="name a schema that is not there"):
        prepare(nowhere)

    undo()

    assert nowhere.schema not in _schemas(nowhere)
    prepare(nowhere)
    _fold_something(nowhere)


def test_a_schema_that_somebody_made_for_it(nowhere: PostgresAddress) -> None:
    """An empty one gets its tables and keeps none after a failure."""
    change_schema(nowhere, f'CREATE SCHEMA "{nowhere.schema}"')

    undo = prepare(nowhere)
    _fold_something(nowhere)
    undo()

    assert nowhere.schema in _schemas(nowhere)
    assert columns_of_schema(nowhere) == {}


def test_a_store_that_was_never_used(postgres_address: PostgresAddress) -> None:
    """Made by `meterstream migrate`: it is filled, and never used again after a failure."""
    named = rows(postgres_address, "SELECT identity FROM binding")
    undo = prepare(postgres_address)
    _fold_something(postgres_address)

    undo()

    assert rows(postgres_address, "SELECT identity FROM binding") == named
    with closing(open_reader(postgres_address)) as reader:
        assert (reader.topic(), reader.positions(), reader.tenants()) == (None, [], [])
    prepare(postgres_address)


@pytest.mark.parametrize("made", ["filled", "bound", "of others"])
def test_a_schema_with_something_in_it_is_left_alone(
    made: str, postgres: Postgres, postgres_address: PostgresAddress
) -> None:
    """Rows of any table, a topic that it belongs to, or tables that are not ours."""
    address = postgres_address
    if made == "filled":
        fill_schema(address)
    elif made == "bound":
        with closing(open_store(address)) as store:
            store.bind(BINDING, CATALOGUE)
    else:
        change_schema(address, "DROP TABLE migration", "DELETE FROM binding")
    tables = sorted(columns_of_schema(address))

    with pytest.raises(StoreMismatch, match="has tables with something in them"):
        prepare(address)

    assert sorted(columns_of_schema(address)) == tables

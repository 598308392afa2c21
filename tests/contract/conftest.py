"""Every implementation of the store, each in a fresh place."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from meterstream_aggregator.store.memory import MemoryStore
from meterstream_aggregator.store.opening import open_reader, open_store
from tests.contract.stores import BINDING, CATALOGUE, Place

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from meterstream_aggregator.store.address import StoreAddress
    from meterstream_aggregator.store.port import Store, StoreReader


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

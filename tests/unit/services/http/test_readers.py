"""Requests and the store: a reader each, closed whatever happens, over real stores."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import httpx
import pytest

from meterstream_aggregator.catalogue import MINUTE
from meterstream_aggregator.catalogue_file import parse_catalogue
from meterstream_aggregator.changes import Changes, SeriesKey, UsageKey, usage_deltas
from meterstream_aggregator.store.opening import open_store
from meterstream_aggregator.store.port import Advance, TopicBinding
from meterstream_aggregator.store.postgres.migrations import migrate
from meterstream_aggregator.store.sqlite_reader import SqliteReader, open_reader
from meterstream_services.http.app import create_app
from meterstream_services.http.settings import Settings
from tests.databases import drop
from tests.unit.services.http.conftest import CATALOGUE, moment

if TYPE_CHECKING:
    from pathlib import Path

    from fastapi import FastAPI

    from meterstream_aggregator.store.address import StoreAddress
    from meterstream_aggregator.store.port import Store
    from tests.databases import Postgres

QUESTION = "/v1/usage?meter=hourly&from=2026-03-01&to=2026-03-02&total=true"


def _get(app: FastAPI, url: str) -> httpx.Response:
    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return await client.get(url)

    return asyncio.run(ask())


def _commit(store: Store, offset: int) -> None:
    """One transaction that adds one to each of 24 windows."""
    start = moment("2026-03-01")
    meter = parse_catalogue(CATALOGUE).meter("hourly")
    series = SeriesKey(0, "t", meter.name, (), meter.version)
    rows = {UsageKey(series, start + n * 60 * MINUTE, 0, 0): (1, 1) for n in range(24)}
    changes = Changes(usage=usage_deltas(meter, rows))
    previous = offset - 1 or None
    store.commit([Advance(0, 1, previous, offset - 1, offset, start, 24, 0, 0)], changes)


def _open(address: StoreAddress) -> Store:
    store = open_store(address)
    store.bind(TopicBinding("meterstream.events", "id", 1), parse_catalogue(CATALOGUE))
    store.claim(0, "w")
    return store


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_answers_come_from_one_state(
    request: pytest.FixtureRequest, kind: str, tmp_path: Path
) -> None:
    """While a worker commits, every answer is the whole of some commit, never a part of one."""
    address: StoreAddress = tmp_path / "store.sqlite3"
    if kind == "postgres":
        address = request.getfixturevalue("postgres_address")
    store = _open(address)
    app = create_app(Settings(address, tmp_path / "accounts.sqlite3"))
    asked: list[int] = []

    def ask(_: int) -> None:
        asked.append(int(_get(app, QUESTION).json()["rows"][0]["value"]))

    with ThreadPoolExecutor(2) as pool:
        waiting = [pool.submit(ask, n) for n in range(30)]
        for offset in range(1, 41):
            _commit(store, offset)
        for one in waiting:
            one.result()
    store.close()
    app.state.parts.directory.close()

    assert [value % 24 for value in asked] == [0] * 30
    assert _get(app, QUESTION).json()["rows"][0]["value"] == str(40 * 24)
    asyncio.run(_shut_down(app))


async def _shut_down(app: FastAPI) -> None:
    """What the server does at its end: the directory and what was kept of connections go."""
    async with app.router.lifespan_context(app):
        pass


def test_a_schema_may_come_later(postgres: Postgres, tmp_path: Path) -> None:
    """Without a store the service is not ready and says why; made meanwhile, it answers."""
    with postgres.store() as address:
        drop(address)
        app = create_app(Settings(address, tmp_path / "accounts.sqlite3"))
        before = _get(app, "/health/ready")
        migrate(address)
        unbound = _get(app, "/health/ready")
        _open(address).close()
        after = _get(app, "/health/ready").status_code
        asyncio.run(_shut_down(app))

    assert (before.status_code, unbound.status_code, after) == (503, 503, 200)
    assert "there is no store yet; make it: meterstream migrate" in before.text
    assert "no worker has bound this store yet" in unbound.text


def test_readers_are_closed(tmp_path: Path) -> None:
    """Answered, refused or failed: each request closes the reader it opened."""
    _open(tmp_path / "store.sqlite3").close()
    closed: list[bool] = []

    class Watched(SqliteReader):
        def close(self) -> None:
            closed.append(True)
            super().close()

        def tenants(self) -> list[str]:
            raise RuntimeError("broken")

    path = tmp_path / "store.sqlite3"
    app = create_app(
        Settings(path, tmp_path / "accounts.sqlite3"), open_store=lambda: Watched(path)
    )

    statuses = [
        _get(app, url).status_code
        for url in ("/v1/status", QUESTION.replace("hourly", "nix"), "/v1/tenants")
    ]
    app.state.parts.directory.close()

    assert statuses == [200, 404, 500]
    assert closed == [True] * 3


def test_the_file_may_come_later(tmp_path: Path) -> None:
    """A service that was started before any worker answers as soon as there is a store."""
    path = tmp_path / "store.sqlite3"
    app = create_app(Settings(path, tmp_path / "accounts.sqlite3"))

    before = _get(app, "/health/ready").status_code
    _open(path).close()
    after = _get(app, "/health/ready").status_code
    app.state.parts.directory.close()

    assert (before, after) == (503, 200)
    open_reader(path).close()

"""The application over stores in memory, asked without a network."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import UTC
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from meterstream_aggregator.catalogue import Catalogue
from meterstream_aggregator.catalogue_file import parse_catalogue
from meterstream_aggregator.changes import SeriesKey, UsageKey
from meterstream_aggregator.civil import parse_time
from meterstream_aggregator.store.memory import MemoryStore
from meterstream_aggregator.store.port import TopicBinding
from meterstream_services.accounts.memory import MemoryDirectory
from meterstream_services.http.app import create_app
from meterstream_services.http.settings import Settings

CATALOGUE = """
metering_since: 2026-01-01T00:00:00Z
meters:
  - {name: api.requests, type: api.request, aggregate: count, unit: request, group_by: [status]}
  - {name: llm.tokens, type: llm.completion, aggregate: sum, value: attributes.tokens,
     unit: token, group_by: [model, region], where: {env: [prod, stage]}}
  - {name: cpu.peak, aggregate: max, unit: core}
  - {name: agent.hours, type: agent.run, aggregate: session, timeout: 2h}
  - {name: hourly, aggregate: sum, window: 1h}
"""


@dataclass
class World:
    """A store and accounts to fill, a clock to set, and the API over them."""

    app: FastAPI
    store: MemoryStore
    directory: MemoryDirectory
    time: list[int] = field(default_factory=lambda: [moment("2026-06-01")])

    def now(self, text: str) -> None:
        """Set the clock."""
        self.time[0] = moment(text)

    def use(
        self,
        meter: str,
        tenant: str,
        when: str,
        quantity: int = 0,
        *,
        events: int = 1,
        scale: int = 0,
        group: tuple[str, ...] = (),
        partition: int = 0,
        arrived: str | None = None,
    ) -> None:
        """A usage row, as folding would leave it; late where it ``arrived``."""
        definition = self.store.catalogue().meter(meter)
        group = group or ("",) * len(definition.group_by)
        series = SeriesKey(partition, tenant, meter, group, definition.version)
        arrival = 0 if arrived is None else moment(arrived)
        key = UsageKey(series, moment(when), arrival, scale)
        self.store.rows[key] = (events, quantity)

    def send(self, method: str, url: str, **options: Any) -> httpx.Response:  # noqa: ANN401 - httpx's own
        """One request."""

        async def ask() -> httpx.Response:
            transport = httpx.ASGITransport(app=self.app, raise_app_exceptions=False)
            async with httpx.AsyncClient(
                transport=transport, base_url="http://localhost:8080"
            ) as client:
                return await client.request(method, url, **options)

        return asyncio.run(ask())

    def get(self, url: str, **options: Any) -> httpx.Response:  # noqa: ANN401 - httpx's own
        """One GET."""
        return self.send("GET", url, **options)

    def usage(self, **parameters: object) -> dict[str, Any]:
        """The answer of /v1/usage; ``start`` and ``end`` stand for from and to."""
        asked = {
            {"start": "from", "end": "to"}.get(name, name): value
            for name, value in parameters.items()
        }
        response = self.get("/v1/usage", params=asked)
        assert response.status_code == 200, response.text
        return dict(response.json())


def moment(text: str) -> int:
    """Microseconds UTC."""
    return parse_time(text, UTC)


def _catalogue() -> Catalogue:
    return parse_catalogue(CATALOGUE)


@pytest.fixture
def world(tmp_path: Path) -> World:
    """Two partitions, both claimed, nothing counted yet."""
    store, directory = MemoryStore(), MemoryDirectory()
    store.bind(TopicBinding("meterstream.events", "id-of-topic", 2), _catalogue())
    for partition in range(2):
        store.claim(partition, "worker-1")
    time: list[int] = []
    app = create_app(
        Settings(tmp_path / "store.sqlite3", tmp_path / "accounts.sqlite3"),
        open_store=lambda: store,
        directory=directory,
        now=lambda: time[0],
    )
    made = World(app, store, directory)
    time = made.time
    return made

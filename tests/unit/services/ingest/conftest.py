"""The routes for events over a door into memory, asked without a network."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from fastapi import FastAPI

from meterstream_aggregator.catalogue_file import parse_catalogue
from meterstream_aggregator.store.memory import MemoryStore
from meterstream_aggregator.store.port import TopicBinding
from meterstream_services.accounts.memory import MemoryDirectory
from meterstream_services.gateway.memory import MemoryDoor
from meterstream_services.gateway.port import Fate, Offer, Patience, Ruling
from meterstream_services.http import ingest, openmeter, registry
from meterstream_services.http.guarding import SCOPE_NAME
from meterstream_services.http.limits import LimitsMiddleware
from meterstream_services.http.metrics import HttpMetrics
from meterstream_services.http.parts import Parts
from meterstream_services.http.problems import install_problems
from meterstream_services.http.rates import RATES_NAME, Rates
from meterstream_services.keys.principal import ANYBODY, Principal, Scope

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.types import Receive, Send
    from starlette.types import Scope as AsgiScope

CATALOGUE = """
metering_since: 2026-01-01T00:00:00Z
meters:
  - {name: api-requests, type: api.request, aggregate: count, unit: request, window: 1m,
     group_by: [route, method]}
  - {name: tokens, type: llm.completion, aggregate: sum, value: attributes.tokens, unit: token}
"""
NOW = 1_780_000_000_000_000


class Door(MemoryDoor):
    """A door into memory that notes the patience, and whose log may be away."""

    def __init__(self) -> None:
        super().__init__()
        self.patience: list[Patience] = []
        self.log_is_away = False

    async def take(self, offers: Sequence[Offer], patience: Patience = Patience.LOG) -> list[Fate]:
        """Like the real one: where the log is away, the spool is a success for those who say so."""
        self.patience.append(patience)
        fates = await super().take(offers, patience)
        spools = patience is Patience.SPOOL or (
            self.log_is_away and patience is Patience.LOG_OR_SPOOL
        )
        if not spools:
            return fates
        accepted = Ruling.ACCEPTED
        return [Fate(Ruling.SPOOLED) if fate.ruling is accepted else fate for fate in fates]


@dataclass
class Gate:
    """The routes, their door, and who asks."""

    app: FastAPI
    door: Door
    store: MemoryStore
    principal: Principal = ANYBODY
    rates: Rates = field(default_factory=Rates)

    def bind(self, *tenants: str) -> None:
        """From now on a key asks that is bound to these tenants."""
        self.principal = Principal("key", frozenset({Scope.INGEST}), frozenset(tenants))

    def send(self, method: str, url: str, **options: Any) -> httpx.Response:  # noqa: ANN401 - httpx's own
        """One request."""
        return self.send_all([(method, url, options)])[0]

    def post(self, body: object = None, **options: Any) -> httpx.Response:  # noqa: ANN401 - httpx's own
        """Events as JSON, or as the options say."""
        if body is not None:
            options["json"] = body
        return self.send("POST", "/v1/events", **options)

    def send_all(self, requests: Sequence[tuple[str, str, dict[str, Any]]]) -> list[httpx.Response]:
        """Requests, one after the other."""

        async def named(scope: AsgiScope, receive: Receive, send: Send) -> None:
            scope[SCOPE_NAME] = self.principal
            scope[RATES_NAME] = self.rates
            await self.app(scope, receive, send)

        async def ask() -> list[httpx.Response]:
            transport = httpx.ASGITransport(app=named)
            async with httpx.AsyncClient(
                transport=transport, base_url="http://localhost:8080"
            ) as client:
                return [await client.request(*told, **options) for *told, options in requests]

        return asyncio.run(ask())


def made_gate(bound: MemoryStore | None = None, *, now: int = NOW) -> Gate:
    """The routes with an empty door, and this store or an empty one."""
    store, door = bound or MemoryStore(), Door()
    if bound is None:
        store.bind(TopicBinding("meterstream.events", "id-of-topic", 1), parse_catalogue(CATALOGUE))
        store.claim(0, "worker-1")
    app = FastAPI()
    app.state.parts = Parts(
        open_store=lambda: store,
        directory=MemoryDirectory(),
        now=lambda: now,
        metrics=HttpMetrics(),
        door=door,
    )
    for module in (ingest, openmeter, registry):
        app.include_router(module.router)
    install_problems(app)
    app.add_middleware(LimitsMiddleware, listens_on="127.0.0.1")
    return Gate(app, door, store)


@pytest.fixture
def gate() -> Gate:
    """The routes with an empty door and an empty store."""
    return made_gate()

"""The whole application over memory: door, log, book, store, accounts and keys, asked by HTTP."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx

from meterstream_aggregator.catalogue_file import parse_catalogue
from meterstream_aggregator.changes import SeriesKey, UsageKey
from meterstream_aggregator.store.memory import MemoryStore
from meterstream_aggregator.store.port import TopicBinding
from meterstream_schemas.events import MeterEvent
from meterstream_schemas.quantity import parse_amount
from meterstream_services.accounts.memory import MemoryDirectory
from meterstream_services.catalogues import ready
from meterstream_services.clients.book import MemoryBook
from meterstream_services.clients.eventlog import Listed
from meterstream_services.gateway.memory import MemoryDoor
from meterstream_services.http.app import create_app
from meterstream_services.http.settings import Settings
from meterstream_services.keys.checking import Keys
from meterstream_services.keys.memory import MemoryKeyring
from meterstream_services.keys.model import Key
from meterstream_services.keys.principal import Scope
from meterstream_services.keys.text import hash_of, new_key

if TYPE_CHECKING:
    from collections.abc import Collection

    from fastapi import FastAPI

    from meterstream_services.gateway.port import Offer

NOW = 1_780_000_000_000_000
"""2026-05-28T20:26:40Z"""


class DoorLog:
    """What a door took, as the log would list it."""

    def __init__(self, door: MemoryDoor) -> None:
        self._door = door

    def events(
        self,
        tenants: Collection[str],
        types: Collection[str],
        start: int,
        end: int,
        *,
        limit: int,
        newest_first: bool = False,
        subject: str | None = None,
    ) -> list[Listed]:
        """See `EventLog`."""
        found = [
            Listed(event_of(offer), 0, place, NOW)
            for place, offer in enumerate(self._door.taken)
            if offer.tenant in tenants
            and offer.type in types
            and start <= (offer.time or 0) < end
            and subject in {None, offer.subject}
        ]
        found.sort(key=lambda each: each.event.time, reverse=newest_first)
        return found[:limit]


@dataclass
class World:
    """The application and what lies behind it; a clock to set, keys to make."""

    app: FastAPI
    door: MemoryDoor
    book: MemoryBook
    store: MemoryStore
    directory: MemoryDirectory
    ring: MemoryKeyring
    time: list[int]
    ticks: list[float]

    def key(self, *tenants: str, scopes: Collection[Scope] = (Scope.INGEST, Scope.READ)) -> str:
        """A key for these tenants; for all without any."""
        made = new_key()
        self.ring.add(
            Key(
                id=made.id,
                hash=hash_of(made.text),
                scopes=frozenset(scopes),
                tenants=frozenset(tenants) if tenants else None,
                created=NOW - 1,
            )
        )
        self.ticks[0] += 2  # Time enough that the next request looks for new keys.
        return made.text

    def send(
        self,
        method: str,
        url: str,
        *,
        key: str | None = None,
        headers: dict[str, Any] | None = None,
        **options: Any,  # noqa: ANN401 - httpx's own
    ) -> httpx.Response:
        """One request."""
        shown = {} if key is None else {"authorization": f"Bearer {key}"}

        async def ask() -> httpx.Response:
            transport = httpx.ASGITransport(app=self.app, raise_app_exceptions=False)
            async with httpx.AsyncClient(
                transport=transport, base_url="http://localhost:8080"
            ) as client:
                return await client.request(method, url, headers=shown | (headers or {}), **options)

        return asyncio.run(ask())

    def fold(self) -> None:
        """Count what the door took, of AgentMeter 0.3.x, into the store's figures."""
        self.store.rows.clear()
        meter = self.store.catalogue().meter("agentmeter.quantity")
        for offer in self.door.taken:
            if offer.type != meter.type:
                continue
            event = event_of(offer)
            group = tuple(event.attributes[name] for name in meter.group_by)
            series = SeriesKey(0, offer.tenant, meter.name, group, meter.version)
            start = event.time // meter.window * meter.window
            place = UsageKey(series, start, 0, event.scale)
            events, quantity = self.store.rows.get(place, (0, 0))
            self.store.rows[place] = (events + 1, quantity + event.quantity)


def event_of(offer: Offer) -> MeterEvent:
    """What stands in the log of an offer."""
    amount = parse_amount(offer.quantity)
    return MeterEvent(
        offer.kind,
        offer.tenant,
        offer.type,
        offer.time or 0,
        amount.quantity,
        amount.scale,
        offer.session,
        offer.subject,
        dict(offer.attributes or {}),
        "producer",
        0,
        0,
        offer.key,
    )


def made_world(directory: Path, *, has_log: bool = True) -> World:
    """An application without any key yet: everybody may do everything."""
    store, accounts, door = MemoryStore(), MemoryDirectory(), MemoryDoor()
    book, ring, time = MemoryBook(), MemoryKeyring(), [NOW]
    store.bind(
        TopicBinding("meterstream.events", "id-of-topic", 1),
        parse_catalogue(ready()["agentmeter"].read_text("utf-8")),
    )
    store.claim(0, "worker-1")
    ticks = [1_000_000.0]
    app = create_app(
        Settings(directory / "store.sqlite3", directory / "accounts.sqlite3"),
        open_store=lambda: store,
        directory=accounts,
        now=lambda: time[0],
        door=door,
        log=DoorLog(door) if has_log else None,
        book=book,
        keys=Keys(ring, anybody=True, now=lambda: time[0], clock=lambda: ticks[0]),
    )
    return World(app, door, book, store, accounts, ring, time, ticks)


def exact(response: httpx.Response) -> Any:  # noqa: ANN401 - JSON may be anything
    """An answer with its numbers digit for digit."""
    return response.json(parse_float=Decimal)

"""The application as clients meet it: a door, a book and a store in memory, and who asks."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import httpx

from meterstream_aggregator.batch import LogRecord
from meterstream_aggregator.catalogue_file import load_catalogue
from meterstream_aggregator.store.memory import MemoryStore
from meterstream_schemas.placement import lane_of, partition_of
from meterstream_schemas.quantity import parse_amount
from meterstream_services.accounts.memory import MemoryDirectory
from meterstream_services.catalogues import ready
from meterstream_services.clients.book import MemoryBook
from meterstream_services.clients.eventlog import Listed
from meterstream_services.gateway.memory import MemoryDoor
from meterstream_services.gateway.port import Fate, Offer, Patience, Ruling
from meterstream_services.http.app import create_app
from meterstream_services.http.guarding import SCOPE_NAME
from meterstream_services.http.settings import Settings
from meterstream_services.keys.principal import ANYBODY, Principal, Scope
from tests.simulation.driver import BINDING, Folder
from tests.unit.aggregator.making import event

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from pathlib import Path

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
SOMEBODY = replace(ANYBODY, digest="0123456789abcdef")
"""Whoever shows a key where none were made."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def micros(when: datetime) -> int:
    """Microseconds UTC."""
    return (when - _EPOCH) // timedelta(microseconds=1)


def bound_to(*tenants: str, scopes: Collection[Scope] = (Scope.INGEST, Scope.READ)) -> Principal:
    """The principal of a key for these tenants."""
    return Principal("key", frozenset(scopes), frozenset(tenants), "fedcba9876543210")


class TriedDoor(MemoryDoor):
    """A door that remembers how patient its callers were, and may take only so many offers."""

    def __init__(self) -> None:
        super().__init__()
        self.patience: list[Patience] = []
        self.room: int | None = None

    async def take(self, offers: Sequence[Offer], patience: Patience = Patience.LOG) -> list[Fate]:
        """As many as there is room for; the others are unavailable."""
        self.patience.append(patience)
        room = len(offers) if self.room is None else self.room
        fates = await super().take(offers[:room], patience)
        return fates + [Fate(Ruling.UNAVAILABLE)] * (len(offers) - len(fates))


class TakenLog:
    """The events that a door took, as a log lists them."""

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
            Listed(record.event, 0, record.offset, record.append_time)
            for record in records_of(self._door.taken)
            if record.event.tenant in tenants
            and record.event.type in types
            and start <= record.event.time < end
            and subject in {None, record.event.subject}
        ]
        found.sort(key=lambda listed: listed.event.time, reverse=newest_first)
        return found[:limit]


def records_of(offers: Sequence[Offer]) -> list[LogRecord]:
    """What the log has of offers that were taken."""
    return [
        LogRecord(
            partition_of(lane_of(offer.tenant), BINDING.partitions),
            offset,
            micros(NOW) + offset,
            event(
                kind=offer.kind,
                tenant=offer.tenant,
                type=offer.type,
                time=offer.time,
                quantity=parse_amount(offer.quantity).quantity,
                scale=parse_amount(offer.quantity).scale,
                subject=offer.subject,
                attributes=dict(offer.attributes or {}),
                key=offer.key,
            ),
        )
        for offset, offer in enumerate(offers)
    ]


@dataclass
class ClientWorld:
    """One application with the ready catalogue of a client; ask it, fold it, ask again."""

    catalogue: str
    directory: Path

    def __post_init__(self) -> None:
        self.store, self.book, self.door = MemoryStore(), MemoryBook(), TriedDoor()
        self._folder = Folder(self.store, load_catalogue(ready()[self.catalogue]))
        self._folder.claim(range(BINDING.partitions))
        self._folded = 0
        self.time = NOW
        self.principal = SOMEBODY
        self.app = create_app(
            Settings(self.directory / "store.sqlite3", self.directory / "accounts.sqlite3"),
            open_store=lambda: self.store,
            directory=MemoryDirectory(),
            now=lambda: micros(self.time),
            door=self.door,
            log=TakenLog(self.door),
            book=self.book,
        )

    def fold(self) -> None:
        """Count what the door took since the last time."""
        records = records_of(self.door.taken)[self._folded :]
        self._folded += len(records)
        for record in records:
            self._folder.fold([record])

    def send(self, method: str, url: str, **options: Any) -> httpx.Response:  # noqa: ANN401 - httpx's own
        """One request; what the application raises is a failure here."""

        async def ask() -> httpx.Response:
            transport = httpx.ASGITransport(app=self._asked)
            async with httpx.AsyncClient(
                transport=transport, base_url="http://localhost:8080"
            ) as client:
                return await client.request(method, url, **options)

        return asyncio.run(ask())

    async def _asked(self, scope: Any, receive: Any, send: Any) -> None:  # noqa: ANN401 - ASGI's
        """As the middleware in front does it."""
        scope[SCOPE_NAME] = self.principal
        await self.app(scope, receive, send)

    def get(self, url: str, **options: Any) -> httpx.Response:  # noqa: ANN401 - httpx's own
        """One GET."""
        return self.send("GET", url, **options)

    def post(self, url: str, json: object = None, **options: Any) -> httpx.Response:  # noqa: ANN401 - httpx's own
        """One POST."""
        return self.send("POST", url, json=json, **options)

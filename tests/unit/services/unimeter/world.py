"""Unimeter's ports over memory: what the door takes is counted at once, as a worker would."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from meterstream_aggregator.batch import LogRecord
from meterstream_aggregator.catalogue_file import load_catalogue, parse_catalogue
from meterstream_aggregator.store.memory import MemoryStore
from meterstream_schemas.quantity import parse_amount
from meterstream_services.accounts.memory import MemoryDirectory
from meterstream_services.catalogues import ready
from meterstream_services.clients.book import MemoryBook
from meterstream_services.clients.eventlog import Listed
from meterstream_services.clients.unimeter import wire
from meterstream_services.clients.unimeter.server import Port, serving
from meterstream_services.gateway.memory import MemoryDoor
from meterstream_services.gateway.port import Fate, Offer, Patience, Ruling
from meterstream_services.http.metrics import HttpMetrics
from meterstream_services.http.parts import Parts
from meterstream_services.http.settings import UnimeterPort
from tests.simulation.driver import BINDING, Folder
from tests.unit.aggregator.making import event

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Collection, Sequence
    from pathlib import Path

NOW = time.time_ns() // 1000
"""When these tests began: the published client asks its own clock for the present month."""


class FoldingDoor(MemoryDoor):
    """A door whose events are counted when it answers. ``patience`` is what callers had."""

    def __init__(self, store: MemoryStore, catalogue: str | None = None) -> None:
        super().__init__()
        known = load_catalogue(ready()["unimeter"])
        self._folder = Folder(store, known if catalogue is None else parse_catalogue(catalogue))
        self._folder.claim(range(BINDING.partitions))
        self.counts = True
        self._counted = 0
        self.patience: list[Patience] = []
        self.spooled = False

    async def take(self, offers: Sequence[Offer], patience: Patience = Patience.LOG) -> list[Fate]:
        """Take and count; the time of events without one is the world's."""
        self.patience.append(patience)
        stamped = [
            offer._replace(time=NOW) if offer.time is None and offer.key is None else offer
            for offer in offers
        ]
        fates = await super().take(stamped)
        fresh = records_of(self.taken)[self._counted :]
        self._counted += len(fresh)
        for record in fresh if self.counts else ():
            self._folder.fold([record])
        if self.spooled:
            return [Fate(Ruling.SPOOLED) for _ in fates]
        return fates

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
        del newest_first
        found = [
            Listed(record.event, record.partition, record.offset, record.append_time)
            for record in records_of(self.taken)
            if record.event.tenant in tenants
            and record.event.type in types
            and start <= record.event.time < end
            and subject in {None, record.event.subject}
        ]
        return sorted(found, key=lambda one: one.event.time)[:limit]


def records_of(offers: Sequence[Offer]) -> list[LogRecord]:
    """What the log has of offers that were taken."""
    return [
        LogRecord(
            0,
            offset,
            NOW + offset,
            event(
                kind=offer.kind,
                tenant=offer.tenant,
                type=offer.type,
                time=offer.time,
                quantity=parse_amount(offer.quantity).quantity,
                scale=0,
                subject=offer.subject,
                attributes=dict(offer.attributes or {}),
                key=offer.key,
            ),
        )
        for offset, offer in enumerate(offers)
    ]


@dataclass
class World:
    """A store, a book and a door; ``time`` is the present."""

    catalogue: str | None = None
    store: MemoryStore = field(default_factory=MemoryStore)
    book: MemoryBook = field(default_factory=MemoryBook)
    time: int = NOW

    def __post_init__(self) -> None:
        self.door = FoldingDoor(self.store, self.catalogue)

    @asynccontextmanager
    async def serving(
        self,
        *tenants: str | None,
        definitions: Path | None = None,
        counted: bool = False,
        events_per_second: int | None = None,
    ) -> AsyncGenerator[list[Port]]:
        """Ports of these tenants, on free ports of the loopback address."""
        parts = Parts(
            open_store=lambda: self.store,
            directory=MemoryDirectory(),
            now=lambda: self.time,
            metrics=HttpMetrics(),
            door=self.door,
            log=self.door,
            book=self.book,
        )
        settings = [
            UnimeterPort(
                "127.0.0.1", 0, tenant, counted=counted, events_per_second=events_per_second
            )
            for tenant in tenants or (None,)
        ]
        async with serving(settings, parts, definitions=definitions) as ports:
            yield ports


async def raw(address: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection that speaks bytes."""
    host, port = address.rsplit(":", 1)
    return await asyncio.open_connection(host, int(port))


async def response(reader: asyncio.StreamReader) -> tuple[wire.ResponseHeader, bytes]:
    """The next response or push."""
    async with asyncio.timeout(10):
        header = wire.decode_response(await reader.readexactly(wire.RESPONSE_BYTES))
        return header, await reader.readexactly(header.payload_bytes)

"""What the routes work with, handed to them by the application."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Annotated

from fastapi import Depends, Request

from meterstream_aggregator.store.port import StoreReader
from meterstream_services.accounts.port import EditableDirectory
from meterstream_services.clients.book import Book, MemoryBook
from meterstream_services.clients.eventlog import EventLog
from meterstream_services.gateway.passing import Passing
from meterstream_services.gateway.port import Door
from meterstream_services.gateway.records import Judge
from meterstream_services.http.metrics import HttpMetrics
from meterstream_services.keys.checking import Keys


@dataclass(frozen=True, slots=True)
class Parts:
    """The store, the accounts, the clock (microseconds UTC) and the metrics of one application.

    ``door`` is None where no broker is named: then nothing is taken. ``log`` likewise. ``book`` has
    what clients define by calls. ``keys`` is None where none are looked for.
    ``passing`` and ``judge`` are for records of the SDK.
    """

    open_store: Callable[[], StoreReader]
    directory: EditableDirectory
    now: Callable[[], int]
    metrics: HttpMetrics
    door: Door | None = None
    log: EventLog | None = None
    book: Book = field(default_factory=MemoryBook)
    keys: Keys | None = None
    passing: Passing | None = None
    judge: Judge | None = None

    @contextmanager
    def store(self) -> Generator[StoreReader]:
        """A reader of its own for one request, on one consistent snapshot."""
        reader = self.open_store()
        try:
            with reader.snapshot():
                yield reader
        finally:
            reader.close()


async def _parts(request: Request) -> Parts:
    # Not a plain function: those wait for a thread, which slow questions may have taken.
    found = request.app.state.parts
    assert isinstance(found, Parts)
    return found


PartsOf = Annotated[Parts, Depends(_parts)]

"""The servers that measurements run on: an embedded Kafka broker, and an embedded PostgreSQL."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

from benchmarks.running import say
from meterstream_aggregator.store.address import PostgresAddress, parse_address
from meterstream_aggregator.store.postgres.migrations import migrate
from meterstream_infra.broker import EmbeddedBroker
from meterstream_infra.database import EmbeddedDatabase

SETTINGS: Final = {"shared_buffers": "512MB", "max_wal_size": "4GB"}
"""Beyond PostgreSQL's defaults; commits are synchronous and pages are written in full."""
_START_SECONDS: Final = 300.0
"""More than a user would wait for: the machine may be busy with other things."""


class Server(NamedTuple):
    """A database server: its URL and the process whose CPU is told apart."""

    url: str
    pid: int

    def arguments(self, schema: str) -> list[str]:
        """For `benchmarks.working`: a store in a schema of that name."""
        return ["--store", self.store(schema), "--server", str(self.pid)]

    def store(self, schema: str) -> str:
        """The address of a store, which is made."""
        address = f"{self.url}?schema={schema}"
        parsed = parse_address(address)
        assert isinstance(parsed, PostgresAddress)
        migrate(parsed)
        return address


@contextmanager
def kafka(directory: Path) -> Generator[EmbeddedBroker]:
    """An embedded broker, stopped at the end. Raises what starting it raises."""
    broker = EmbeddedBroker(directory / "broker", progress=say)
    broker.start(_START_SECONDS)
    with broker:
        yield broker


@contextmanager
def postgres(directory: Path) -> Generator[Server]:
    """An embedded PostgreSQL, stopped at the end. Raises what starting it raises."""
    database = EmbeddedDatabase(directory / "database", settings=SETTINGS, progress=say)
    database.start(_START_SECONDS)
    with database:
        assert database.pid is not None
        yield Server(database.url, database.pid)

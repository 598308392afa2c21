"""The one real PostgreSQL of a run: an external one, one in Docker, or the embedded one."""

from __future__ import annotations

import gc
import os
import shutil
import sys
import tempfile
import time
import uuid
import warnings
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from meterstream_aggregator.errors import StoreUnavailable
from meterstream_aggregator.store.address import PostgresAddress, parse_address
from meterstream_aggregator.store.postgres.connection import connect
from meterstream_aggregator.store.postgres.migrations import migrate
from meterstream_infra.database import EmbeddedDatabase
from meterstream_infra.ports import draw_free_port
from tests.docker_broker import DockerUnavailable, docker_answers

if TYPE_CHECKING:
    from collections.abc import Generator

URL_VARIABLE = "METERSTREAM_TEST_DATABASE_URL"
IMAGE = "postgres:17-alpine"
_READY_SECONDS = 60


class Postgres(NamedTuple):
    """The real database of this run. ``kind`` is external, docker or embedded."""

    url: str
    kind: str

    def address(self, schema: str) -> PostgresAddress:
        """A schema of it as an address of a store."""
        found = parse_address(self.url)
        assert isinstance(found, PostgresAddress)
        return found._replace(schema=schema)

    @contextmanager
    def store(self) -> Generator[PostgresAddress]:
        """A fresh store in a schema of its own, which goes with the block."""
        address = self.address(f"test_{uuid.uuid4().hex}")
        migrate(address)
        try:
            yield address
        finally:
            drop(address)


def drop(address: PostgresAddress) -> None:
    """Let a schema go with all that is in it."""
    with connect(address, "migrate") as connection:
        connection.execute(f'DROP SCHEMA IF EXISTS "{address.schema}" CASCADE'.encode())


@contextmanager
def postgres_of_the_run() -> Generator[Postgres]:
    """METERSTREAM_TEST_DATABASE_URL, else Docker, else the embedded one. Never none."""
    why = ""
    if external := os.environ.get(URL_VARIABLE):
        yield Postgres(external, "external")
        return
    insisted = bool(os.environ.get("METERSTREAM_TEST_DOCKER"))
    if insisted or docker_answers():
        try:
            with docker_database() as url:
                yield Postgres(url, "docker")
            return
        except DockerUnavailable as problem:
            if insisted:
                raise
            why = f", since Docker answers but runs no PostgreSQL: {problem}"
    with embedded() as database:
        yield Postgres(database.url, f"embedded{why}")


@contextmanager
def embedded(**settings: str) -> Generator[EmbeddedDatabase]:
    """An embedded database of its own, quick and forgetful; it goes with the block.

    Not under pytest's directories: those are closed to the user that it runs as.
    """
    data = Path(tempfile.mkdtemp(prefix="meterstream-database-"))
    data.chmod(0o711)
    quick = {"fsync": "off", "full_page_writes": "off", **settings}
    try:
        with EmbeddedDatabase(data / "data", settings=quick, progress=_say) as database:
            yield database
    finally:
        shutil.rmtree(data, ignore_errors=True)


@contextmanager
def docker_database() -> Generator[str]:
    """Run the server in a container; its URL. The container goes with the block."""
    # Imported here: it takes half a second, and most machines never get this far.
    from docker.errors import DockerException  # noqa: PLC0415
    from testcontainers.core.container import DockerContainer  # noqa: PLC0415

    port, password = draw_free_port(), uuid.uuid4().hex
    container, reason = None, ""
    # Docker's client leaves sockets open when it fails; no test is to blame for that.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        try:
            container = DockerContainer(os.environ.get("METERSTREAM_TEST_DATABASE_IMAGE", IMAGE))
            container.with_bind_ports(5432, port)
            container.with_env("POSTGRES_PASSWORD", password)
            container.start()
        except (DockerException, OSError) as problem:
            reason = f"{IMAGE} does not start: {problem}"
        gc.collect()
    if container is None or reason:
        raise DockerUnavailable(reason)
    try:
        url = f"postgresql://postgres:{password}@127.0.0.1:{port}/postgres"
        _wait(url)
        yield url
    finally:
        container.stop()


def _wait(url: str) -> None:
    address = PostgresAddress(url)
    until = time.monotonic() + _READY_SECONDS
    while True:
        try:
            with closing(connect(address, "migrate")):
                return
        except StoreUnavailable as problem:
            if time.monotonic() >= until:
                raise DockerUnavailable(f"{IMAGE} is not ready: {problem}") from problem
            time.sleep(0.2)


def rows(address: PostgresAddress, query: str) -> list[tuple[object, ...]]:
    """What a query answers in a store's schema."""
    with connect(address, "migrate") as connection:
        return list(connection.execute(query.encode()).fetchall())


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")

"""What tests of workers share: numbered events, how far a store is, the judgement at the end."""

from __future__ import annotations

import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from confluent_kafka import Producer

from meterstream_aggregator.errors import StoreUnavailable
from meterstream_aggregator.store.opening import open_reader
from meterstream_consumers.settings import WorkerSettings
from meterstream_infra.broker import EmbeddedBroker
from tests.integration.hostile_records import encode, good
from tests.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from meterstream_aggregator.store.address import StoreAddress
    from meterstream_aggregator.store.told import PositionRow
    from tests.conftest import Broker

CATALOGUE = """
metering_since: 2026-01-01T00:00:00Z
meters:
  - {name: api.total, type: api.request, aggregate: sum}
  - {name: api.calls, type: api.request, aggregate: count}
"""
PARTITIONS = 4
LONG = 120
"""Seconds that anything may take on a machine with other things to do."""


class Sender:
    """Numbers its events per lane as an SDK does; partition n has tenant-n and lane n."""

    def __init__(
        self, bootstrap_servers: str, topic: str, settings: Mapping[str, str] | None = None
    ) -> None:
        self._topic = topic
        self._producer = Producer(
            {
                "bootstrap.servers": bootstrap_servers,
                "linger.ms": 5,
                "acks": "all",
                **(settings or {}),
            }
        )
        self.numbers = [0] * PARTITIONS
        self.resent = 0
        self._time = time.time_ns() // 1000 - 60_000_000

    def send(self, count: int) -> None:
        """New events, spread over all partitions."""
        for n in range(count):
            partition = n % PARTITIONS
            self.numbers[partition] += 1
            self._produce(partition, self.numbers[partition])

    def resend(self, last: int) -> None:
        """The last numbers of each partition once more, as after a lost receipt."""
        for partition, number in enumerate(self.numbers):
            for again in range(max(number - last, 0), number):
                self.resent += 1
                self._produce(partition, again + 1)

    def flush(self) -> None:
        """Wait for the log to have everything."""
        assert self._producer.flush(60) == 0

    def _produce(self, partition: int, number: int) -> None:
        event = good(number, tenant=f"tenant-{partition}", lane=partition, time=self._time)
        self._producer.produce(
            self._topic, encode(event), event.tenant, partition, on_delivery=_delivered
        )
        self._producer.poll(0)


def _delivered(problem: object, message: object) -> None:
    assert problem is None, (problem, message)


def worker_settings(broker: Broker, topic: str, directory: Path) -> WorkerSettings:
    """A worker of a fresh topic, store and group; a dead member is missed after six seconds."""
    catalogue = directory / "meters.yaml"
    catalogue.write_text(CATALOGUE, "utf-8")
    return WorkerSettings(
        bootstrap_servers=broker.bootstrap_servers,
        topic=topic,
        group=topic,
        catalogue=catalogue,
        store=directory / "store.sqlite3",
        session_timeout_seconds=6,
        # A tick is a record too; these tests count records.
        tick_seconds=0.0,
    )


def positions(store: StoreAddress) -> list[PositionRow]:
    """How far each partition is; nothing while there is no store."""
    try:
        reader = open_reader(store)
    except StoreUnavailable:
        return []
    try:
        return reader.positions()
    except StoreUnavailable:
        return []
    finally:
        reader.close()


def folded(store: StoreAddress) -> int:
    """Records that a store has judged."""
    return sum(row.counted + row.duplicates + row.refused for row in positions(store))


def wait_until_folded(settings: WorkerSettings, sender: Sender) -> None:
    """Everything that was sent is in the store."""
    sender.flush()
    wanted = sum(sender.numbers) + sender.resent
    eventually(lambda: folded(settings.store) >= wanted, timeout_seconds=LONG)


def check_counted_once(settings: WorkerSettings, sender: Sender) -> None:
    """Every number counted once, every resend a duplicate, nothing missing, nothing refused."""
    reader = open_reader(settings.store)
    try:
        meter = reader.catalogue().meter("api.total")
        figures = sorted(
            (tenant, sum(row.events for row in rows), sum(row.quantity for row in rows))
            for tenant in reader.tenants()
            if (rows := list(reader.usage(meter, tenants=[tenant], start=0, end=2**60)))
        )
        told, producers = reader.positions(), reader.producers()
        letters = reader.dead_letters()
    finally:
        reader.close()
    assert figures == [
        (f"tenant-{p}", top, top * (top + 1) // 2) for p, top in enumerate(sender.numbers)
    ]
    assert sum(row.counted for row in told) == sum(sender.numbers)
    assert sum(row.duplicates for row in told) == sender.resent
    assert letters == []
    assert [(row.seen, row.missing) for row in producers] == [(top, ()) for top in sender.numbers]


@contextmanager
def own_broker(directory: Path, settings: Mapping[str, str]) -> Iterator[str]:
    """A broker of the test's own, with settings of its choice: its address."""
    broker = EmbeddedBroker(directory, settings=settings)
    broker.start(2 * LONG)
    try:
        yield broker.bootstrap_servers
    finally:
        broker.stop()


class Command:
    """`meterstream worker` as a process. ``said`` has what it wrote so far."""

    def __init__(self, process: subprocess.Popen[bytes], output: Path) -> None:
        self.process = process
        self._output = output

    @property
    def said(self) -> str:
        """Standard error so far."""
        return self._output.read_text("utf-8", "replace")

    def end(self) -> tuple[int, str]:
        """Wait for it to end by itself: its status and its last line."""
        status = self.process.wait(LONG)
        lines = self.said.strip().splitlines()
        return status, lines[-1] if lines else ""


@contextmanager
def worker_command(settings: WorkerSettings, *arguments: str) -> Iterator[Command]:
    """`meterstream worker` inside the block; killed at its end if it still runs."""
    assert isinstance(settings.store, Path)
    output = settings.store.with_name(f"worker-{time.monotonic_ns()}.err")
    told = {
        "--bootstrap": settings.bootstrap_servers,
        "--topic": settings.topic,
        "--group": settings.group,
        "--catalogue": str(settings.catalogue),
        "--store": str(settings.store),
        "--group-protocol": settings.group_protocol.value,
        "--tick-seconds": str(settings.tick_seconds),
    }
    command = [sys.executable, "-m", "meterstream_services.cli.main", "worker"]
    command += [part for pair in told.items() for part in pair]
    if settings.instance is not None:
        command += ["--instance", settings.instance]
    with output.open("wb") as err:
        process = subprocess.Popen([*command, *arguments], stderr=err)
    try:
        yield Command(process, output)
    finally:
        process.kill()
        process.wait()

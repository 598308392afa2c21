"""Dead letters of a real topic, shown, mended and replayed: twice, which is as good as once."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import pytest
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from typer.testing import CliRunner

from meterstream_aggregator.errors import StoreUnavailable
from meterstream_aggregator.store.opening import open_reader, open_store
from meterstream_consumers.settings import WorkerSettings
from meterstream_services.cli.app import app
from meterstream_services.cli.replay import LEFT_OUT
from tests.integration.hostile_records import encode, good
from tests.integration.worker_process import running_worker
from tests.waiting import eventually

if TYPE_CHECKING:
    from pathlib import Path

    from meterstream_schemas.events import MeterEvent
    from tests.conftest import Broker

pytestmark = pytest.mark.integration

SUM = "  - {name: api.request, aggregate: sum, value: attributes.amount}\n"
MORE = "  - {name: new.type, aggregate: sum}\n"
CATALOGUE = "metering_since: 2026-01-01T00:00:00Z\nmeters:\n"
NOW = time.time_ns() // 1_000 - 60_000_000


def event(number: int, **changes: Any) -> MeterEvent:  # noqa: ANN401 - any field
    """An event of tenant t, in partition 1; number 0 is a foreign one without identity."""
    named = good(number, tenant="t", lane=1, time=NOW)
    if number == 0:
        named = named._replace(producer="", lane=0)
    return named._replace(**{"attributes": {"amount": "1"}, **changes})


LOG = [
    event(1, key="k"),
    event(2, type="new.type", quantity=20),
    event(3, attributes={"amount": "three"}),
    event(4, key="k", attributes={"amount": "400"}),
    event(0, type="new.type", quantity=5_000),
    event(5, tenant="", attributes={"amount": "60000"}),
]
"""Counted, then five dead letters: no meter, no amount, a taken key, a foreigner, no tenant."""


class World:
    """A topic with that log, a store, and the commands over them."""

    def __init__(self, broker: Broker, topic: str, directory: Path) -> None:
        self.catalogue = directory / "meters.yaml"
        self.catalogue.write_text(CATALOGUE + SUM, "utf-8")
        self.settings = WorkerSettings(
            bootstrap_servers=broker.bootstrap_servers,
            topic=topic,
            group=topic,
            catalogue=self.catalogue,
            store=directory / "store.sqlite3",
            tick_seconds=0,
        )
        self.producer = Producer({"bootstrap.servers": broker.bootstrap_servers})

    def send(self, value: bytes) -> None:
        """A record into partition 1, with a header."""
        self.producer.produce(self.settings.topic, value, b"t", 1, headers=[("own", b"\xff")])
        assert self.producer.flush(60) == 0

    def work(self, records: int) -> None:
        """A worker, until the log's partitions are folded so far in all."""
        with running_worker(self.settings):
            eventually(lambda: self._folded() >= records, timeout_seconds=60)

    def totals(self) -> dict[str, int]:
        """Everything counted, by meter."""
        reader = open_reader(self.settings.store)
        try:
            return {
                meter.name: sum(
                    row.quantity * 10**-row.scale
                    for row in reader.usage(meter, tenants=None, start=0, end=2**60)
                )
                for meter in reader.catalogue().meters
            }
        finally:
            reader.close()

    def command(self, *arguments: str, status: int = 0) -> Any:  # noqa: ANN401 - its JSON
        """A `meterstream deadletters` command over this world."""
        where = [
            "--store", str(self.settings.store),
            "--bootstrap", self.settings.bootstrap_servers,
            "--format", "json",
        ]  # fmt: skip
        done = CliRunner().invoke(app, ["deadletters", *arguments, *where])
        assert done.exit_code == status, done.output
        return json.loads(done.stdout)

    def _folded(self) -> int:
        try:
            reader = open_reader(self.settings.store)
        except StoreUnavailable:
            return 0
        rows = reader.positions()
        reader.close()
        return sum(row.counted + row.duplicates + row.refused for row in rows)


@pytest.fixture
def world(broker: Broker, topic: str, tmp_path: Path) -> World:
    """The log folded once."""
    one = World(broker, topic, tmp_path)
    for said in LOG:
        one.send(encode(said))
    one.send(b"\x07garbage")
    one.work(len(LOG) + 1)
    assert one.totals() == {"api.request": 1}
    return one


def test_replaying_twice_is_replaying_once(world: World) -> None:
    """Each reason mended in its way; the figures say each event once, whatever is repeated."""
    dry = world.command("replay", status=LEFT_OUT)
    shown = world.command("show", "1-3")
    world.catalogue.write_text(CATALOGUE + SUM + MORE, "utf-8")
    with running_worker(world.settings):
        eventually(lambda: "new.type" in world.totals(), timeout_seconds=60)

    mendings = [
        ["--reason", "unknown_type"],
        ["--reason", "invalid_quantity", "--fix", "attributes.amount=300"],
        ["--reason", "key_conflict", "--fix", "key=another"],
        ["--reason", "invalid_tenant", "--fix", "tenant=globex"],
    ]
    for _ in range(2):
        for mending in mendings:
            world.command("replay", "--apply", *mending)
    garbage = world.command("replay", "--apply", "--reason", "undecodable", status=LEFT_OUT)
    world.work(len(LOG) + 1 + 2 * 5)

    assert dry["counts"] == {"impossible": 1, "refused": 5}
    assert not dry["applied"]
    assert (shown["reason"], shown["event"]["key"]) == ("key_conflict", "k")
    assert bytes.fromhex(shown["bytes"]) == encode(LOG[3])
    assert shown["headers"] == [["own", "ff"]]
    assert garbage["deadletters"][0]["why"]
    assert world.totals() == {"api.request": 1 + 300 + 400 + 60_000, "new.type": 5_020}
    reader = open_reader(world.settings.store)
    assert sum(row.duplicates for row in reader.positions()) == 5
    assert [(row.seen, row.missing) for row in reader.producers()] == [(5, ())]
    reader.close()


def test_what_the_log_lost_is_found_on_the_dead_letter_topic(world: World) -> None:
    """Retention took the record: its dead letter still has bytes and headers to show and send."""
    with running_worker(world.settings):  # sends what waits in the outbox
        eventually(lambda: _outbox_is_empty(world), timeout_seconds=60)
    admin = AdminClient({"bootstrap.servers": world.settings.bootstrap_servers})
    gone = TopicPartition(world.settings.topic, 1, 3)
    admin.delete_records([gone])[gone].result(30)

    shown = world.command("show", "1-2")

    assert shown["source"] == world.settings.deadletters_topic
    assert bytes.fromhex(shown["bytes"]) == encode(LOG[2])
    assert shown["headers"] == [["own", "ff"]]


def _outbox_is_empty(world: World) -> bool:
    store = open_store(world.settings.store)
    try:
        return not store.outbox(range(4), 1)
    finally:
        store.close()

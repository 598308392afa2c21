"""Poison on the real topic: each bad record a dead letter, each good one counted, nothing stops."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

import pytest
from confluent_kafka import Consumer, Message, Producer, TopicPartition

from meterstream_aggregator.errors import StoreUnavailable
from meterstream_aggregator.store.opening import open_reader
from meterstream_consumers.settings import WorkerSettings
from meterstream_schemas.events import DEADLETTERS_TOPIC, MeterEvent
from tests.integration.hostile_records import (
    Hostile,
    blocked,
    encode,
    good,
    large_records,
    small_records,
)
from tests.integration.worker_process import running_worker
from tests.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from meterstream_aggregator.store.address import StoreAddress
    from meterstream_aggregator.store.told import PositionRow
    from tests.conftest import Broker

pytestmark = pytest.mark.integration

CATALOGUE = """
metering_since: 2026-01-01T00:00:00Z
meters:
  - {name: api.total, type: api.request, aggregate: sum}
  - {name: api.bytes, type: api.request, aggregate: sum, value: attributes.bytes}
"""
GOOD_BETWEEN = 4
"""Good records after each bad one."""
Place = tuple[int, int]


class Sent(NamedTuple):
    """What stands in the log, by (partition, offset)."""

    good: dict[Place, int]
    bad: dict[Place, Hostile]


def _settings(broker: Broker, topic: str, tmp_path: Path) -> WorkerSettings:
    catalogue = tmp_path / "meters.yaml"
    catalogue.write_text(CATALOGUE, "utf-8")
    return WorkerSettings(
        bootstrap_servers=broker.bootstrap_servers,
        topic=topic,
        group=topic,
        catalogue=catalogue,
        store=tmp_path / "store.sqlite3",
    )


class _Log:
    """Writes records and remembers where each came to stand."""

    def __init__(self, broker: Broker, topic: str) -> None:
        self._topic = topic
        self._producer = Producer(
            {
                "bootstrap.servers": broker.bootstrap_servers,
                "message.max.bytes": 50_000_000,
                "compression.type": "zstd",
                "linger.ms": 20,
            }
        )
        self._now = time.time_ns() // 1_000 - 60_000_000
        self._numbers = [0, 0, 0, 0]
        self.sent = Sent({}, {})

    def good(self, partition: int, *, spelt_otherwise: bool = False) -> None:
        """One good event; every partition has its own tenant and lane."""
        self._numbers[partition] += 1
        number = self._numbers[partition]
        event = self.event(partition, number)
        value = blocked(event) if spelt_otherwise else encode(event)
        self._produce(partition, value, b"k", lambda place: self.sent.good.update({place: number}))

    def bad(self, partition: int, hostile: Hostile) -> None:
        """One hostile record, with a header of its own."""
        self._produce(
            partition,
            hostile.value,
            hostile.key,
            lambda place: self.sent.bad.update({place: hostile}),
        )

    def event(self, partition: int, number: int) -> MeterEvent:
        """The good event of a number."""
        return good(number, tenant=f"tenant-{partition}", lane=partition, time=self._now)

    def flush(self) -> Sent:
        """Wait for the log to have everything."""
        assert self._producer.flush(60) == 0
        return self.sent

    def _produce(
        self,
        partition: int,
        value: bytes | None,
        key: bytes | None,
        took: Callable[[Place], None],
    ) -> None:
        def delivered(problem: object, message: Message) -> None:
            assert problem is None, problem
            offset = message.offset()
            assert offset is not None
            took((partition, offset))

        self._producer.produce(
            self._topic, value, key, partition, delivered, headers=[("own", b"header")]
        )
        self._producer.poll(0)


def _positions(store: StoreAddress) -> dict[int, PositionRow]:
    try:
        reader = open_reader(store)
    except StoreUnavailable:
        return {}
    try:
        with reader.snapshot():
            return {row.partition: row for row in reader.positions()}
    except StoreUnavailable:
        return {}
    finally:
        reader.close()


def _wait_until_folded(store: StoreAddress, sent: Sent) -> None:
    ends: dict[int, int] = {}
    for partition, offset in [*sent.good, *sent.bad]:
        ends[partition] = max(offset + 1, ends.get(partition, 0))

    def folded() -> bool:
        rows = _positions(store)
        return all(p in rows and rows[p].next_offset >= end for p, end in ends.items())

    eventually(folded, timeout_seconds=60)


def _check_store(store: StoreAddress, sent: Sent) -> None:
    """Good ones counted to the last unit, bad ones dead letters with their reason, nothing else."""
    reader = open_reader(store)
    try:
        with reader.snapshot():
            letters = {
                (row.partition, row.offset): row.reason for row in reader.dead_letters(limit=10_000)
            }
            meter = reader.catalogue().meter("api.total")
            usage: dict[str, tuple[int, int]] = {}
            for row in reader.usage(meter, tenants=None, start=0, end=2**62):
                events, total = usage.get(row.tenant, (0, 0))
                usage[row.tenant] = (events + row.events, total + row.quantity)
                assert row.scale == 0
            missing = {row.producer: row.missing for row in reader.producers() if row.missing}
            positions = reader.positions()
    finally:
        reader.close()
    expected = {place: hostile.reason for place, hostile in sent.bad.items()}
    names = {place: hostile.name for place, hostile in sent.bad.items()}
    wrong = {
        names.get(place, f"good record at {place}"): (expected.get(place), letters.get(place))
        for place in {*expected, *letters}
        if expected.get(place) != letters.get(place)
    }
    assert wrong == {}, "name: (expected reason, reason in the store)"
    wanted: dict[str, tuple[int, int]] = {}
    for (partition, _), number in sent.good.items():
        events, total = wanted.get(f"tenant-{partition}", (0, 0))
        wanted[f"tenant-{partition}"] = (events + 1, total + number)
    assert usage == wanted
    assert "a" * 32 not in missing
    assert sum(row.counted for row in positions) == len(sent.good)
    assert sum(row.refused for row in positions) == len(sent.bad)


def _headers(message: Message) -> dict[str, bytes]:
    found = message.headers() or []
    assert isinstance(found, list)
    return {
        name: value.encode() if isinstance(value, str) else value or b"" for name, value in found
    }


def _check_topic(broker: Broker, topic: str, sent: Sent) -> None:
    """Every bad record came out on the dead-letter topic, byte for byte, with its origin.

    Those that fit no topic beside their origin came cut, and say so; the log has them whole.
    """
    consumer = Consumer(
        {
            "bootstrap.servers": broker.bootstrap_servers,
            "group.id": f"{topic}-check",
            "enable.auto.commit": False,
        }
    )
    found: dict[Place, tuple[Message, dict[str, bytes]]] = {}

    def all_found() -> bool:
        for message in consumer.consume(500, 0.5):
            assert message.error() is None
            headers = _headers(message)
            if headers["meterstream-topic"] == topic.encode():
                place = (
                    int(headers["meterstream-partition"]), int(headers["meterstream-offset"]),
                )  # fmt: skip
                found[place] = (message, headers)
        return len(found) >= len(sent.bad)

    try:
        consumer.assign([TopicPartition(DEADLETTERS_TOPIC, 0, 0)])
        eventually(all_found, timeout_seconds=60)
    finally:
        consumer.close()
    assert found.keys() == sent.bad.keys()
    for place, (message, headers) in found.items():
        hostile = sent.bad[place]
        assert headers["meterstream-reason"] == hostile.reason.encode(), hostile.name
        assert headers["meterstream-detail"]
        whole = "meterstream-cut-from-bytes" not in headers
        assert whole or len(hostile.value or b"") + len(hostile.key or b"") > 1_000_000
        if whole:
            assert headers["own"] == b"header"
            assert message.value() == hostile.value, hostile.name
            assert headers.get("meterstream-key") == hostile.key, hostile.name
        else:
            assert hostile.value is not None
            assert headers["meterstream-cut-from-bytes"] == b"%d" % len(hostile.value)
            assert hostile.value.startswith(message.value() or b"?"), hostile.name
            assert (hostile.key or b"").startswith(headers.get("meterstream-key", b""))


def test_small_poison_between_good_records(broker: Broker, topic: str, tmp_path: Path) -> None:
    """First, in the middle and last in a batch: poison stops nobody and hides no neighbour."""
    settings = _settings(broker, topic, tmp_path)
    log = _Log(broker, topic)
    kinds = small_records(log.event(3, 900_000)._replace(tenant="poison"))

    # Partition 0 begins with poison, 1 ends with it, 2 has it in between, 3 has it all in a row.
    for turn, hostile in enumerate(kinds):
        for partition in range(3):
            if partition != 1:
                log.bad(partition, hostile)
            for number in range(GOOD_BETWEEN):
                log.good(partition, spelt_otherwise=(turn + number) % 5 == 0)
            if partition == 1:
                log.bad(partition, hostile)
    log.good(2)
    for _ in range(3 * len(kinds)):
        log.good(3)
    for hostile in kinds:
        log.bad(3, hostile)
    log.good(3)
    sent = log.flush()
    with running_worker(settings):
        _wait_until_folded(settings.store, sent)
        _check_store(settings.store, sent)
        _check_topic(broker, topic, sent)


def test_large_poison_between_good_records(broker: Broker, topic: str, tmp_path: Path) -> None:
    """Bombs, maps and records as large as the topic takes are dead letters, whole, and no more."""
    settings = _settings(broker, topic, tmp_path)
    log = _Log(broker, topic)

    with running_worker(settings) as worker:
        for hostile in large_records():
            for _ in range(50):
                log.good(0)
            log.bad(0, hostile)
        log.good(0)
        sent = log.flush()
        _wait_until_folded(settings.store, sent)
        _check_store(settings.store, sent)
        _check_topic(broker, topic, sent)
        assert worker.is_alive()


def test_poison_after_a_crash_is_reported_once(broker: Broker, topic: str, tmp_path: Path) -> None:
    """A worker killed among poison leaves its successor a store without double dead letters."""
    settings = _settings(broker, topic, tmp_path)
    log = _Log(broker, topic)
    kinds = small_records(log.event(3, 900_000)._replace(tenant="poison"))

    with running_worker(settings) as worker:
        for hostile in kinds:
            for _ in range(GOOD_BETWEEN):
                log.good(0)
            log.bad(0, hostile)
        log.flush()
        eventually(lambda: any(row.counted for row in _positions(settings.store).values()))
        worker.kill()
        worker.join()
    log.good(0)
    sent = log.flush()
    with running_worker(settings):
        _wait_until_folded(settings.store, sent)
        _check_store(settings.store, sent)
        _check_topic(broker, topic, sent)

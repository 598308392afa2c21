"""A hostile world through real Kafka, the worker killed at random moments, judged by the oracle.

The judge reads the log itself, with its own consumer and the plain decoder, and counts it slowly.
"""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from meterstream_aggregator.errors import StoreUnavailable
from meterstream_aggregator.store.opening import open_reader
from meterstream_consumers.settings import WorkerSettings
from meterstream_schemas import codec
from tests.integration.worker_process import running_worker
from tests.oracle.counting import LogRecord
from tests.oracle.verdict import differences
from tests.simulation.generator import CATALOGUE, world
from tests.waiting import eventually

if TYPE_CHECKING:
    from pathlib import Path

    from meterstream_aggregator.store.address import StoreAddress
    from tests.conftest import Broker

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]

PARTITIONS = 4
KILLS = 8
EVENTS = 6_000
SCHEMA = codec.parse_text(codec.bundled_text(codec.LATEST_ID))


def test_a_hostile_world_under_sigkill(broker: Broker, topic: str, tmp_path: Path) -> None:
    """None lost, none doubled, none altered: store and log agree although workers died midway."""
    seed = random.SystemRandom().randrange(10**6)
    print(f"seed {seed}")  # noqa: T201 - a failure must be repeatable
    rng = random.Random(seed)
    _, records = world(seed, EVENTS)
    settings = _settings(broker, topic, tmp_path)

    at = 0
    for life in range(KILLS):
        with running_worker(settings) as worker:
            before = _folded(settings.store)
            until = len(records) * (life + 1) // (KILLS + 1)
            _produce(broker, topic, records[at:until])
            at = until
            # The first sign of work, and then somewhere in the middle of it.
            _wait_for_progress(settings.store, before)
            time.sleep(rng.uniform(0, 0.05))
            worker.kill()
            worker.join()
    _produce(broker, topic, records[at:])
    log = _read_log(broker, topic)
    assert len(log) == len(records)
    with running_worker(settings):
        ends = sum(max(r.offset for r in log if r.partition == p) + 1 for p in range(PARTITIONS))
        eventually(lambda: _folded(settings.store) == ends, timeout_seconds=60)

    reader = open_reader(settings.store)
    try:
        assert differences(reader, CATALOGUE, log) == [], f"seed {seed}"
        epochs = {row.partition: row.epoch for row in reader.positions()}
        assert all(epoch > 1 for epoch in epochs.values()), epochs
    finally:
        reader.close()


def _settings(broker: Broker, topic: str, tmp_path: Path) -> WorkerSettings:
    catalogue = tmp_path / "meters.yaml"
    catalogue.write_text(CATALOGUE, "utf-8")
    return WorkerSettings(
        bootstrap_servers=broker.bootstrap_servers,
        topic=topic,
        group=topic,
        # A static member gets its partitions back at once, so that every life does work.
        instance=f"{topic}-worker",
        catalogue=catalogue,
        store=tmp_path / "store.sqlite3",
        batch_events_max=200,
        # A tick in the log, on a slow machine, is no event of this world.
        tick_seconds=0.0,
    )


def _produce(broker: Broker, topic: str, records: list[LogRecord]) -> None:
    producer = Producer({"bootstrap.servers": broker.bootstrap_servers, "linger.ms": 5})
    for record in records:
        value = codec.encode(record.event, SCHEMA)
        producer.produce(topic, value, record.event.tenant.encode(), record.partition)
    assert producer.flush(30) == 0


def _read_log(broker: Broker, topic: str) -> list[LogRecord]:
    """The log as it stands: partition by partition, since order holds only within one."""
    consumer = Consumer(
        {
            "bootstrap.servers": broker.bootstrap_servers,
            "group.id": f"{topic}-judge",
            "enable.auto.commit": False,
            "enable.partition.eof": False,
        }
    )
    log: list[LogRecord] = []
    try:
        ends = {
            partition: consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=10)
            for partition in range(PARTITIONS)
        }
        left = sum(high - low for low, high in ends.values())
        consumer.assign([TopicPartition(topic, partition, 0) for partition in range(PARTITIONS)])
        while len(log) < left:
            for message in consumer.consume(1_000, 1.0):
                assert message.error() is None, message.error()
                value, partition, offset = message.value(), message.partition(), message.offset()
                assert value is not None
                assert partition is not None
                assert offset is not None
                append_time = message.timestamp()[1] * 1_000
                event = codec.decode_body(value[5:], SCHEMA)
                log.append(LogRecord(partition, offset, append_time, event))
    finally:
        consumer.close()
    return sorted(log)


def _wait_for_progress(store: StoreAddress, before: int) -> None:
    eventually(lambda: _folded(store) > before, timeout_seconds=60)


def _folded(store: StoreAddress) -> int:
    try:
        reader = open_reader(store)
    except StoreUnavailable:
        return 0
    try:
        return sum(row.next_offset for row in reader.positions() if row.next_offset > 0)
    except StoreUnavailable:
        return 0
    finally:
        reader.close()

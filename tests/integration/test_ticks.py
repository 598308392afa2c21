"""Idle partitions of a real topic: the log's time goes on in them, and nothing else does."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
from confluent_kafka import Producer

from meterstream_aggregator.errors import StoreUnavailable
from meterstream_aggregator.store.opening import open_reader
from meterstream_consumers.decode import Decoder
from meterstream_consumers.logreader import LogReader, Range
from meterstream_consumers.settings import WorkerSettings
from meterstream_schemas.events import EventKind, MeterEvent
from meterstream_schemas.registry import BundledSchemas
from tests.integration.hostile_records import encode, good
from tests.integration.worker_process import running_worker
from tests.unit.consumers.test_metrics import free_port, get
from tests.waiting import eventually

if TYPE_CHECKING:
    from pathlib import Path

    from meterstream_aggregator.store.address import StoreAddress
    from meterstream_aggregator.store.told import PositionRow
    from tests.conftest import Broker

pytestmark = pytest.mark.integration

CATALOGUE = """
metering_since: 2026-01-01T00:00:00Z
meters:
  - {name: api.request, aggregate: count}
  - {name: agent.run, aggregate: session, timeout: 1s}
"""


def _positions(store: StoreAddress) -> dict[int, PositionRow]:
    try:
        reader = open_reader(store)
    except StoreUnavailable:
        return {}
    try:
        return {row.partition: row for row in reader.positions()}
    except StoreUnavailable:
        return {}
    finally:
        reader.close()


def _ticks(broker: Broker, topic: str) -> list[tuple[int, MeterEvent]]:
    """Every record without a producer, with its partition."""
    found: list[tuple[int, MeterEvent]] = []
    with LogReader(broker.bootstrap_servers, topic) as log:
        ranges = [Range(p, *bounds) for p, bounds in log.bounds(range(4)).items()]
        for raw in log.read(ranges):
            batch = Decoder(BundledSchemas()).decode(raw).batch
            for row, partition in enumerate(batch.partition.tolist()):
                if not (event := batch.event(row)).producer:
                    found.append((partition, event))
    return found


def test_idle_partitions_become_final(broker: Broker, topic: str, tmp_path: Path) -> None:
    """A partition that ends with a transaction's marker, and empty ones, get the log's time.

    A session times out by it. Nothing is counted, refused or missing by a tick, no partition looks
    unread for ever, and no more ticks are written than the interval allows.
    """
    catalogue = tmp_path / "meters.yaml"
    catalogue.write_text(CATALOGUE, "utf-8")
    port = free_port()
    settings = WorkerSettings(
        bootstrap_servers=broker.bootstrap_servers,
        topic=topic,
        group=topic,
        catalogue=catalogue,
        store=tmp_path / "store.sqlite3",
        metrics=f"127.0.0.1:{port}",
        tick_seconds=0.5,
    )
    now = time.time_ns() // 1_000
    start = good(1, tenant="t", lane=1, time=now)._replace(
        kind=EventKind.SESSION_START, type="agent.run", session="s"
    )
    producer = Producer({"bootstrap.servers": broker.bootstrap_servers, "transactional.id": topic})
    producer.init_transactions(60)
    producer.begin_transaction()
    producer.produce(topic, encode(start), b"t", 1)
    producer.commit_transaction(60)
    began = time.monotonic()

    with running_worker(settings):
        eventually(
            lambda: (
                len(found := _positions(settings.store)) == 4
                and min(row.appended for row in found.values()) > now + 3_000_000
            ),
            timeout_seconds=60,
        )
        # A scrape between a tick's append and its folding honestly shows one unread record.
        unread = f'consumer_lag_events{{partition="1",topic="{topic}"}}'
        eventually(lambda: f"{unread} 0.0" in get(port, "/metrics")[1], timeout_seconds=30)
        _, metrics = get(port, "/metrics")
    elapsed = time.monotonic() - began

    rows = _positions(settings.store).values()
    reader = open_reader(settings.store)
    [session] = reader.sessions()
    letters, producers = reader.dead_letters(), reader.producers()
    reader.close()
    ticks = _ticks(broker, topic)
    assert session.state == "timed_out"
    assert sum(row.counted for row in rows) == 1
    assert not any(row.duplicates + row.refused for row in rows)
    assert letters == []
    assert [(row.seen, row.missing) for row in producers] == [(1, ())]
    assert {partition for partition, _ in ticks} == {0, 1, 2, 3}
    assert {event.kind for _, event in ticks} == {EventKind.MARK}
    assert len(ticks) <= 4 * (elapsed / 0.5 + 1)
    assert "meterstream_ticks_total 0.0" not in metrics

"""A flood of refused records on a real topic: the worker stops before it drains them."""

from __future__ import annotations

import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest
from confluent_kafka import Producer

from meterstream_aggregator.store.opening import open_reader
from meterstream_consumers.settings import WorkerSettings
from meterstream_services.ends import FLOODED
from tests.integration.hostile_records import encode, good
from tests.integration.worker_process import running_worker
from tests.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tests.conftest import Broker

pytestmark = pytest.mark.integration

GOOD, BAD, RUN_MAX = 200, 1_500, 1_000
CATALOGUE = "metering_since: 2026-01-01T00:00:00Z\nmeters: [{name: %s, aggregate: count}]\n"


def _worker(settings: WorkerSettings, *more: str) -> tuple[int, str]:
    """`meterstream worker`, which is expected to end by itself: its status and its last words."""
    command: Sequence[str] = [
        sys.executable, "-m", "meterstream_services.cli.main", "worker",
        "--bootstrap", settings.bootstrap_servers, "--topic", settings.topic,
        "--group", settings.group, "--instance", "flooded",
        "--catalogue", str(settings.catalogue), "--store", str(settings.store), *more,
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=90, check=False)
    return done.returncode, done.stderr.strip().splitlines()[-1]


def _told(settings: WorkerSettings) -> tuple[int, int]:
    """(counted, refused) of the store."""
    reader = open_reader(settings.store)
    try:
        rows = reader.positions()
    finally:
        reader.close()
    return sum(row.counted for row in rows), sum(row.refused for row in rows)


def test_a_flood_stops_the_worker_again_and_again(
    broker: Broker, topic: str, tmp_path: Path
) -> None:
    """Status 79, one sentence, nothing drained, at a new start too; a higher limit lets it on."""
    catalogue = tmp_path / "meters.yaml"
    catalogue.write_text(CATALOGUE % "something.else", "utf-8")
    settings = WorkerSettings(
        bootstrap_servers=broker.bootstrap_servers,
        topic=topic,
        group=topic,
        catalogue=catalogue,
        store=tmp_path / "store.sqlite3",
    )
    producer = Producer({"bootstrap.servers": broker.bootstrap_servers, "linger.ms": 5})
    now = time.time_ns() // 1_000 - 60_000_000
    for number in range(1, GOOD + BAD + 1):
        event = good(number, tenant="t", lane=2, time=now)
        if number <= GOOD:
            event = event._replace(type="something.else")
        producer.produce(topic, encode(event), b"t", 2)
    assert producer.flush(60) == 0

    limit = ("--deadletter-run-max", str(RUN_MAX))
    first, second = _worker(settings, *limit), _worker(settings, *limit)
    after_two = _told(settings)
    with running_worker(settings):
        eventually(lambda: sum(_told(settings)) >= GOOD + BAD, timeout_seconds=60)

    for status, sentence in (first, second):
        assert status == FLOODED, sentence
        assert "partition 2" in sentence
        assert f"{RUN_MAX + 1:,} records in a row" in sentence
        assert "unknown_type" in sentence
        assert "no meter reads type 'api.request'" in sentence
        assert "--deadletter-run-max 0" in sentence
    assert after_two[1] <= RUN_MAX
    assert _told(settings) == (GOOD, BAD)

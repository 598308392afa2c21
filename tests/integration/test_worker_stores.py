"""A worker and its store on a real broker: away for a while, and two stores for one group."""

from __future__ import annotations

import sqlite3
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.integration import counting
from tests.integration.counting import Sender, wait_until_folded
from tests.integration.worker_process import impatient_worker, running_worker
from tests.unit.consumers.test_metrics import free_port, get
from tests.waiting import eventually

if TYPE_CHECKING:
    from meterstream_consumers.settings import WorkerSettings
    from tests.conftest import Broker

pytestmark = [pytest.mark.integration, pytest.mark.timeout(420)]


@pytest.fixture
def settings(broker: Broker, topic: str, tmp_path: Path) -> WorkerSettings:
    """A worker of a fresh topic, store and group."""
    return counting.worker_settings(broker, topic, tmp_path)


@pytest.fixture
def sender(broker: Broker, topic: str) -> Sender:
    """A sender of numbered events."""
    return Sender(broker.bootstrap_servers, topic)


def test_a_store_that_is_away_is_waited_for(settings: WorkerSettings, sender: Sender) -> None:
    """The worker keeps its partitions and says why it is not ready; then it counts on, once each.

    Longer than the session timeout: a worker that did not poll would be given up meanwhile.
    """
    port = free_port()
    settings = replace(settings, metrics=f"127.0.0.1:{port}")
    sender.send(2_000)
    assert isinstance(settings.store, Path)
    with impatient_worker(settings):
        wait_until_folded(settings, sender)
        epochs = [row.epoch for row in counting.positions(settings.store)]
        lock = sqlite3.connect(settings.store, isolation_level=None)
        lock.execute("BEGIN IMMEDIATE")
        try:
            sender.send(2_000)
            sender.flush()
            eventually(
                lambda: "is away since" in get(port, "/health/ready")[1],
                timeout_seconds=counting.LONG,
            )
            status, why = get(port, "/health/ready")
            assert status == 503
            assert "store.sqlite3: database is locked" in why
            assert get(port, "/health/live")[0] == 200
            time.sleep(settings.session_timeout_seconds + 3)
            assert counting.folded(settings.store) == 2_000
        finally:
            lock.execute("ROLLBACK")
            lock.close()
        wait_until_folded(settings, sender)
        eventually(lambda: get(port, "/health/ready")[0] == 200, timeout_seconds=counting.LONG)
        metrics = get(port, "/metrics")[1]
    counting.check_counted_once(settings, sender)
    # The group never moved a partition: nothing but the worker itself claimed anew.
    assert 'meterstream_rebalances_total{kind="assigned"} 4.0' in metrics
    assert 'meterstream_rebalances_total{kind="revoked"} 0.0' in metrics
    assert 'meterstream_rebalances_total{kind="lost"} 0.0' in metrics
    assert "meterstream_paused_partitions 0.0" in metrics
    after = [row.epoch for row in counting.positions(settings.store)]
    assert all(now > then for now, then in zip(after, epochs, strict=True))


def test_a_second_machines_file_is_refused(settings: WorkerSettings, sender: Sender) -> None:
    """What one store has counted is not counted on in another, unless somebody says so."""
    sender.send(400)
    with running_worker(settings):
        wait_until_folded(settings, sender)
    assert isinstance(settings.store, Path)
    other = replace(settings, store=settings.store.with_name("elsewhere.sqlite3"))

    with counting.worker_command(other) as worker:
        status, told = worker.end()

    assert status == 78, told
    assert f"group {settings.group!r}" in told
    assert str(settings.store) in told
    assert "--store-replaced" in told
    assert counting.folded(other.store) == 0
    with running_worker(replace(other, store_replaced=True)):
        wait_until_folded(other, sender)
    counting.check_counted_once(other, sender)
    # From then on the group's positions name the new store; the old one is refused in its turn.
    sender.send(400)
    with running_worker(other):
        wait_until_folded(other, sender)
    with counting.worker_command(settings) as worker:
        status, told = worker.end()
    assert status == 78, told
    assert str(other.store) in told


def test_two_files_at_once_stop_each_other(settings: WorkerSettings, sender: Sender) -> None:
    """Two workers of one group with a file each would hold half: at the latest when both count."""
    assert isinstance(settings.store, Path)
    other = replace(settings, store=settings.store.with_name("elsewhere.sqlite3"))
    with counting.worker_command(settings) as one, counting.worker_command(other) as two:
        eventually(
            lambda: all("took partition" in worker.said for worker in (one, two)),
            timeout_seconds=counting.LONG,
        )
        ended = False
        until = time.monotonic() + counting.LONG
        while not ended and time.monotonic() < until:
            sender.send(40)
            time.sleep(0.2)
            ended = any(worker.process.poll() is not None for worker in (one, two))
        assert ended, "two halves were counted side by side"
        stopped = next(worker for worker in (one, two) if worker.process.poll() is not None)
        status, told = stopped.end()

    assert status == 78, told
    assert "SQLite store is for the workers of one machine" in told

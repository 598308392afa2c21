"""A worker on a real broker: what it counts, what it survives, how it leaves, what it refuses."""

from __future__ import annotations

import subprocess
import sys
import time
import urllib.request
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from tests.integration import counting
from tests.integration.counting import (
    CATALOGUE,
    PARTITIONS,
    Sender,
    check_counted_once,
    folded,
    positions,
    wait_until_folded,
)
from tests.integration.worker_process import running_worker
from tests.unit.consumers.test_metrics import free_port, get
from tests.waiting import eventually

if TYPE_CHECKING:
    from meterstream_consumers.settings import WorkerSettings
    from tests.conftest import Broker

pytestmark = pytest.mark.integration


@pytest.fixture
def settings(broker: Broker, topic: str, tmp_path: Path) -> WorkerSettings:
    """A worker of a fresh topic, store and group; a dead member is missed after six seconds."""
    return counting.worker_settings(broker, topic, tmp_path)


@pytest.fixture
def sender(broker: Broker, topic: str) -> Sender:
    """A sender of numbered events."""
    return Sender(broker.bootstrap_servers, topic)


def test_counts_and_tells(settings: WorkerSettings, sender: Sender) -> None:
    """Events and resends are counted and told in metrics; SIGTERM drains and ends with 0."""
    port = free_port()
    settings = replace(settings, metrics=f"127.0.0.1:{port}")
    sender.send(4_000)
    sender.resend(25)
    with running_worker(settings) as worker:
        wait_until_folded(settings, sender)
        eventually(lambda: get(port, "/health/ready")[0] == 200)
        no_lag = f'meterstream_consumer_lag_events{{partition="3",topic="{settings.topic}"}} 0.0'
        eventually(lambda: no_lag in get(port, "/metrics")[1])
        _, metrics = get(port, "/metrics")
        worker.terminate()
        worker.join(30)
        assert worker.exitcode == 0
    check_counted_once(settings, sender)
    assert 'events_processed_total{result="counted"} 4000.0' in metrics
    assert 'events_processed_total{result="duplicate"} 100.0' in metrics
    assert "meterstream_assigned_partitions 4.0" in metrics
    assert "meterstream_db_commit_duration_seconds_count 0.0" not in metrics


def test_sigterm_under_load_loses_nothing(settings: WorkerSettings, sender: Sender) -> None:
    """Stopped in the middle of a backlog it ends with 0; the next goes on exactly there."""
    sender.send(60_000)
    sender.flush()
    small = replace(settings, batch_events_max=2_000)
    with running_worker(small) as worker:
        eventually(lambda: folded(settings.store) > 0, timeout_seconds=counting.LONG)
        worker.terminate()
        worker.join(30)
        assert worker.exitcode == 0
    with running_worker(settings):
        wait_until_folded(settings, sender)
    check_counted_once(settings, sender)


def test_sigkill_again_and_again(settings: WorkerSettings, sender: Sender) -> None:
    """Killed five times while events and resends come: each number is counted once."""
    settings = replace(settings, instance="always-the-same")
    for _ in range(5):
        before = folded(settings.store)
        with running_worker(settings) as worker:
            sender.send(3_000)
            sender.resend(50)
            eventually(partial(_is_beyond, settings, before), timeout_seconds=counting.LONG)
            sender.send(2_000)
            worker.kill()
            worker.join()
        sender.resend(200)
    with running_worker(settings):
        wait_until_folded(settings, sender)
    check_counted_once(settings, sender)


def test_workers_come_and_go(settings: WorkerSettings, sender: Sender) -> None:
    """Partitions move between two workers under load, and back: each number is counted once."""

    def owners() -> int:
        return len({row.owner for row in positions(settings.store)})

    first, second = replace(settings, instance="first"), replace(settings, instance="second")
    with running_worker(first) as leaving:
        sender.send(4_000)
        eventually(lambda: folded(settings.store) > 0, timeout_seconds=counting.LONG)
        with running_worker(second):
            while owners() < 2:
                sender.send(400)
                time.sleep(0.05)
            sender.send(4_000)
            leaving.terminate()
            leaving.join(30)
            assert leaving.exitcode == 0
            sender.send(4_000)
            wait_until_folded(settings, sender)
    check_counted_once(settings, sender)


def _is_beyond(settings: WorkerSettings, before: int) -> bool:
    return folded(settings.store) > before


def _made(settings: WorkerSettings) -> bool:
    assert isinstance(settings.store, Path)
    return settings.store.exists()


def _run(settings: WorkerSettings, **changes: str) -> tuple[int, str]:
    """`meterstream worker`, which is expected to end by itself: its status and its last words."""
    options = {
        "bootstrap": settings.bootstrap_servers,
        "topic": settings.topic,
        "group": settings.group,
        "catalogue": str(settings.catalogue),
        "store": str(settings.store),
    } | changes
    command = [sys.executable, "-m", "meterstream_services.cli.main", "worker"]
    for name, value in options.items():
        command += [f"--{name}", value]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=counting.LONG, check=False
    )
    return done.returncode, done.stderr.strip()


def _is_one_sentence(told: tuple[int, str], *words: str) -> None:
    status, sentence = told
    assert status not in {0, 2}, sentence
    assert "Traceback" not in sentence
    assert sentence.count("\n") == 0, sentence
    for word in words:
        assert word in sentence


def _fold_some(settings: WorkerSettings, sender: Sender) -> None:
    sender.send(40)
    with running_worker(settings):
        wait_until_folded(settings, sender)


def test_a_topic_with_producers_clocks_is_refused(broker: Broker, settings: WorkerSettings) -> None:
    """Without LogAppendTime nothing can be called late: the worker does not begin."""
    name = f"{settings.topic}.create-time"
    admin = AdminClient({"bootstrap.servers": broker.bootstrap_servers})
    topic = NewTopic(name, 2, 1, config={"message.timestamp.type": "CreateTime"})
    admin.create_topics([topic])[name].result(30)

    _is_one_sentence(_run(settings, topic=name), name, "LogAppendTime")

    assert not _made(settings)


def test_what_cannot_be_reached_is_told(settings: WorkerSettings) -> None:
    """No such topic, no broker, no catalogue: one sentence each, and no store is begun."""
    _is_one_sentence(_run(settings, topic="no.such.topic"), "no.such.topic")
    _is_one_sentence(_run(settings, bootstrap=f"127.0.0.1:{free_port()}"), "127.0.0.1")
    absent = str(settings.catalogue.with_name("none.yaml"))
    _is_one_sentence(_run(settings, catalogue=absent), absent, "no such catalogue file")

    assert not _made(settings)


def test_a_catalogue_with_a_mistake_is_told(settings: WorkerSettings) -> None:
    """File, line, field and remedy, before anything is touched."""
    settings.catalogue.write_text(CATALOGUE.replace("count", "cuont"), "utf-8")

    _is_one_sentence(_run(settings), "meters.yaml:5: meters.1.aggregate 'cuont'", "write 'count'")


def test_a_changed_meter_is_refused(settings: WorkerSettings, sender: Sender) -> None:
    """What was counted one way is not counted on in another."""
    _fold_some(settings, sender)
    settings.catalogue.write_text(CATALOGUE.replace("aggregate: sum", "aggregate: max"), "utf-8")

    _is_one_sentence(_run(settings), "'api.total'", "'sum' → 'max'", "from: ")

    check_counted_once(settings, sender)


def test_the_store_of_another_topic_is_refused(
    broker: Broker, settings: WorkerSettings, sender: Sender
) -> None:
    """A store is never fed from two topics, nor from a topic made anew under its old name."""
    _fold_some(settings, sender)
    name = f"{settings.topic}.other"
    admin = AdminClient({"bootstrap.servers": broker.bootstrap_servers})
    config = {"message.timestamp.type": "LogAppendTime"}
    admin.create_topics([NewTopic(name, PARTITIONS, 1, config=config)])[name].result(30)

    told = _run(settings, topic=name, group=name)

    _is_one_sentence(told, settings.topic, name, "name another store")

    check_counted_once(settings, sender)


def test_retention_that_overtook_is_told(
    broker: Broker, settings: WorkerSettings, sender: Sender
) -> None:
    """When the log no longer has what follows the position, nothing is skipped in silence."""
    _fold_some(settings, sender)
    sender.send(400)
    sender.flush()
    admin = AdminClient({"bootstrap.servers": broker.bootstrap_servers})
    gone = [TopicPartition(settings.topic, partition, 60) for partition in range(PARTITIONS)]
    for future in admin.delete_records(gone).values():
        future.result(30)
    before = positions(settings.store)

    status, told = _run(settings)

    assert status not in {0, 2}, told
    assert "retention overtook this worker" in told.splitlines()[-1]
    after = positions(settings.store)
    assert [row.next_offset for row in after] == [row.next_offset for row in before]


def test_a_metrics_port_in_use_is_told(settings: WorkerSettings) -> None:
    """A worker whose metrics cannot be served does not begin."""
    port = free_port()
    with running_worker(replace(settings, metrics=f"127.0.0.1:{port}")):
        eventually(lambda: _answers(port), timeout_seconds=counting.LONG)

        _is_one_sentence(_run(settings, metrics=f"127.0.0.1:{port}"), "name a free HOST:PORT")


def _answers(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health/live", timeout=5):
            return True
    except OSError:
        return False

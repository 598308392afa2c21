"""What can happen to the log behind a worker's back: retention, and a topic made anew."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient

from meterstream_aggregator.store.opening import open_reader
from meterstream_consumers.gaps import Gap
from meterstream_consumers.settings import GroupProtocol
from meterstream_infra.topics import check_topic, ensure_topics
from tests.integration import counting
from tests.integration.counting import PARTITIONS, Sender, wait_until_folded
from tests.integration.worker_process import running_worker
from tests.unit.consumers.test_metrics import free_port, get
from tests.waiting import eventually

if TYPE_CHECKING:
    from pathlib import Path

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


def _fold_then_lose(
    settings: WorkerSettings, sender: Sender, partitions: range, upto: int
) -> list[int | None]:
    """Ten records a partition are folded, a hundred more are sent, and some of them are deleted."""
    sender.send(40)
    with running_worker(settings):
        wait_until_folded(settings, sender)
    sender.send(400)
    sender.flush()
    admin = AdminClient({"bootstrap.servers": settings.bootstrap_servers})
    gone = [TopicPartition(settings.topic, partition, upto) for partition in partitions]
    for future in admin.delete_records(gone).values():
        future.result(30)
    return [row.next_offset for row in counting.positions(settings.store)]


def test_a_gap_everywhere_ends_the_worker(settings: WorkerSettings, sender: Sender) -> None:
    """With a status of its own, the gap in numbers, and what accepts it; nothing has moved."""
    before = _fold_then_lose(settings, sender, range(PARTITIONS), upto=60)

    with counting.worker_command(settings) as worker:
        status, told = worker.end()
        said = worker.said

    assert status == 80, told
    assert "retention overtook this worker" in told
    assert "offsets 10 to 59 (50 records)" in told
    assert said.count("gap in the log") == PARTITIONS
    assert [row.next_offset for row in counting.positions(settings.store)] == before


def test_a_gap_stops_its_partition_alone(settings: WorkerSettings, sender: Sender) -> None:
    """The others are counted on; readiness and a metric name it; then it is accepted in words."""
    _fold_then_lose(settings, sender, range(1), upto=60)
    port = free_port()
    elsewhere = 110 * (PARTITIONS - 1)
    with running_worker(replace(settings, metrics=f"127.0.0.1:{port}")) as worker:
        eventually(
            lambda: counting.folded(settings.store) == 10 + elsewhere, timeout_seconds=counting.LONG
        )
        # Until its first look around, a worker is not ready for having joined nothing yet.
        ready = (503, "--accept-gap 0:10-59")
        eventually(
            lambda: (found := get(port, "/health/ready"))[0] == ready[0] and ready[1] in found[1],
            timeout_seconds=counting.LONG,
        )
        assert "meterstream_offset_gap_events_total 50.0" in get(port, "/metrics")[1]
        worker.terminate()
        worker.join(60)
        assert worker.exitcode == 1, "what nobody accepted is told at the end, too"

    # Another gap than this one is not accepted.
    with running_worker(replace(settings, accepted_gaps=(Gap(0, 10, 58),))):
        eventually(lambda: len(counting.positions(settings.store)) == PARTITIONS)
    assert counting.folded(settings.store) == 10 + elsewhere

    with running_worker(replace(settings, accepted_gaps=(Gap(0, 10, 59),))):
        eventually(
            lambda: counting.positions(settings.store)[0].next_offset == 110,
            timeout_seconds=counting.LONG,
        )
    reader = open_reader(settings.store)
    try:
        [letter] = reader.dead_letters()
        missing = [row.missing for row in reader.producers(partition=0)]
        positions = reader.positions()
    finally:
        reader.close()
    assert (letter.partition, letter.offset, letter.reason) == (0, 10, "lost")
    assert "10 to 59 (50 records)" in letter.detail
    assert [[(lane, first, last) for lane, first, last, _ in each] for each in missing] == [
        [(0, 11, 60)]
    ]
    assert positions[0].counted == 60


def test_a_topic_made_anew_meanwhile_is_refused(settings: WorkerSettings, sender: Sender) -> None:
    """Under the old name, with other records: told by its id before anything is read."""
    sender.send(40)
    with running_worker(settings):
        wait_until_folded(settings, sender)
    before = counting.positions(settings.store)
    _make_anew(settings)

    with counting.worker_command(settings) as worker:
        status, told = worker.end()

    assert status == 78, told
    assert "another store" in told
    assert counting.positions(settings.store) == before


@pytest.mark.parametrize("protocol", list(GroupProtocol))
def test_a_topic_made_anew_under_a_running_worker(
    settings: WorkerSettings, sender: Sender, protocol: GroupProtocol
) -> None:
    """Noticed by its id, though it soon has more records than the old one: none is counted."""
    settings = replace(settings, group_protocol=protocol)
    sender.send(40)
    with counting.worker_command(settings) as worker:
        wait_until_folded(settings, sender)
        before = [(row.next_offset, row.counted) for row in counting.positions(settings.store)]
        _make_anew(settings)
        again = Sender(settings.bootstrap_servers, settings.topic)
        again.send(4_000)
        again.flush()
        status, told = worker.end()

    assert status == 78, told
    assert "deleted" in told
    after = [(row.next_offset, row.counted) for row in counting.positions(settings.store)]
    assert after == before


def _make_anew(settings: WorkerSettings) -> None:
    servers = settings.bootstrap_servers
    before = check_topic(servers, settings.topic)
    admin = AdminClient({"bootstrap.servers": servers})
    admin.delete_topics([settings.topic])[settings.topic].result(30)
    eventually(lambda: settings.topic not in admin.list_topics(timeout=10).topics)
    after = ensure_topics(servers, partitions=PARTITIONS, events_topic=settings.topic)
    assert after.topic_id != before.topic_id

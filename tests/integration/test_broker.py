"""The embedded broker: what survives, what is refused, and that nothing is left running."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Final

import psutil
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from meterstream_infra.broker import EmbeddedBroker
from meterstream_infra.errors import BrokerFailed, DirectoryInUse, PortInUse
from meterstream_infra.ports import draw_free_port, is_free
from meterstream_infra.topics import check_topic, ensure_topics
from tests.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.integration

RECORDS: Final = 200
RESIDENT_BYTES_MAX: Final = 512 * 1024 * 1024


@pytest.fixture
def own(tmp_path: Path) -> Iterator[EmbeddedBroker]:
    """A broker of the test's own, not started, and gone after the test however that ended."""
    broker = EmbeddedBroker(tmp_path / "data", log=tmp_path / "broker.log")
    yield broker
    broker.kill()


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedBroker]:
    """A broker that runs on a named port, started from a thread that has ended since."""
    broker = EmbeddedBroker(tmp_path_factory.mktemp("running"), port=draw_free_port())
    thread = threading.Thread(target=broker.start)
    thread.start()
    thread.join()
    yield broker
    broker.stop()


def produce(bootstrap: str, topic: str, *, first: int, count: int) -> None:
    """Put numbered records into partition 0 and wait until the broker has acknowledged all."""
    failures: list[object] = []
    producer = Producer({"bootstrap.servers": bootstrap, "acks": "all"})
    for number in range(first, first + count):
        producer.produce(
            topic,
            str(number).encode(),
            partition=0,
            on_delivery=lambda error, _: failures.append(error) if error else None,
        )
    assert producer.flush(30) == 0
    assert failures == []


def consume(bootstrap: str, topic: str, *, count: int) -> list[int]:
    """The numbers in partition 0 from its beginning, ``count`` of them."""
    consumer = Consumer(
        {"bootstrap.servers": bootstrap, "group.id": "test", "enable.auto.commit": False}
    )
    try:
        consumer.assign([TopicPartition(topic, 0, 0)])
        numbers: list[int] = []
        deadline = time.monotonic() + 30
        while len(numbers) < count and time.monotonic() < deadline:
            for message in consumer.consume(count - len(numbers), timeout=1):
                assert message.error() is None
                numbers.append(int(message.value() or b""))
        return numbers
    finally:
        consumer.close()


def test_restart_keeps_records_port_and_topic(own: EmbeddedBroker) -> None:
    """A clean stop and a start lose no record and change neither the address nor the topic."""
    bootstrap = own.start()
    made = ensure_topics(bootstrap, partitions=2)
    produce(bootstrap, made.topic, first=0, count=RECORDS)

    own.stop()
    again = own.start()

    assert again == bootstrap
    assert check_topic(again, made.topic) == made
    assert consume(again, made.topic, count=RECORDS) == list(range(RECORDS))


def test_kill_keeps_every_acknowledged_record(own: EmbeddedBroker) -> None:
    """After kill -9 the broker starts unaided and holds whatever it had acknowledged."""
    bootstrap = own.start()
    made = ensure_topics(bootstrap, partitions=1)
    produce(bootstrap, made.topic, first=0, count=RECORDS)

    own.kill()
    assert not own.alive()
    again = own.start()
    produce(again, made.topic, first=RECORDS, count=RECORDS)

    assert again == bootstrap
    assert check_topic(again, made.topic) == made
    assert consume(again, made.topic, count=2 * RECORDS) == list(range(2 * RECORDS))


def test_stop_leaves_nothing(own: EmbeddedBroker) -> None:
    """After a stop no process is left, the port is free and the log tells of the shutdown."""
    own.start()
    pid = own.pid
    assert pid is not None
    port = int(own.bootstrap_servers.rpartition(":")[2])
    assert psutil.Process(pid).memory_info().rss < RESIDENT_BYTES_MAX

    own.stop()

    assert own.pid is None
    assert not psutil.pid_exists(pid)
    assert is_free(port)
    assert "shut down completed" in own.log.read_text("utf-8")


def test_second_broker_on_one_directory_is_refused(running: EmbeddedBroker) -> None:
    """A directory has one broker: the second start names the first and harms nothing."""
    second = EmbeddedBroker(running.data)

    with pytest.raises(DirectoryInUse, match=running.bootstrap_servers) as refusal:
        second.start()

    assert f"process {running.pid} " in refusal.value.holder
    assert running.alive()
    assert not second.alive()


def test_starting_again_changes_nothing(running: EmbeddedBroker) -> None:
    """A start of a broker that runs answers with its address."""
    pid = running.pid

    assert running.start() == running.bootstrap_servers
    assert running.pid == pid


def test_remembered_port_in_use_is_refused(own: EmbeddedBroker) -> None:
    """A foreign listener on the broker's own port is named, with the file that remembers it."""
    with socket.create_server(("127.0.0.1", 0)) as squatter:
        port = squatter.getsockname()[1]
        own.data.mkdir()
        (own.data / "address").write_text(f"127.0.0.1:{port}\n", "utf-8")

        with pytest.raises(PortInUse, match=str(own.data / "address")) as refusal:
            own.start()

    assert refusal.value.port == port
    assert not own.alive()


def test_lost_race_for_a_port_is_a_port_in_use(
    running: EmbeddedBroker, own: EmbeddedBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A broker never takes another's answer on a port for its own: it says the port is in use."""
    own.data.mkdir()
    (own.data / "address").write_text(running.bootstrap_servers, "utf-8")
    looks = iter([True])
    monkeypatch.setattr(
        "meterstream_infra.ports.is_free", lambda port: next(looks, False) or is_free(port)
    )

    with pytest.raises(PortInUse, match=running.bootstrap_servers.rpartition(":")[2]):
        own.start()

    assert not own.alive()
    assert running.alive()


def test_broker_that_cannot_start_shows_its_log(own: EmbeddedBroker) -> None:
    """A broker that ends while starting fails with the end of its log and leaves no process."""
    (own.data / "log").mkdir(parents=True)
    (own.data / "log" / "meta.properties").write_text("nonsense\n", "utf-8")

    with pytest.raises(BrokerFailed, match="the broker ended while starting") as failure:
        own.start()

    assert str(own.log) in str(failure.value)
    assert "Exiting Kafka due to fatal exception" in failure.value.log_tail
    assert not own.alive()


def test_broker_that_is_not_ready_in_time_is_ended(own: EmbeddedBroker) -> None:
    """A start that takes longer than allowed fails and leaves no process behind."""
    with pytest.raises(BrokerFailed, match="was not ready in time"):
        own.start(timeout_seconds=0.1)

    assert not own.alive()


def test_broker_outlives_the_thread_that_started_it(running: EmbeddedBroker) -> None:
    """A start from a short-lived thread does not tie the broker to that thread's life."""
    made = ensure_topics(running.bootstrap_servers, partitions=1)

    assert check_topic(running.bootstrap_servers, made.topic) == made
    assert running.alive()


def test_interrupt_from_the_terminal_leaves_the_order_to_the_owner(
    running: EmbeddedBroker,
) -> None:
    """Ctrl-C goes to a terminal's process group; the broker is not in ours, so it still serves."""
    pid = running.pid
    assert pid is not None

    assert os.getpgid(pid) != os.getpgid(0)
    assert os.getsid(pid) != os.getsid(0)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ties a process to its parent")
@pytest.mark.parametrize("ending", [signal.SIGKILL, signal.SIGTERM], ids=["kill", "term"])
def test_broker_dies_with_its_parent(tmp_path: Path, ending: signal.Signals) -> None:
    """However the process that started the broker ends, the broker ends too, and cleanly."""
    script = (
        "import sys, time; from pathlib import Path\n"
        "from meterstream_infra.broker import EmbeddedBroker\n"
        f"broker = EmbeddedBroker(Path({str(tmp_path / 'data')!r})); broker.start()\n"
        "print(broker.pid, flush=True); time.sleep(600)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    try:
        assert parent.stdout is not None
        orphan = psutil.Process(int(parent.stdout.readline()))
        parent.send_signal(ending)
        parent.wait()

        gone, _ = psutil.wait_procs([orphan], timeout=30)
    finally:
        parent.kill()
        parent.communicate()

    assert gone == [orphan]
    eventually(lambda: "shut down completed" in (tmp_path / "data/broker.log").read_text("utf-8"))

"""The SDK on a real Kafka: what it acknowledged is in the log, exactly as it was numbered."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import threading
import uuid
from collections import Counter
from typing import TYPE_CHECKING

import pytest
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewTopic,
)

from meterstream import Meter, Outcome
from meterstream_infra.broker import EmbeddedBroker
from meterstream_infra.topics import ensure_topics
from meterstream_schemas.events import EventKind
from tests.integration.reading_topic import Placed, read_topic
from tests.waiting import eventually

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Broker

pytestmark = pytest.mark.integration

TENANTS = [f"tenant {number}" for number in range(60)]


def usage_of(placed: list[Placed]) -> list[Placed]:
    """What is not a mark."""
    return [found for found in placed if found.event.kind is not EventKind.MARK]


def closing_claims(placed: list[Placed]) -> dict[tuple[str, int], int]:
    """The highest number that closing marks claim, by producer and lane."""
    return {
        (found.event.producer, found.event.lane): found.event.sequence
        for found in placed
        if found.event.kind is EventKind.MARK and found.event.attributes
    }


def numbers_of(placed: list[Placed]) -> dict[tuple[str, int], list[int]]:
    """Every number in the log, repeated where it came twice, by producer and lane."""
    found: dict[tuple[str, int], list[int]] = {}
    for record in usage_of(placed):
        event = record.event
        found.setdefault((event.producer, event.lane), []).append(event.sequence)
    return found


def assert_complete(placed: list[Placed], events: int) -> None:
    """So many events, numbered without a gap and claimed to the last by closing marks."""
    numbers = numbers_of(placed)
    for lane, sequence in numbers.items():
        assert sorted(set(sequence)) == list(range(1, max(sequence) + 1)), lane
    assert sum(len(set(sequence)) for sequence in numbers.values()) == events
    assert closing_claims(placed) == {lane: max(sequence) for lane, sequence in numbers.items()}


def test_events_reach_the_log_as_they_were_recorded(broker: Broker, topic: str) -> None:
    """Every event once, in its tenant's partition, in order, with closing marks behind."""
    heard: list[Outcome] = []
    meter = Meter(
        "test",
        bootstrap_servers=broker.bootstrap_servers,
        topic=topic,
        strict=True,
        on_outcome=heard.append,
    )
    for number in range(5000):
        assert meter.record(
            "llm.completion",
            tenant=TENANTS[number % len(TENANTS)],
            quantity=number,
            attributes={"model": f"m{number % 3}"},
        )
    with meter.session("agent.run", tenant="acme"):
        assert meter.flush(30)
    assert meter.close(30)

    placed = read_topic(broker.bootstrap_servers, topic)
    assert_complete(placed, 5002)
    assert Counter(found.event.quantity for found in usage_of(placed)) == Counter(
        [*range(5000), 0, 0]
    )
    by_place = {(found.partition, found.offset): found.event for found in placed}
    for outcome in heard:
        event = by_place[outcome.partition, outcome.offset or 0]
        assert (event.tenant, event.lane, event.sequence) == (
            outcome.tenant,
            outcome.lane,
            outcome.sequence,
        )
    assert len(heard) == 5002
    status = meter.status()
    assert (status.acknowledged, status.failed, status.buffered) == (5002, 0, 0)


def test_a_missing_topic_is_told_and_waited_for(broker: Broker) -> None:
    """Events wait in the buffer, the reason is in the status; with the topic they arrive."""
    topic = f"test.{uuid.uuid4().hex}.events"
    meter = Meter(bootstrap_servers=broker.bootstrap_servers, topic=topic)
    meter.record("api.request", tenant="acme")

    eventually(lambda: "does not exist" in str(meter.status().last_error))
    assert (
        topic
        not in AdminClient({"bootstrap.servers": broker.bootstrap_servers})
        .list_topics(timeout=10)
        .topics
    ), "asking must not create it"

    ensure_topics(broker.bootstrap_servers, partitions=2, events_topic=topic)
    assert meter.flush(30)
    assert meter.close(10)
    assert_complete(read_topic(broker.bootstrap_servers, topic), 1)


def test_a_topic_without_append_times_is_not_written_to(broker: Broker) -> None:
    """It is named with the setting; once it is mended the events go."""
    topic = f"test.{uuid.uuid4().hex}.events"
    admin = AdminClient({"bootstrap.servers": broker.bootstrap_servers})
    new = NewTopic(topic, num_partitions=1, config={"message.timestamp.type": "CreateTime"})
    admin.create_topics([new])[topic].result(30)
    meter = Meter(bootstrap_servers=broker.bootstrap_servers, topic=topic)
    meter.record("api.request", tenant="acme")

    eventually(
        lambda: (
            "message.timestamp.type=CreateTime; set it to LogAppendTime"
            in str(meter.status().last_error)
        )
    )
    assert meter.status().buffered == 1

    change = ConfigEntry(
        "message.timestamp.type",
        "LogAppendTime",
        incremental_operation=AlterConfigOpType.SET,
    )
    resource = ConfigResource(ConfigResource.Type.TOPIC, topic, incremental_configs=[change])
    admin.incremental_alter_configs([resource])[resource].result(30)
    assert meter.flush(30)
    assert meter.close(10)
    assert_complete(read_topic(broker.bootstrap_servers, topic), 1)


def wait_for_more(heard: list[Outcome]) -> None:
    """Two thousand outcomes more than now."""
    goal = len(heard) + 2000
    eventually(lambda: len(heard) > goal)


def test_a_killed_broker_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    """Under load the broker is killed and started again, twice.

    Every acknowledged number lies at the place that was acknowledged, as the event it was; no
    number is missing in the end; what came twice came under the same number.
    """
    heard: list[Outcome] = []
    recorded: dict[tuple[int, int], int] = {}
    stop = threading.Event()
    with EmbeddedBroker(tmp_path) as broker:
        servers = broker.bootstrap_servers
        ensure_topics(servers, partitions=4, events_topic="killed.events")
        meter = Meter(
            bootstrap_servers=servers,
            topic="killed.events",
            overflow="block",
            block_seconds=120,
            buffer_events_max=20_000,
            on_outcome=heard.append,
        )

        def load() -> None:
            number = 0
            while not stop.is_set():
                assert meter.record("a", tenant=TENANTS[number % 60], quantity=number)
                number += 1
                if number % 50 == 0:
                    stop.wait(0.005)
            recorded[0, 0] = number

        caller = threading.Thread(target=load)
        caller.start()
        for _ in range(2):
            wait_for_more(heard)
            broker.kill()
            eventually(lambda: meter.status().buffered > 500)
            broker.start()
        wait_for_more(heard)
        stop.set()
        caller.join()
        assert meter.flush(60)
        assert meter.close(30)
        placed = read_topic(servers, "killed.events")

    events = recorded[0, 0]
    assert_complete(placed, events)
    by_place = {(found.partition, found.offset): found.event for found in placed}
    assert len(heard) == events
    for outcome in heard:
        event = by_place[outcome.partition, outcome.offset or 0]
        assert (event.lane, event.sequence, event.tenant) == (
            outcome.lane,
            outcome.sequence,
            outcome.tenant,
        )
    contents: dict[tuple[int, int], int] = {}
    for found in usage_of(placed):
        number = (found.event.lane, found.event.sequence)
        assert contents.setdefault(number, found.event.quantity) == found.event.quantity
    assert sorted(contents.values()) == list(range(events))


def run_program(broker: Broker, topic: str, program: str, *, timeout_seconds: int = 60) -> str:
    """Run a host program of its own, with the SDK configured by the environment; its output."""
    environment = os.environ | {
        "METERSTREAM_BOOTSTRAP_SERVERS": broker.bootstrap_servers,
        "METERSTREAM_TOPIC": topic,
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", textwrap.dedent(program)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=timeout_seconds,
        check=False,
    )
    assert "Traceback" not in done.stderr or "the host's own" in done.stderr, done.stderr
    return done.stdout


ENDINGS = {
    "normal": "",
    "sys.exit": "sys.exit(3)",
    "unhandled exception": 'raise RuntimeError("the host\'s own")',
    "sys.exit in a thread": """
        import threading
        thread = threading.Thread(target=lambda: (meter.record("a", tenant="t"), sys.exit()))
        thread.start()
        thread.join()
        """,
    "SIGTERM with the host's handler": """
        import os, signal
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        os.kill(os.getpid(), signal.SIGTERM)
        """,
    "a meter that nobody refers to": """
        import gc
        meter = None
        gc.collect()
        """,
    "recorded in an atexit hook": """
        import atexit
        atexit.register(lambda: meter.record("a", tenant="t"))
        """,
}


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_host_that_never_closes_loses_nothing(broker: Broker, topic: str, ending: str) -> None:
    """However the interpreter ends in order, everything recorded is in the log, with its marks."""
    program = """
        import sys
        from meterstream import Meter
        meter = Meter("host")
        for number in range(300):
            meter.record("a", tenant=f"t{number % 9}", quantity=number)
        """

    run_program(broker, topic, textwrap.dedent(program) + textwrap.dedent(ENDINGS[ending]))

    further = 1 if "atexit" in ending or "thread" in ending else 0
    assert_complete(read_topic(broker.bootstrap_servers, topic), 300 + further)


def test_a_host_without_a_broker_ends_in_time(broker: Broker, topic: str) -> None:
    """With the broker away the exit takes the deadline, not for ever, and says what is left."""
    program = """
        import logging, sys, time
        logging.basicConfig(stream=sys.stdout)
        from meterstream import Meter
        meter = Meter("host", bootstrap_servers="127.0.0.1:1", close_seconds=1)
        meter.record("a", tenant="t")
        """

    out = run_program(broker, topic, program, timeout_seconds=30)

    assert "closed while 1 events were not sent: " in out


def test_forks_are_incarnations_of_their_own(broker: Broker, topic: str) -> None:
    """Two children of forks under load: nobody repeats what the parent had, all arrive.

    One is forked from the main thread and ends by ``sys.exit``, so that the interpreter takes
    everything apart in it; the other is forked from a thread.
    """
    program = """
        import os, sys, threading
        from meterstream import Meter
        meter = Meter("host")
        for number in range(500):
            meter.record("a", tenant=f"t{number % 9}", quantity=number)
        children = []

        def fork(child):
            meter.record("a", tenant="before fork", quantity=child)
            pid = os.fork()
            if pid == 0:
                for number in range(100):
                    meter.record("a", tenant=f"t{number % 9}", quantity=1000 * child + number)
                if threading.current_thread() is threading.main_thread() and child == 1:
                    sys.exit(0)
                meter.close(30)
                os._exit(0)
            children.append(pid)

        fork(1)
        thread = threading.Thread(target=fork, args=(2,))
        thread.start()
        thread.join()
        print([os.waitpid(pid, 0)[1] for pid in children])
        """

    out = run_program(broker, topic, program)

    assert out.strip() == "[0, 0]"
    placed = read_topic(broker.bootstrap_servers, topic)
    assert_complete(placed, 702)
    assert len({found.event.producer for found in placed}) == 3
    quantities = Counter(found.event.quantity for found in usage_of(placed))
    assert quantities == Counter([*range(500), 1, 2, *range(1000, 1100), *range(2000, 2100)])


def test_a_child_that_records_nothing_ends_well(broker: Broker, topic: str) -> None:
    """Also a child that never touches its meter neither hangs nor sends the parent's events."""
    program = """
        import os, sys
        from meterstream import Meter
        meter = Meter("host")
        meter.record("a", tenant="t")
        meter.flush(30)
        with meter.session("run", tenant="t"):
            pid = os.fork()
            if pid == 0:
                sys.exit(0)
            print(os.waitpid(pid, 0)[1])
        """

    assert run_program(broker, topic, program).strip() == "0"
    placed = read_topic(broker.bootstrap_servers, topic)
    assert_complete(placed, 3)
    assert len({found.event.producer for found in placed}) == 1


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_multiprocessing_children_deliver_what_they_recorded(
    broker: Broker, topic: str, tmp_path: Path, method: str
) -> None:
    """Children of multiprocessing end without atexit hooks, and lose nothing all the same.

    The parent forks right after its first event, while its background thread imports the client.
    """
    module = tmp_path / f"host_{method}.py"
    module.write_text(
        textwrap.dedent(
            f"""
            import multiprocessing
            from meterstream import Meter

            meter = Meter("host")

            def work(child):
                for number in range(200):
                    meter.record("a", tenant=f"t{{number % 9}}", quantity=1000 * child + number)

            if __name__ == "__main__":
                meter.record("a", tenant="parent")
                context = multiprocessing.get_context("{method}")
                children = [context.Process(target=work, args=(child,)) for child in (1, 2)]
                for child in children:
                    child.start()
                for child in children:
                    child.join()
                print([child.exitcode for child in children])
            """
        )
    )

    out = (
        run_program(
            broker, topic, f"import runpy; runpy.run_path({str(module)!r}, run_name='__main__')"
        )
        if method == "fork"
        else subprocess.run(
            [sys.executable, str(module)],
            env=os.environ
            | {
                "METERSTREAM_BOOTSTRAP_SERVERS": broker.bootstrap_servers,
                "METERSTREAM_TOPIC": topic,
                "PYTHONPATH": os.pathsep.join(sys.path),
            },
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        ).stdout
    )

    assert out.strip() == "[0, 0]"
    assert_complete(read_topic(broker.bootstrap_servers, topic), 401)

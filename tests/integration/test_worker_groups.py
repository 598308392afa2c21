"""Members of a group on a real broker: they stand still, share a name, come and go."""

from __future__ import annotations

import os
import random
import signal
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from meterstream_consumers.settings import GroupProtocol, WorkerSettings
from meterstream_infra.groups import other_topics
from meterstream_infra.topics import ensure_topics
from tests.conftest import Broker
from tests.integration import counting
from tests.integration.counting import Sender, folded, wait_until_folded
from tests.integration.worker_process import running_worker, stops_inside_a_commit
from tests.waiting import eventually

if TYPE_CHECKING:
    from multiprocessing.process import BaseProcess
    from pathlib import Path

pytestmark = [pytest.mark.integration, pytest.mark.timeout(420)]
PROTOCOLS = pytest.mark.parametrize("protocol", list(GroupProtocol))


@pytest.fixture
def settings(broker: Broker, topic: str, tmp_path: Path) -> WorkerSettings:
    """A worker of a fresh topic, store and group."""
    return counting.worker_settings(broker, topic, tmp_path)


@pytest.fixture
def sender(broker: Broker, topic: str) -> Sender:
    """A sender of numbered events."""
    return Sender(broker.bootstrap_servers, topic)


def _owners(settings: WorkerSettings) -> set[str]:
    return {row.owner for row in counting.positions(settings.store)}


@PROTOCOLS
def test_a_zombie_writes_nothing(
    settings: WorkerSettings, sender: Sender, protocol: GroupProtocol
) -> None:
    """A worker that stood still while its group gave it up is fenced when it wakes, and goes on."""
    settings = replace(settings, group_protocol=protocol)
    sender.send(2_000)
    with running_worker(settings) as zombie:
        assert zombie.pid is not None
        wait_until_folded(settings, sender)
        os.kill(zombie.pid, signal.SIGSTOP)
        try:
            sender.send(2_000)
            # A name of its own shows that the other one has taken all of it.
            with running_worker(replace(settings, instance="second")):
                wait_until_folded(settings, sender)
                eventually(lambda: _owners(settings) == {"second"}, timeout_seconds=counting.LONG)
                os.kill(zombie.pid, signal.SIGCONT)
                sender.send(2_000)
                wait_until_folded(settings, sender)
        finally:
            os.kill(zombie.pid, signal.SIGCONT)
        counting.check_counted_once(settings, sender)
        zombie.terminate()
        zombie.join(60)
        assert zombie.exitcode == 0


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_a_zombie_inside_the_stores_transaction(
    settings: WorkerSettings,
    sender: Sender,
    tmp_path: Path,
    kind: str,
    request: pytest.FixtureRequest,
) -> None:
    """Stopped between its first write and its COMMIT, it holds the store: nobody counts double.

    The next owner can only wait for it. Whichever of the two the transaction belongs to in the
    end, it is whole.
    """
    if kind == "postgres":
        settings = replace(settings, store=request.getfixturevalue("postgres_address"))
    sender.send(2_000)
    sender.flush()
    mark = tmp_path / "inside"
    with stops_inside_a_commit(settings, mark) as zombie:
        assert zombie.pid is not None
        eventually(mark.exists, timeout_seconds=counting.LONG)
        assert folded(settings.store) == 0
        with running_worker(replace(settings, instance="second")) as waiting:
            # Long enough for the group to have given the zombie up.
            time.sleep(settings.session_timeout_seconds + 4)
            assert folded(settings.store) == 0
            assert waiting.is_alive()
            os.kill(zombie.pid, signal.SIGCONT)
            sender.send(2_000)
            wait_until_folded(settings, sender)
            eventually(lambda: "second" in _owners(settings), timeout_seconds=counting.LONG)
            sender.send(2_000)
            wait_until_folded(settings, sender)
    counting.check_counted_once(settings, sender)


def test_of_two_workers_of_one_name_the_older_stops(
    settings: WorkerSettings, sender: Sender
) -> None:
    """The fenced one says which name is doubled and ends with 78; the newer one counts on."""
    settings = replace(settings, instance="twin")
    sender.send(400)
    with counting.worker_command(settings) as older:
        wait_until_folded(settings, sender)
        with running_worker(settings):
            status, told = older.end()
            assert status == 78, told
            assert "instance 'twin'" in told
            assert "--instance" in told
            sender.send(400)
            wait_until_folded(settings, sender)
    counting.check_counted_once(settings, sender)


def test_a_broker_without_the_protocol_is_told(settings: WorkerSettings, tmp_path: Path) -> None:
    """With the name of the setting, and what to set it to."""
    classic_only = {"group.coordinator.rebalance.protocols": "classic"}
    with counting.own_broker(tmp_path / "broker", classic_only) as address:
        ensure_topics(address, partitions=4, events_topic=settings.topic)
        there = replace(settings, bootstrap_servers=address, group_protocol=GroupProtocol.CONSUMER)
        with counting.worker_command(there) as worker:
            status, told = worker.end()

    assert status == 78, told
    assert "METERSTREAM_GROUP_PROTOCOL=consumer" in told
    assert "set it to classic" in told


def test_a_group_of_other_topics_is_refused(
    broker: Broker, settings: WorkerSettings, sender: Sender
) -> None:
    """A group that reads another topic, or has read it, is named together with that topic."""
    sender.send(40)
    with running_worker(settings):
        wait_until_folded(settings, sender)
    other = f"{settings.topic}.other"
    ensure_topics(broker.bootstrap_servers, partitions=2, events_topic=other)
    assert isinstance(settings.store, os.PathLike)
    elsewhere = replace(settings, topic=other, store=settings.store.with_name("other.sqlite3"))

    with counting.worker_command(elsewhere) as worker:
        status, told = worker.end()

    assert status == 78, told
    assert f"group {settings.group!r}" in told
    assert repr(settings.topic) in told
    assert other_topics(broker.bootstrap_servers, settings.group, settings.topic) == ()
    assert other_topics(broker.bootstrap_servers, f"{other}.unknown", other) == ()


@pytest.mark.parametrize(
    ("protocol", "static"),
    [
        (GroupProtocol.CLASSIC, False),
        (GroupProtocol.CLASSIC, True),
        (GroupProtocol.CONSUMER, False),
    ],
    ids=["classic", "classic static", "consumer"],
)
def test_a_storm_of_workers(
    settings: WorkerSettings, sender: Sender, protocol: GroupProtocol, static: bool
) -> None:
    """Three, five, one: killed or told to leave under load, and each event is counted once."""
    seed = random.SystemRandom().randrange(10**6)
    print(f"seed {seed}")  # noqa: T201 - a failure must be repeatable
    storm(replace(settings, group_protocol=protocol), sender, random.Random(seed), static=static)
    counting.check_counted_once(settings, sender)


def storm(
    settings: WorkerSettings,
    sender: Sender,
    rng: random.Random,
    *,
    static: bool,
    rounds: int = 1,
    seconds: float = 2.0,
) -> None:
    """Run through 3, 5 and 1 workers as often as told, some seconds each, with events coming."""
    running: list[tuple[int, BaseProcess]] = []
    free = list(range(5))
    try:
        for wanted in (3, 5, 1) * rounds:
            while len(running) > wanted:
                name, gone = running.pop(rng.randrange(len(running)))
                free.append(name)
                (gone.kill if rng.random() < 0.5 else gone.terminate)()
                gone.join(60)
            while len(running) < wanted:
                name = free.pop(0)
                running.append((name, _start(settings, name, static=static)))
            until = time.monotonic() + seconds
            while time.monotonic() < until:
                sender.send(200)
                sender.resend(5)
                time.sleep(0.1)
        wait_until_folded(settings, sender)
    finally:
        for _, process in running:
            process.terminate()
        for _, process in running:
            process.join(60)
            process.kill()


def _start(settings: WorkerSettings, name: int, *, static: bool) -> BaseProcess:
    import multiprocessing  # noqa: PLC0415 - beside its use

    from meterstream_consumers import worker  # noqa: PLC0415 - beside its use

    mine = replace(settings, instance=f"worker-{name}") if static else settings
    process = multiprocessing.get_context("spawn").Process(target=worker.run, args=(mine,))
    process.start()
    return process

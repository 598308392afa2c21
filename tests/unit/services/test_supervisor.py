"""Parts that are started, die, are started again and stopped, with small real processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path

import psutil
import pytest

from meterstream_services.ends import FLOODED, MUST_BE_MENDED, how_it_ended
from meterstream_services.lifeline import Lifeline
from meterstream_services.restarts import RestartPolicy
from meterstream_services.supervisor import (
    LOG_BYTES_MAX,
    ChildProcess,
    StopRequested,
    Supervisor,
)

SLEEPER = "import time; print('up', flush=True); time.sleep(600)"
STUBBORN = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
    "print('up', flush=True); time.sleep(600)"
)
QUICK = RestartPolicy(deaths_max=3, window_seconds=60, delays_seconds=(0.0,))


@pytest.fixture
def lifeline() -> Iterator[Lifeline]:
    """A lifeline that is let go at the end."""
    line = Lifeline()
    yield line
    line.close()


class World:
    """A supervisor over python one-liners, with everything it says."""

    def __init__(self, directory: Path, lifeline: Lifeline) -> None:
        self.directory = directory
        self.lifeline = lifeline
        self.said: list[str] = []
        self.processes: Mapping[str, int] = {}
        self.supervisor = Supervisor(
            say=self.said.append,
            changed=self._changed,
            policy=QUICK,
            sleep=lambda _: time.sleep(0.01),
        )

    def _changed(self, processes: Mapping[str, int]) -> None:
        self.processes = processes

    def start(self, name: str, code: str) -> None:
        """Start a part that runs ``code``."""
        runner = ChildProcess(
            lambda: [sys.executable, "-c", code],
            log=self.directory / f"{name}.log",
            lifeline=self.lifeline,
        )
        self.supervisor.start(name, runner)

    def log(self, name: str) -> str:
        """What a part wrote so far."""
        return (self.directory / f"{name}.log").read_text()

    def is_up(self, name: str) -> bool:
        """Whether a part has said so."""
        return "up" in self.log(name)


@pytest.fixture
def world(tmp_path: Path, lifeline: Lifeline) -> Iterator[World]:
    """A world whose processes are gone at the end."""
    one = World(tmp_path, lifeline)
    yield one
    one.supervisor.stop()


def wait_until(fact: Callable[[], bool], seconds: float = 20.0) -> None:
    """Poll a fact until it holds; fail at the deadline."""
    deadline = time.monotonic() + seconds
    while not fact():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.01)


def is_gone(process: int) -> bool:
    """Whether no such process runs; one that nobody has reaped yet does not run."""
    try:
        return psutil.Process(process).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_a_flooded_part_stays_away_and_the_others_go_on(world: World) -> None:
    """It is said once with its last words, not started again, and nothing else stops."""
    world.start("serve", SLEEPER)
    world.start("worker", f"print('refused: mend it', flush=True); raise SystemExit({FLOODED})")
    assert world.supervisor.watch(until=lambda: world.supervisor.is_held("worker"))
    said = len(world.said)
    for _ in range(20):
        assert world.supervisor.check()

    assert "mend it" in world.said[-1]
    assert len(world.said) == said
    assert set(world.processes) == {"serve"}
    assert not world.supervisor.is_held("serve")


def test_a_killed_part_is_started_again_and_it_is_said(world: World) -> None:
    """SIGKILL on a part gives a new process, a sentence with the reason, and new process ids."""
    world.start("worker", SLEEPER)
    first = world.processes["worker"]

    os.kill(first, signal.SIGKILL)
    assert world.supervisor.watch(until=lambda: world.processes.get("worker", first) != first)

    assert any("worker was killed by SIGKILL; starting it again" in line for line in world.said)
    assert any("worker runs again" in line for line in world.said)


def test_a_part_that_dies_too_often_is_given_up(world: World) -> None:
    """After the allowed deaths the watch ends, and says status, log and the log's last lines."""
    world.start("worker", "import sys; print('no store here'); sys.exit(3)")

    assert world.supervisor.watch() is False

    assert "worker ended with exit status 3" in world.said[-1]
    assert "giving up" in world.said[-1]
    assert "worker.log" in world.said[-1]
    assert "no store here" in world.said[-1]
    assert world.log("worker").count("no store here") == 4


def test_a_part_that_must_be_mended_is_not_started_again(world: World) -> None:
    """An exit status that says so ends the watch at the first death, with the log's last line."""
    world.start("worker", f"import sys; print('wrong store'); sys.exit({MUST_BE_MENDED})")

    assert world.supervisor.watch() is False

    assert world.said[-1] == "worker cannot run:\n    wrong store"
    assert world.log("worker").count("wrong store") == 1


def test_parts_stop_in_the_opposite_order(world: World) -> None:
    """The part started last is gone before the one before it is asked to stop."""
    order = world.directory / "order"
    code = (
        "import signal, sys, time\n"
        "def end(*_):\n"
        "    open({!r}, 'a').write({!r})\n"
        "    sys.exit(0)\n"
        "signal.signal(signal.SIGTERM, end)\n"
        "print('up', flush=True)\n"
        "time.sleep(600)\n"
    )
    for name in ("a", "b", "c"):
        world.start(name, code.format(str(order), name))
        wait_until(partial(world.is_up, name))

    world.supervisor.stop()

    assert order.read_text() == "cba"
    assert not world.processes


def test_a_second_signal_kills_what_does_not_stop(world: World) -> None:
    """While a stubborn part is asked to stop, another Ctrl-C ends it at once."""
    world.start("worker", STUBBORN)
    wait_until(lambda: "up" in world.log("worker"))
    process = world.processes["worker"]

    with world.supervisor.signals():
        os.kill(os.getpid(), signal.SIGINT)
        assert world.supervisor.watch()
        send = f"import os, signal, time; time.sleep(0.3); os.kill({os.getpid()}, signal.SIGINT)"
        sender = subprocess.Popen([sys.executable, "-c", send])
        world.supervisor.stop()
        sender.wait()

    assert is_gone(process)
    assert "stopping at once" in world.said


def test_a_signal_ends_a_start_that_blocks(world: World) -> None:
    """A part whose start takes long does not keep the supervisor from stopping."""

    class Slow(ChildProcess):
        def start(self) -> None:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(600)

    runner = Slow(list, log=world.directory / "slow.log", lifeline=world.lifeline)
    with world.supervisor.signals(), pytest.raises(StopRequested):
        world.supervisor.start("slow", runner)


def test_a_failure_of_a_later_start_counts_as_a_death(world: World) -> None:
    """A part that cannot even be started again is tried, and given up in the end."""
    missing = world.directory / "python"
    missing.symlink_to(sys.executable)
    runner = ChildProcess(
        lambda: [str(missing), "-c", "pass"], log=world.directory / "a.log", lifeline=world.lifeline
    )
    world.supervisor.start("worker", runner)
    missing.unlink()

    assert world.supervisor.watch() is False
    assert any("could not be started" in line for line in world.said)


def test_children_end_when_their_parent_is_killed(tmp_path: Path) -> None:
    """A parent that dies by SIGKILL takes its children along through the lifeline."""
    child = "from meterstream_services import lifeline; lifeline.hold_on(); " + SLEEPER
    parent = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from meterstream_services.lifeline import Lifeline\n"
        "from meterstream_services.supervisor import ChildProcess\n"
        "runner = ChildProcess(lambda: [sys.executable, '-c', {!r}], log=Path({!r}), "
        "lifeline=Lifeline())\n"
        "runner.start()\n"
        "print(runner.pid, flush=True)\n"
        "time.sleep(600)\n"
    ).format(child, str(tmp_path / "child.log"))
    process = subprocess.Popen([sys.executable, "-c", parent], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    with process.stdout:
        pid = int(process.stdout.readline())
        wait_until(lambda: "up" in (tmp_path / "child.log").read_text())

        process.kill()
        process.wait()

    wait_until(lambda: is_gone(pid))


def test_a_large_log_is_put_aside_at_a_start(world: World) -> None:
    """A log over the limit moves to NAME.1, so that two of them are the most there is."""
    with (world.directory / "worker.log").open("wb") as log:
        log.truncate(LOG_BYTES_MAX + 1)

    world.start("worker", SLEEPER)

    assert (world.directory / "worker.log.1").stat().st_size == LOG_BYTES_MAX + 1
    assert (world.directory / "worker.log").stat().st_size < 1000


@pytest.mark.parametrize(
    ("status", "words"),
    [(0, "exit status 0"), (3, "exit status 3"), (-9, "SIGKILL"), (-64, "SIGRTMAX"), (-99, "99")],
)
def test_how_a_process_ended_in_words(status: int, words: str) -> None:
    """Exit statuses and signals have words."""
    assert words in how_it_ended(status)


def test_parts_that_are_paused_stop_and_start_again(tmp_path: Path, lifeline: Lifeline) -> None:
    """Those named are away inside the block, and new afterwards; the others go on."""
    world = World(tmp_path, lifeline)
    world.start("one", SLEEPER)
    world.start("two", SLEEPER)
    before = dict(world.processes)

    with world.supervisor.paused(["one", "nobody"]):
        assert not psutil.pid_exists(before["one"])
        assert world.supervisor.check(), "a part that is paused is not started by looking"
        assert not psutil.pid_exists(before["one"])

    assert world.processes["one"] != before["one"]
    assert world.processes["two"] == before["two"]
    world.supervisor.stop()
    assert world.said.count(f"one runs again (process {world.processes.get('one')})") <= 1

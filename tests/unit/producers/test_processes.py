"""What meters are told of forks and of the exit, also when one of them fails at it."""

from __future__ import annotations

import logging
import os
import subprocess
import sys

import pytest

from meterstream import processes


class Faulty:
    """A resident with faults of its own."""

    def after_fork(self) -> None:
        raise RuntimeError("bad at forks")

    def at_exit(self) -> None:
        raise RuntimeError("bad at exits")


class Dutiful:
    """A resident that notes what it was told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def after_fork(self) -> None:
        self.told.append("fork")

    def at_exit(self) -> None:
        self.told.append("exit")


def test_a_resident_that_fails_is_logged_and_the_others_are_told(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fault in one of them leaves the host's exit, its forks and the other meters alone."""
    monkeypatch.setattr(processes, "_residents", {})
    faulty, dutiful = Faulty(), Dutiful()
    processes.enroll(faulty)
    processes.enroll(dutiful)

    processes._after_fork()
    processes._at_exit()

    assert dutiful.told == ["fork", "exit"]
    assert [(line.levelno, line.getMessage()) for line in caplog.records] == [
        (
            logging.ERROR,
            f"the SDK met a fault of its own at the {moment}: RuntimeError('bad at {moments}')",
        )
        for moment, moments in [("fork", "forks"), ("exit of the process", "exits")]
    ]


def test_a_resident_is_told_as_long_as_it_exists(monkeypatch: pytest.MonkeyPatch) -> None:
    """Enrolling keeps nothing alive; `keep` does, until `release`."""
    monkeypatch.setattr(processes, "_residents", {})
    monkeypatch.setattr(processes, "_kept", {})
    told = Dutiful().told
    for kept in (False, True):
        resident = Dutiful()
        resident.told = told
        processes.enroll(resident)
        if kept:
            processes.keep(resident)
        del resident

    processes._at_exit()
    assert told == ["exit"]

    (still,) = processes._kept.values()
    processes.release(still)
    processes.release(still)
    del still
    processes._at_exit()
    assert told == ["exit"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_fork_waits_while_it_is_kept_out_and_not_for_ever() -> None:
    """Short work of another thread is finished first; a stuck one delays a fork by a while."""
    program = """
import os, threading, time
from meterstream import processes
processes._FORK_WAIT_SECONDS_MAX = 0.5
class Resident:
    def after_fork(self): pass
    def at_exit(self): pass
resident = Resident()
processes.enroll(resident)
inside, leave, order = threading.Event(), threading.Event(), []

def work():
    with processes.no_fork():
        inside.set()
        leave.wait()
        order.append("worked")

for stuck in (False, True):
    inside.clear(); leave.clear()
    thread = threading.Thread(target=work)
    thread.start()
    inside.wait()
    if not stuck:
        threading.Timer(0.05, leave.set).start()
    child = os.fork()
    if child == 0:
        with processes.no_fork():
            os._exit(0)
    order.append(("forked", os.waitpid(child, 0)[1]))
    leave.set()
    thread.join()
print(order)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )

    assert done.stdout.strip() == "['worked', ('forked', 0), ('forked', 0), 'worked']"

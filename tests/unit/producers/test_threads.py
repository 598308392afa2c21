"""Real locks and threads, and waiting on the host's behalf."""

from __future__ import annotations

import _thread
import subprocess
import sys
import time
from typing import TYPE_CHECKING

from meterstream import threads

if TYPE_CHECKING:
    import pytest


def test_without_gevent_they_are_the_interpreters_own() -> None:
    """Nothing stands between."""
    assert threads.start_new_thread is _thread.start_new_thread
    assert threads.allocate_lock is _thread.allocate_lock
    assert threads.get_ident is _thread.get_ident
    assert threads.sleep is time.sleep


def test_with_gevent_they_are_what_it_replaced() -> None:
    """Whichever comes first, the import or the patching."""
    program = """
import _thread, time
real = (_thread.start_new_thread, _thread.allocate_lock, _thread.get_ident, time.sleep)
from gevent import monkey
if {first!r} == "import":
    from meterstream import threads
monkey.patch_all()
from meterstream import threads
ours = (threads.start_new_thread, threads.allocate_lock, threads.get_ident, threads.sleep)
print(ours == real, _thread.start_new_thread == real[0])
"""
    for first in ("import", "patching"):
        done = subprocess.run(
            [sys.executable, "-c", program.format(first=first)],
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        assert done.stdout.split() == ["True", "False"], first


def test_waiting_lets_greenlets_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where sleep is not the interpreter's own, it is slept by turns until the lock is free."""
    lock = threads.allocate_lock()
    lock.acquire()
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 3:
            lock.release()

    monkeypatch.setattr(time, "sleep", sleep)
    assert threads.acquire_for_host(lock, 60) is True
    assert len(slept) == 3
    assert threads.acquire_for_host(lock, 0) is False
    assert len(slept) == 3


def test_waiting_ends_in_time() -> None:
    """With the interpreter's own sleep, too; a negative time is none."""
    lock = threads.allocate_lock()
    assert threads.acquire_for_host(lock, -5) is True
    assert threads.acquire_for_host(lock, -5) is False
    assert threads.acquire_for_host(lock, 0.01) is False

    threads.start_new_thread(lock.release, ())
    assert threads.acquire_for_host(lock, 1e12) is True

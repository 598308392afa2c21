"""Threads, locks and sleep of the operating system, also where gevent put its own instead.

The background thread must be a thread: as a greenlet it would stop all others of the host whenever
the Kafka client waits. gevent keeps what it replaces, so this works whichever comes first, the
import of the SDK or the patching. Only who waits on the host's behalf lets greenlets run meanwhile.

`threading` is imported here, early: the thread that imports it first counts as the main thread, and
that must not be ours, which imports modules that bring it.
"""

from __future__ import annotations

import sys
import threading
import time
from typing import TYPE_CHECKING, Final


def _real(module: str, name: str) -> object:
    monkey = sys.modules.get("gevent.monkey")
    if monkey is not None:
        return monkey.get_original(module, name)
    return getattr(sys.modules[module], name)


if TYPE_CHECKING:
    from _thread import LockType, allocate_lock, get_ident, start_new_thread
    from time import sleep
else:
    # `threading.Thread` takes locks that an interrupted caller may hold; these take none.
    start_new_thread = _real("_thread", "start_new_thread")
    allocate_lock = _real("_thread", "allocate_lock")
    get_ident = _real("_thread", "get_ident")
    sleep = _real("time", "sleep")

__all__ = ["acquire_for_host", "allocate_lock", "get_ident", "sleep", "start_new_thread"]

_STEP_SECONDS: Final = 0.005


def acquire_for_host(lock: LockType, seconds: float) -> bool:
    """Wait for a lock at most so long; under gevent other greenlets run meanwhile."""
    seconds = max(0.0, min(seconds, threading.TIMEOUT_MAX))
    if time.sleep is sleep:
        return lock.acquire(timeout=seconds)
    deadline = time.monotonic() + seconds
    while not lock.acquire(blocking=False):
        if time.monotonic() >= deadline:
            return False
        time.sleep(_STEP_SECONDS)
    return True

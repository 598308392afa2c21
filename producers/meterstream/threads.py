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
from typing import Any, Final


def _real(module: str, name: str) -> Any:  # noqa: ANN401 - as many types as names
    monkey = sys.modules.get("gevent.monkey")
    if monkey is not None:
        return monkey.get_original(module, name)
    return getattr(sys.modules[module], name)


start_new_thread: Final = _real("_thread", "start_new_thread")
"""As `_thread.start_new_thread`: `threading.Thread` takes locks that a caller may hold."""
allocate_lock: Final = _real("_thread", "allocate_lock")
get_ident: Final = _real("_thread", "get_ident")
sleep: Final = _real("time", "sleep")

_STEP_SECONDS: Final = 0.005


def acquire_for_host(lock: Any, seconds: float) -> bool:  # noqa: ANN401 - a lock has no public type
    """Wait for a lock at most so long; under gevent other greenlets run meanwhile."""
    seconds = max(0.0, min(seconds, threading.TIMEOUT_MAX))
    if time.sleep is sleep:
        return bool(lock.acquire(timeout=seconds))
    deadline = time.monotonic() + seconds
    while not lock.acquire(blocking=False):
        if time.monotonic() >= deadline:
            return False
        time.sleep(_STEP_SECONDS)
    return True

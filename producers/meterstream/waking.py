"""Two ways for one thread to wait for another, both fit for signal handlers and finalizers.

They are plain locks, since `threading.Event` guards itself with a lock that is not reentrant: a
signal handler that interrupts ``set`` or ``wait`` and calls either would wait for itself.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Final

from meterstream import threads


class Alarm:
    """A sleep that another thread can end. Rings once, for one sleeper."""

    def __init__(self) -> None:
        self._lock: Final = threads.allocate_lock()
        self._lock.acquire()

    def ring(self) -> None:
        """End the current sleep, or the next. Does not block."""
        with suppress(RuntimeError):  # It rings already.
            self._lock.release()

    def sleep(self, seconds: float) -> None:
        """Wait until somebody rings, at most so long."""
        self._lock.acquire(timeout=seconds)


class Gate:
    """Closed until somebody opens it, open ever after."""

    def __init__(self) -> None:
        self._lock: Final = threads.allocate_lock()
        self._lock.acquire()

    def open(self) -> None:
        """Let everybody pass. Does not block."""
        with suppress(RuntimeError):  # It is open already.
            self._lock.release()

    def wait(self, seconds: float) -> bool:
        """Whether the gate opened within ``seconds``."""
        passed = threads.acquire_for_host(self._lock, seconds)
        if passed:
            self.open()
        return passed

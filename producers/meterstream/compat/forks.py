"""A lock for objects that live through a fork."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import TracebackType


class ForkLock:
    """Reentrant, and free in the child of a fork whoever held it in the parent."""

    def __init__(self) -> None:
        self._of_process = os.getpid(), threading.RLock()

    def __enter__(self) -> None:
        process, lock = self._of_process
        if process != os.getpid():
            # Only one thread lives through a fork, so nobody else is here yet.
            self._of_process = os.getpid(), (lock := threading.RLock())
        lock.acquire()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._of_process[1].release()

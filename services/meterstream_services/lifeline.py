"""A child process learns that its parent died, on every system and however the parent died.

The parent holds the writing end of a pipe and gives each child the reading end. Nobody ever writes:
the kernel closes the writing end with the parent, and the children read the end of the stream. No
signal number, no polling, no race at start: a child that opens its eyes late finds the end there.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from typing import Final

VARIABLE: Final = "METERSTREAM_LIFELINE"
"""Environment variable with the number of the reading end, for the child."""
DRAIN_SECONDS: Final = 30.0
"""What an orphan may take for its clean end, after which it ends at once."""


class Lifeline:
    """The parent's two ends. Pass ``descriptor`` in ``pass_fds`` and `environment` to a child."""

    def __init__(self) -> None:
        self.descriptor, self._held = os.pipe()

    @property
    def environment(self) -> dict[str, str]:
        """What a child's environment needs to find its end."""
        return {VARIABLE: str(self.descriptor)}

    def close(self) -> None:
        """Let go: children that still run are told to end. Call once."""
        os.close(self._held)
        os.close(self.descriptor)


def hold_on() -> None:
    """In a child: get SIGTERM when the parent is gone. Does nothing without a lifeline.

    Starts a daemon thread. The variable is taken out of the environment, so that processes started
    by this one do not read an end that is not theirs.
    """
    text = os.environ.pop(VARIABLE, "")
    if not text.isdigit():
        return
    descriptor = int(text)
    os.set_inheritable(descriptor, False)
    threading.Thread(target=_watch, args=(descriptor,), name="lifeline", daemon=True).start()


def _watch(descriptor: int) -> None:
    while os.read(descriptor, 1):
        pass  # nobody writes; whatever came would mean nothing
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(DRAIN_SECONDS)
    os._exit(1)

"""The embedded broker as a part of `up`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from meterstream_services.ends import End

if TYPE_CHECKING:
    from meterstream_infra.broker import EmbeddedBroker

_POLL_SECONDS: Final = 0.1


class BrokerRunner:
    """The embedded broker as a part: its start blocks until it answers.

    With the data directory held, a broker that runs on it is one whose `up` was killed and that is
    about to end: the start waits ``patience_seconds`` for it.
    """

    def __init__(self, broker: EmbeddedBroker, log: Path, *, patience_seconds: float) -> None:
        self._broker = broker
        self._log = log
        self._patience_seconds = patience_seconds

    @property
    def pid(self) -> int | None:
        """The process id while the broker runs."""
        return self._broker.pid

    @property
    def log(self) -> Path:
        """Where the broker logs."""
        return self._log

    def start(self) -> None:
        """Start it, or wait for the one before to end. Blocks until it answers."""
        from meterstream_infra.errors import DirectoryInUse  # noqa: PLC0415 - as the broker itself

        deadline = time.monotonic() + self._patience_seconds
        while True:
            try:
                self._broker.start()
            except DirectoryInUse:
                if time.monotonic() > deadline:
                    raise
                time.sleep(_POLL_SECONDS)
            else:
                return

    def ended(self) -> End | None:
        """None while it runs, then how it ended."""
        return None if self._broker.alive() else End("ended")

    def stop(self, timeout_seconds: float) -> None:
        """Ask for a clean end and block until it is gone."""
        self._broker.stop(timeout_seconds)

    def kill(self) -> None:
        """End it at once."""
        self._broker.kill()

"""How a worker is: what keeps it from being ready, and whether its loop still turns.

Readiness concerns those who roll out and watch: a store that is away makes a worker unready, and
starting it again would not help. Liveness asks for a new start: only a loop that stands still does,
for longer than any commit takes.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

STUCK_SECONDS: Final = 150.0
"""A commit waits a minute for a lock; the group gives a silent member up after five."""


class Health:
    """Told by the worker's thread, asked by any. ``steady`` and ``now`` are clocks in seconds."""

    def __init__(
        self,
        why_not: str,
        *,
        stuck_seconds: float = STUCK_SECONDS,
        steady: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._why_not: str | None = why_not
        self._stuck_seconds = stuck_seconds
        self._steady = steady
        self._now = now
        self._turned = steady()
        self._since: dict[str, str] = {}

    def turn(self) -> None:
        """The loop came round."""
        self._turned = self._steady()

    def tell(self, why_not: str | None) -> None:
        """The worker is ready from now on, or is not for this reason."""
        self._why_not = why_not

    def since(self, what: str, holds: bool) -> str | None:
        """``what`` with the time since when it holds, None while it does not."""
        if not holds:
            self._since.pop(what, None)
            return None
        moment = datetime.fromtimestamp(self._now(), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        return f"{what} since {self._since.setdefault(what, moment)}"

    def why_not(self) -> str | None:
        """Why the worker is not ready, or None."""
        return self._why_not or self.stuck()

    def stuck(self) -> str | None:
        """Why the process should be started again, or None."""
        still = self._steady() - self._turned
        if still < self._stuck_seconds:
            return None
        return f"the worker's loop has stood still for {still:.0f} s"

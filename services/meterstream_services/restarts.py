"""When a part that died is started again, and when that has happened too often. No clock inside."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RestartPolicy:
    """At most ``deaths_max`` deaths within ``window_seconds``, each start later than the last.

    The n-th death within the window is followed by a start after ``delays_seconds[n - 1]``; the
    last delay serves for all further ones.
    """

    deaths_max: int = 5
    window_seconds: float = 60.0
    delays_seconds: tuple[float, ...] = (0.1, 0.5, 1.0, 2.0, 4.0)


class Deaths:
    """The deaths of one part, and what follows from the next one."""

    def __init__(self, policy: RestartPolicy) -> None:
        self.policy = policy
        self._moments: deque[float] = deque()

    @property
    def recent(self) -> int:
        """Deaths that still count."""
        return len(self._moments)

    def add(self, now: float) -> float | None:
        """Count a death at ``now`` (seconds of any steady clock).

        The seconds to wait before the part is started again, or None when it died too often.
        """
        self._moments.append(now)
        while self._moments[0] <= now - self.policy.window_seconds:
            self._moments.popleft()
        if self.recent > self.policy.deaths_max:
            return None
        delays = self.policy.delays_seconds
        return delays[min(self.recent, len(delays)) - 1]

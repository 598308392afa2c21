"""How many events a Unimeter port takes in a second; a frame beyond it is told to come again.

The port knows no keys, so its rate is its own: of the port, in this process. A frame is answered
BACKPRESSURE before anything of it is taken, and the published client raises `BackpressureError`:
its caller still has the events, and nothing is lost unless the caller drops them. As with keys
(`meterstream_services.http.rates`) a frame of any size passes once, and is paid for afterwards.
"""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import Final

from meterstream_services.clients.unimeter.answers import Answer, Answers
from meterstream_services.clients.unimeter.wire import EVENT_BYTES, Status
from meterstream_services.http.rates import EVENTS_PER_SECOND, Buckets

_PORT: Final = "port"
_TOO_FAST: Final = Answer(Status.BACKPRESSURE)


class Paced:
    """Frames of one port on their way to its answers. ``events_per_second`` None: as a key's."""

    def __init__(
        self,
        answers: Answers,
        events_per_second: int | None,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._answers: Final = answers
        self._per_second: Final = events_per_second or EVENTS_PER_SECOND
        self._bucket: Final = Buckets(clock)

    async def ingest(self, payload: bytes) -> Answer:
        """See `Answers.ingest`; BACKPRESSURE while the port has taken more than its rate."""
        events = events_of(payload)
        if self._bucket.take(_PORT, events, self._per_second) is None:
            return await self._answers.ingest(payload)
        metrics = self._answers.metrics
        metrics.too_fast.inc(events)
        metrics.answers.labels("INGEST", _TOO_FAST.status.name).inc()
        return _TOO_FAST


def events_of(payload: bytes) -> int:
    """How many events a frame says that it has, never more than it has bytes for."""
    return min(int.from_bytes(payload[:4], "little"), len(payload) // EVENT_BYTES)

"""Whether there is a connection, when to try again, and what it says about topic and schema."""

from __future__ import annotations

import time as clock
from typing import TYPE_CHECKING, Final

from meterstream.complaints import describe
from meterstream.errors import TransportBroken, TransportConnecting, TransportUnavailable
from meterstream_schemas import wire
from meterstream_schemas.errors import SchemaError
from meterstream_schemas.events import LANES
from meterstream_schemas.placement import partition_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from meterstream.complaints import Complaints
    from meterstream.transport import Transport

_TIMEOUT_SECONDS: Final = 2.0
_WAIT_SECONDS: Final = 0.1
_WAIT_SECONDS_MAX: Final = 5.0


class Connection:
    """A transport with its attempts to connect. Belongs to the background thread.

    ``partitions`` is what was found first and never changes: a lane's numbers belong to one
    partition.
    """

    def __init__(
        self,
        *,
        transport: Transport,
        schema_id: Callable[[], int],
        complaints: Complaints,
        waiting_place: str,
    ) -> None:
        self.is_open = False
        self.trouble: str | None = None
        """Why there was none at the last attempt."""
        self.retry_at = 0.0
        """When to try again, in monotonic seconds."""
        self.partitions: int | None = None
        self.partition_of_lane: tuple[int, ...] = ()
        self.header = b""
        """The bytes in front of every record's body; empty before the first connection."""
        self._transport: Final = transport
        self._schema_id: Final = schema_id
        self._complaints: Final = complaints
        self._waiting_place: Final = waiting_place
        self._wait_seconds = _WAIT_SECONDS

    def open(self, now: float, *, stop_at: float | None) -> bool:
        """Whether there is a connection; makes one when it is time. Blocks up to two seconds."""
        if self.is_open:
            return True
        if now < self.retry_at:
            return False
        try:
            if not self.header:
                self.header = wire.header(self._schema_id())
            partitions = self._transport.connect(timeout_seconds=_patience(now, stop_at))
        except TransportConnecting:
            return False  # The next call goes on with it.
        except (TransportUnavailable, TransportBroken, SchemaError) as problem:
            return self._failed(str(problem))
        except Exception as problem:  # noqa: BLE001 - such as a package that is not there
            return self._failed(describe(problem))
        if self.partitions is None:
            self.partitions = partitions
            self.partition_of_lane = tuple(partition_of(lane, partitions) for lane in range(LANES))
        self.is_open = True
        return True

    def lost(self) -> None:
        """The transport broke. Wait longer from time to time, until something arrives."""
        self.is_open = False
        self.retry_at = clock.monotonic() + self._wait_seconds
        self._wait_seconds = min(2 * self._wait_seconds, _WAIT_SECONDS_MAX)

    def proved(self) -> None:
        """Something arrived in the log."""
        self._wait_seconds = _WAIT_SECONDS

    def hurry(self) -> None:
        """Try again at once: there may be no later attempt."""
        self.retry_at = 0.0

    def _failed(self, why: str) -> bool:
        self.trouble = why
        self._complaints.warn("connect", f"events wait {self._waiting_place}: {why}")
        self.lost()
        return False


def _patience(now: float, stop_at: float | None) -> float:
    if stop_at is None:
        return _TIMEOUT_SECONDS
    return max(0.05, min(_TIMEOUT_SECONDS, stop_at - now))

"""The port through which numbered records leave: what the background thread asks of a transport.

`meterstream.kafka.KafkaTransport` is the real one, `meterstream.gateway.GatewayTransport` goes over
HTTP, `meterstream.memory.MemoryTransport` keeps records in lists for a host's own tests. All pass
one contract suite. A spool (`meterstream.disk`) stands before this port.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Sequence

Parcel: TypeAlias = tuple[int, int, bytes, bytes]
"""Ticket, partition, key, value. The ticket names the parcel in its report."""


class Failure(NamedTuple):
    """Why a parcel did not arrive. ``permanent``: sending it again cannot help."""

    reason: str
    permanent: bool


Report: TypeAlias = "tuple[int, int | None, Failure | None]"
"""Ticket, offset in the log, failure. Neither offset nor failure: the outcome is unknown."""


class Transport(Protocol):
    """Takes parcels and reports on each exactly once, unless it breaks. Used by one thread only.

    Sending or polling without a connection is `TransportBroken` too.
    """

    def connect(self, *, timeout_seconds: float) -> int:
        """Get ready to send and return the topic's number of partitions. Blocks up to the timeout.

        Called again after `TransportBroken`: then whatever was sent before is forgotten. Raises
        `TransportUnavailable` when the topic cannot be reached or must not be written to, and
        its `TransportConnecting` when that is not known yet: called again soon, it goes on.
        """
        ...

    def send(self, parcels: Sequence[Parcel]) -> int:
        """Take parcels from the front and return how many were taken; fewer when full.

        Does not block. Raises `TransportBroken`.
        """
        ...

    def poll(self, timeout_seconds: float) -> list[Report]:
        """Reports that came in, waiting for the first at most so long. Raises `TransportBroken`."""
        ...

    def trouble(self) -> str | None:
        """The latest problem with the connection that was not told before, if any."""
        ...

    def close(self) -> None:
        """Let go of everything without waiting for reports. May be called twice."""
        ...

    def after_fork(self) -> None:
        """The process is the child of a fork: abandon what the parent's threads work on."""
        ...

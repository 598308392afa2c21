"""Who is connected to a server, and who takes longer than the limits allow.

Nothing here is per byte: connections write down when something began and how much came, and once in
a while all of them are looked at. So a limit is kept with the accuracy of that while.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
import socket
import sys
from collections import Counter
from contextlib import suppress
from http import HTTPStatus
from typing import Final, NamedTuple, Protocol

from meterstream_services.http.front_limits import FrontLimits
from meterstream_services.http.limits import is_loopback
from meterstream_services.http.metrics import HttpMetrics
from meterstream_services.http.problems import MEDIA_TYPE, RETRY_SECONDS

_UNSENT_BYTES: Final = 131_072
_NOTSENT_LOWAT: Final = {"linux": 25, "darwin": 0x201}
"""TCP_NOTSENT_LOWAT, where this Python has no name for it."""
_LOOK_SECONDS_MAX: Final = 1.0


class Refusal(NamedTuple):
    """What ends a connection: the limit, as it is counted, and what the client is told."""

    limit: str
    status: int
    detail: str

    def answer(self) -> bytes:
        """A whole answer, as it goes over the wire: a problem document."""
        status = HTTPStatus(self.status)
        content = {
            "type": f"urn:meterstream:problem:{self.limit.replace('_', '-')}",
            "title": self.limit.replace("_", " ").capitalize(),
            "status": status,
            "detail": self.detail,
        }
        body = json.dumps(content).encode()
        waits = status in {HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.TOO_MANY_REQUESTS}
        head = (
            f"HTTP/1.1 {status.value} {status.phrase}",
            f"content-type: {MEDIA_TYPE}",
            f"content-length: {len(body)}",
            "cache-control: no-store",
            *([f"retry-after: {RETRY_SECONDS}"] if waits else ()),
            "connection: close",
            "\r\n",
        )
        return "\r\n".join(head).encode() + body


class Connection(Protocol):
    """What the front asks of a connection."""

    def look(self, now: float, since: float) -> None:
        """Judge how long everything takes; ``since`` is the time of the last look."""
        ...


class Front:
    """The connections of one server. Lives on its event loop."""

    def __init__(self, limits: FrontLimits, metrics: HttpMetrics) -> None:
        self.limits: Final = limits
        self._metrics = metrics
        self._open: set[Connection] = set()
        self._of_address: Counter[str] = Counter()
        self._looked = 0.0
        self._timer: asyncio.TimerHandle | None = None
        metrics.connections.set_function(lambda: len(self._open))
        shortest = min(
            limits.head_seconds,
            limits.idle_seconds,
            limits.body_grace_seconds,
            limits.answer_seconds,
            limits.linger_seconds,
        )
        self._every: Final = min(_LOOK_SECONDS_MAX, shortest / 4)

    def start(self) -> None:
        """Begin to look at the connections, on the running loop."""
        self._looked = asyncio.get_running_loop().time()
        self._next()

    def stop(self) -> None:
        """Look no more. Idempotent."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def enter(self, connection: Connection, address: str) -> str | None:
        """Count a new connection; the name of the limit that forbids it, if one does."""
        full = len(self._open) >= self.limits.connections_max
        self._open.add(connection)
        self._of_address[address] += 1
        if full:
            return "connections_max"
        many = self._of_address[address] > self.limits.connections_per_address_max
        return "connections_per_address_max" if many and not is_loopback(address) else None

    def leave(self, connection: Connection, address: str) -> None:
        """Forget a connection that is closed."""
        self._open.discard(connection)
        self._of_address[address] -= 1
        if self._of_address[address] <= 0:
            del self._of_address[address]

    def limited(self, limit: str) -> None:
        """Count that a limit stopped somebody."""
        self._metrics.limit(limit).inc()

    def _next(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(self._every, self._look)

    def _look(self) -> None:
        now = asyncio.get_running_loop().time()
        for connection in list(self._open):
            connection.look(now, self._looked)
        self._looked = now
        self._next()


def party_of(address: str) -> str:
    """Who is counted as one: an address, of IPv6 its network of 64 bits: one customer's."""
    found = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(found, ipaddress.IPv4Address) or found.is_loopback:
        return address
    if found.ipv4_mapped is not None:
        return str(found.ipv4_mapped)
    return str(ipaddress.IPv6Address(int(found) >> 64 << 64))


def keep_little_unsent(transport: asyncio.Transport) -> None:
    """Let the kernel hold little that the client does not take, and say so soon when it takes some.

    Without it that is megabytes for each connection, and progress shows only after many of them.
    """
    option: int | None = getattr(socket, "TCP_NOTSENT_LOWAT", _NOTSENT_LOWAT.get(sys.platform))
    if option is not None:
        with suppress(OSError):
            found: socket.socket = transport.get_extra_info("socket")
            found.setsockopt(socket.IPPROTO_TCP, option, _UNSENT_BYTES)

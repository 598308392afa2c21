"""A server behind the front in a thread, with small limits, and clients that misbehave."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any, Final

import pytest
from starlette.types import Receive, Scope, Send

from meterstream_services.http.front import Front
from meterstream_services.http.front_limits import FrontLimits
from meterstream_services.http.front_tls import Certificate
from meterstream_services.http.metrics import LIMITS, HttpMetrics
from meterstream_services.http.server import FrontServer

SMALL: Final = FrontLimits(
    connections_max=50,
    connections_per_address_max=3,
    requests_per_connection_max=20,
    pipelined_max=8,
    head_bytes_max=4096,
    headers_max=20,
    head_seconds=0.4,
    idle_seconds=0.4,
    body_grace_seconds=0.4,
    body_bytes_per_second_min=100_000,
    body_seconds_max=2.0,
    answer_seconds=0.4,
    linger_seconds=0.4,
)
HEAD: Final = b"Host: localhost\r\n"
END_SECONDS: Final = 20
"""Longer than any limit here, by far: what has not ended by then hangs."""


class Application:
    """Answers by path, and remembers the requests that it was given."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str, str, bytes]] = []
        self.lost = 0
        self.answered = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] == "lifespan":
            for done in ("startup", "shutdown"):
                await receive()
                await send({"type": f"lifespan.{done}.complete"})
            return
        host = dict(scope["headers"]).get(b"host", b"").decode()
        body = b""
        if scope["path"] != "/early":
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    self.lost += 1
                    return
                body += message["body"]
                if not message["more_body"]:
                    break
        self.seen.append((scope["method"], scope["path"], host, body))
        if scope["path"] == "/slow":
            await asyncio.sleep(0.3)
        content = scope["path"].encode() + b" " + str(len(body)).encode()
        pieces = [b"x" * 65_536] * 2000 if scope["path"] == "/large" else [content]
        length = str(sum(map(len, pieces))).encode()
        await send({
            "type": "http.response.start",
            "status": 200,
            "headers": [(b"content-length", length)],
        })  # fmt: skip
        for piece in pieces:
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b""})
        self.answered += 1


class Running:
    """A server, its application, and how often each limit stopped somebody."""

    def __init__(self, address: tuple[str, int], metrics: HttpMetrics, app: Application) -> None:
        self.address, self.metrics, self.app = address, metrics, app
        self.server: FrontServer | None = None

    def connect(self) -> socket.socket:
        """A connection whose reads and writes end."""
        return socket.create_connection(self.address, timeout=END_SECONDS)

    def ask(self, request: bytes) -> bytes:
        """All that comes back until the server closes; what cannot be sent any more is left."""
        with self.connect() as client:
            with suppress(OSError):
                client.sendall(request)
            return read_all(client)

    def limited(self) -> dict[str, int]:
        """The limits that stopped somebody, and how often."""
        counts = {name: int(self.metrics.limit(name)._value.get()) for name in LIMITS}
        return {name: count for name, count in counts.items() if count}

    def connections(self) -> int:
        """How many are open."""
        found = self.metrics.registry.get_sample_value("meterstream_http_connections")
        assert found is not None
        return int(found)


def read_all(client: socket.socket) -> bytes:
    """What comes until the other side closes, politely or not."""
    found: list[bytes] = []
    with suppress(ConnectionError):
        while data := client.recv(65_536):
            found.append(data)
    return b"".join(found)


def request(path: str = "/", method: str = "GET", *headers: str, body: bytes = b"") -> bytes:
    """A whole request."""
    told = "".join(f"{header}\r\n" for header in headers)
    length = f"Content-Length: {len(body)}\r\n" if body else ""
    return f"{method} {path} HTTP/1.1\r\n{told}{length}".encode() + HEAD + b"\r\n" + body


def wait_for(fact: Callable[[], bool]) -> None:
    """Wait until something is so; fail when it never is."""
    until = time.monotonic() + END_SECONDS
    while not fact():
        assert time.monotonic() < until, "it never came to that"
        time.sleep(0.01)


@contextmanager
def running(
    limits: FrontLimits = SMALL,
    *,
    app: Any = None,  # noqa: ANN401 - any ASGI application
    tls: Certificate | None = None,
) -> Iterator[Running]:
    """A server in a thread of its own, stopped at the end."""
    metrics = HttpMetrics()
    served = app or Application()
    server = FrontServer(served, Front(limits, metrics), tls)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        found = Running(listener.getsockname(), metrics, served)
        found.server = server
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            wait_for(lambda: server.started)
            yield found
        finally:
            server.should_exit = True
            thread.join(END_SECONDS)
            assert not thread.is_alive(), "the server does not end"


@pytest.fixture(scope="module")
def shared() -> Iterator[Running]:
    """One server for the tests of a module that ask nothing of its counters but what they add."""
    with running(replace(SMALL, connections_per_address_max=50)) as found:
        yield found


@pytest.fixture
def front() -> Iterator[Running]:
    """A server of the test's own."""
    with running() as found:
        yield found


def client_context(authority: Any) -> ssl.SSLContext:  # noqa: ANN401 - trustme's CA
    """TLS of a client that trusts an authority."""
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context

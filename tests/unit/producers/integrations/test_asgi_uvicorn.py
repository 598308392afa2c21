"""The ASGI middleware behind a real server, with clients that leave."""

from __future__ import annotations

import asyncio
import socket
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

import uvicorn
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Route

from meterstream.integrations.asgi import MeterMiddleware
from tests.unit.producers.integrations.told_web import told
from tests.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from starlette.requests import Request
    from starlette.responses import Response

    from meterstream.memory import MemoryTransport
    from tests.unit.producers.conftest import MakeMeter


async def endless(request: Request) -> Response:
    """Answer until nobody listens."""

    async def pieces() -> AsyncIterator[bytes]:
        while True:
            yield b"piece"
            await asyncio.sleep(0.001)

    return StreamingResponse(pieces())


async def waits(request: Request) -> Response:
    """Wait until the client has left, and then do the work all the same."""
    assert (await request.receive())["type"] == "http.request"
    assert (await request.receive())["type"] == "http.disconnect"
    return PlainTextResponse("done")


async def hello(request: Request) -> Response:
    """Answer at once."""
    return PlainTextResponse("hello")


@contextmanager
def serving(app: MeterMiddleware) -> Iterator[int]:
    """A server for the block, and its port."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_config=None, lifespan="off"))
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            eventually(lambda: server.started)
            yield listening.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join()


def ask_and_leave(port: int, path: str, *, read_bytes: int) -> None:
    """Send a request, read so much of the answer, and close the connection."""
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.sendall(f"GET {path} HTTP/1.1\r\nHost: test\r\n\r\n".encode())
        while read_bytes > 0:
            read_bytes -= len(client.recv(read_bytes))


def test_clients_that_leave_are_told_apart(
    make_meter: MakeMeter, transport: MemoryTransport
) -> None:
    """In the middle of a stream, and before any answer."""
    meter = make_meter()
    routes = [Route("/endless", endless), Route("/waits", waits), Route("/hello", hello)]
    app = MeterMiddleware(
        Starlette(routes=routes), meter, tenant=lambda _: "acme", quantity="bytes_out"
    )

    with serving(app) as port:
        ask_and_leave(port, "/endless", read_bytes=500)
        eventually(lambda: meter.status().recorded == 1)
        ask_and_leave(port, "/waits", read_bytes=0)
        eventually(lambda: meter.status().recorded == 2)
        ask_and_leave(port, "/hello", read_bytes=50)
        eventually(lambda: meter.status().recorded == 3)

    events = {event.attributes["route"]: event for event in told(meter, transport)}
    assert events["/endless"].attributes["status"] == "disconnected"
    assert events["/endless"].quantity > 0
    assert events["/hello"].attributes["status"] == "2xx"
    assert events["/hello"].quantity == 5
    assert events["/waits"].attributes["status"] == "disconnected"

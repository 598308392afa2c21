"""Answers of the front on the wire: as uvicorn's own, and in one write."""

from __future__ import annotations

import asyncio
import re
import socket
import threading
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send

from meterstream_services.http.front_cycle import FrontCycle, head_of
from tests.unit.services.front.conftest import END_SECONDS, SMALL, read_all, running, wait_for

ANSWERS: dict[str, tuple[int, list[tuple[bytes, bytes]], list[bytes]]] = {
    "/plain": (200, [(b"Content-Length", b"5"), (b"X-Two", b"1"), (b"x-two", b"2")], [b"hello"]),
    "/pieces": (201, [(b"content-length", b"6")], [b"he", b"", b"llo!"]),
    "/chunks": (200, [(b"content-type", b"text/plain")], [b"one", b"", b"two"]),
    "/told-chunks": (200, [(b"transfer-encoding", b"chunked")], [b"one"]),
    "/nothing": (204, [], [b""]),
    "/same": (304, [(b"etag", b'"a"')], [b""]),
    "/empty": (200, [(b"content-length", b"0")], [b""]),
    "/closing": (200, [(b"connection", b"Close"), (b"content-length", b"2")], [b"ok"]),
    "/odd": (599, [(b"content-length", b"2")], [b"ok"]),
    "/too-long": (200, [(b"content-length", b"2")], [b"more"]),
    "/too-short": (200, [(b"content-length", b"9")], [b"less"]),
    "/bad-value": (200, [(b"x-bad", b"a\r\nset-cookie: b")], [b"x"]),
    "/bad-name": (200, [(b"x bad", b"a")], [b"x"]),
    "/no-body": (200, [(b"content-length", b"2")], []),
}


async def answering(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers as its path says."""
    if scope["type"] == "lifespan":
        for done in ("startup", "shutdown"):
            await receive()
            await send({"type": f"lifespan.{done}.complete"})
        return
    if scope["path"] == "/silent":
        return
    if scope["path"] == "/body-first":
        await send({"type": "http.response.body", "body": b"x"})
    status, headers, pieces = ANSWERS[scope["path"]]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    for place, piece in enumerate(pieces):
        more = place + 1 < len(pieces)
        await send({"type": "http.response.body", "body": piece, "more_body": more})
    if scope["query_string"] == b"twice":
        await send({"type": "http.response.body", "body": b"again"})


@contextmanager
def plain_uvicorn() -> Generator[tuple[str, int]]:
    """The same application behind uvicorn's own protocol."""
    config = uvicorn.Config(
        answering, http="httptools", log_config=None, access_log=False, server_header=False
    )
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            wait_for(lambda: server.started)
            yield listener.getsockname()
        finally:
            server.should_exit = True
            thread.join(END_SECONDS)
            assert not thread.is_alive(), "the server does not end"


@pytest.fixture(scope="module")
def both() -> Iterator[list[tuple[str, int]]]:
    """The addresses of the front and of plain uvicorn."""
    roomy = replace(SMALL, connections_per_address_max=50)
    with running(roomy, app=answering) as front, plain_uvicorn() as plain:
        yield [front.address, plain]


def told(address: tuple[str, int], request: bytes) -> bytes:
    """All that a request is answered, until the server closes; dates left out."""
    with socket.create_connection(address, timeout=END_SECONDS) as client:
        client.sendall(request)
        return re.sub(rb"date: [^\r]+", b"date", read_all(client))


@pytest.mark.parametrize("follows", [b"", b"GET /plain HTTP/1.1\r\nHost: a\r\n"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("path", [*ANSWERS, "/plain?twice", "/silent", "/body-first"])
def test_answers_are_uvicorns(
    both: list[tuple[str, int]], path: str, method: str, follows: bytes
) -> None:
    """Heads, bodies, chunks, what comes after, and what is sent wrongly: byte for byte."""
    request = f"{method} {path} HTTP/1.1\r\nHost: a\r\n".encode()
    last = b"Connection: close\r\n\r\n"
    asked = request + b"\r\n" + follows + last if follows else request + last
    ours, theirs = (told(address, asked) for address in both)

    if path in {"/bad-name", "/bad-value"}:
        # uvicorn says nothing, as for an answer that had begun.
        assert (ours[:12], theirs) == (b"HTTP/1.1 500", b"")
    elif path == "/no-body" or (path == "/too-long" and method == "GET"):
        # The head waited for a body that never came, or was wrong: nothing was said at all.
        assert (ours, theirs[:12]) == (b"", b"HTTP/1.1 200")
    else:
        assert ours == theirs
        assert ours


def test_a_head_goes_out_with_the_first_piece() -> None:
    """One write for an answer in one piece; a head by itself would be a system call more."""
    cycle, written = _cycle()

    async def answer() -> None:
        await cycle.send(
            {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]}
        )
        assert written == []
        assert cycle.response_started
        await cycle.send({"type": "http.response.body", "body": b"ok"})

    asyncio.run(answer())

    assert written == [b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"]
    assert cycle.response_complete


def test_heads_are_kept_apart_by_their_headers() -> None:
    """The same headers are put together once; other values are another head."""
    one = head_of(((b"a", b"1"), (b"content-length", b"3")))

    assert head_of(((b"a", b"1"), (b"content-length", b"3"))) is one
    assert head_of(((b"a", b"2"), (b"content-length", b"3"))).lines != one.lines
    assert (one.length, one.is_chunked, one.closes) == (3, False, False)


def test_a_header_that_ends_the_head_is_never_sent() -> None:
    """It raises each time: what is refused is not kept."""
    for _ in range(2):
        with pytest.raises(RuntimeError, match="header"):
            head_of(((b"x", b"a\r\nb: c"),))


class _Transport:
    """Notes what is written."""

    def __init__(self, written: list[bytes]) -> None:
        self._written = written

    def write(self, data: bytes) -> None:
        self._written.append(data)

    def close(self) -> None:
        """Nothing to close."""


class _Flow:
    write_paused = False


def _cycle() -> tuple[FrontCycle, list[bytes]]:
    written: list[bytes] = []
    nobody: Any = None
    transport: Any = _Transport(written)
    flow: Any = _Flow()
    scope: Any = {"type": "http", "method": "GET"}
    cycle = FrontCycle(
        scope=scope,
        transport=transport,
        flow=flow,
        logger=nobody,
        access_logger=nobody,
        access_log=False,
        default_headers=[],
        message_event=asyncio.Event(),
        expect_100_continue=False,
        keep_alive=True,
        on_response=lambda: None,
    )
    return cycle, written

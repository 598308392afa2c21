"""Clients that take their time, take too much, or never take their answers."""

from __future__ import annotations

import socket
import struct
import time
from contextlib import ExitStack
from dataclasses import replace

import psutil
import pytest

from meterstream_services.http.front import party_of
from meterstream_services.http.front_limits import DEFAULTS, FrontLimits, parse_limits
from meterstream_services.http.metrics import LIMITS
from tests.unit.services.front.conftest import (
    END_SECONDS,
    HEAD,
    SMALL,
    Running,
    read_all,
    request,
    running,
    wait_for,
)

CHUNKED = b"POST /b HTTP/1.1\r\nTransfer-Encoding: chunked\r\n" + HEAD + b"\r\n"


def test_who_connects_and_says_nothing_is_let_go(front: Running) -> None:
    """A connection without a request is closed without a word."""
    with front.connect() as client:
        assert client.recv(100) == b""

    assert front.limited() == {"head_seconds": 1}


@pytest.mark.parametrize("piece", [b"X: a\r\n", b"\r\n", b"a"])
def test_a_slow_head_is_ended(front: Running, piece: bytes) -> None:
    """A head that comes drop by drop has one time for all of it; it is not prolonged by drops."""
    with front.connect() as client:
        begin = b"" if piece == b"\r\n" else b"GET / HTTP/1.1\r\n"
        client.sendall(begin + piece)
        told = _drip(client, piece)

    assert told.startswith(b"HTTP/1.1 408 ")
    assert front.limited() == {"head_seconds": 1}
    assert front.app.seen == []


@pytest.mark.parametrize(
    ("begin", "piece"),
    [
        (request("/b", "POST", "Content-Length: 1000000"), b"x"),
        (CHUNKED, b"1\r\nx\r\n"),
        (CHUNKED + b"5", b";x"),
    ],
    ids=["length", "chunks", "extensions"],
)
def test_a_slow_body_is_ended(front: Running, begin: bytes, piece: bytes) -> None:
    """A body must keep the pace; the application is told that the client has gone."""
    with front.connect() as client:
        client.sendall(begin)
        told = _drip(client, piece)

    assert told.startswith(b"HTTP/1.1 408 ")
    assert front.limited() == {"body_bytes_per_second_min": 1}
    wait_for(lambda: front.app.lost == 1)


def test_a_body_that_keeps_the_pace_still_ends() -> None:
    """The time of a body has an end, however well it flows."""
    limits = replace(SMALL, body_seconds_max=0.5, body_bytes_per_second_min=1)
    with running(limits) as front:
        with front.connect() as client:
            client.sendall(CHUNKED)
            told = _drip(client, b"8\r\nxxxxxxxx\r\n")

        assert told.startswith(b"HTTP/1.1 408 ")
        assert front.limited() == {"body_seconds_max": 1}


def test_an_answer_that_nobody_takes_is_ended(front: Running) -> None:
    """A client that reads nothing of a large answer loses it, and the server its burden."""
    with front.connect() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.sendall(request("/large"))
        wait_for(lambda: front.limited() == {"answer_seconds": 1})
        wait_for(lambda: front.connections() == 0)


def test_a_large_answer_is_taken_whole(front: Running) -> None:
    """A client that reads gets all of it, also where it waits a little now and then."""
    with front.connect() as client:
        client.sendall(request("/large", "GET", "Connection: close"))
        time.sleep(SMALL.answer_seconds / 4)
        told = read_all(client)

    assert told.count(b"x") == 2000 * 65_536
    assert front.limited() == {}


def test_a_client_that_vanishes_leaves_nothing(front: Running) -> None:
    """A connection that is reset in the middle of a body is forgotten; the application is told."""
    client = front.connect()
    client.sendall(CHUNKED + b"1\r\nx\r\n")
    wait_for(lambda: front.connections() == 1)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()

    wait_for(lambda: front.connections() == 0)
    wait_for(lambda: front.app.lost == 1)


def test_requests_follow_each_other_until_the_last(front: Running) -> None:
    """A connection is kept for the next request; the last that it may have says so."""
    with front.connect() as client:
        answers = []
        for number in range(SMALL.requests_per_connection_max):
            client.sendall(request(f"/{number}"))
            answers.append(client.recv(10_000))
        assert client.recv(100) == b""

    assert [b"connection: close" in told for told in answers] == [False] * 19 + [True]
    assert front.limited() == {"requests_per_connection_max": 1}


def test_an_idle_connection_is_closed_without_a_word(front: Running) -> None:
    """After an answer, silence ends the connection, and counts as nothing bad."""
    with front.connect() as client:
        client.sendall(request("/a"))
        assert client.recv(1000).endswith(b"/a 0")
        assert client.recv(1000) == b""

    assert front.limited() == {}


def test_what_is_sent_ahead_is_answered_in_its_order(front: Running) -> None:
    """Pipelined requests get their answers one after the other, the slow one first."""
    told = front.ask(
        request("/slow")
        + request("/b", "POST", body=b"abc")
        + request("/c", "GET", "Connection: close")
    )

    assert [told.find(text) for text in (b"/slow 0", b"/b 3", b"/c 0")] == sorted(
        told.find(text) for text in (b"/slow 0", b"/b 3", b"/c 0")
    )
    assert told.count(b"HTTP/1.1 200 ") == 3


def test_too_much_ahead_ends_with_a_refusal(front: Running) -> None:
    """Those before the limit are answered, then comes 429, and nothing after it."""
    told = front.ask(request("/slow") + request("/a") * 30)

    statuses = [part[:3] for part in told.split(b"HTTP/1.1 ")[1:]]
    assert statuses == [b"200"] * (SMALL.pipelined_max + 1) + [b"429"]
    assert front.limited() == {"pipelined_max": 1}


def test_garbage_behind_a_request_spoils_no_answer(front: Running) -> None:
    """What follows a request and is none gets a 400 of its own, after the request's answer."""
    told = front.ask(request("/slow") + b"NONSENSE\r\n\r\n")

    assert told.index(b"HTTP/1.1 200 ") < told.index(b"/slow 0") < told.index(b"HTTP/1.1 400 ")


def test_garbage_in_a_body_ahead_never_reaches_the_application(front: Running) -> None:
    """A broken body that waits for its turn is refused in its turn."""
    told = front.ask(request("/slow") + CHUNKED + b"zz\r\n")

    assert told.index(b"/slow 0") < told.index(b"HTTP/1.1 400 ")
    assert [path for _, path, _, _ in front.app.seen] == ["/slow"]


def test_an_answer_before_the_end_of_the_body_arrives(front: Running) -> None:
    """A client that still sends can read the early answer, whether it keeps the connection or not.

    When it has sent all in time, the connection goes on.
    """
    body = b"x" * 3_000_000
    with front.connect() as client:
        client.sendall(request("/early", "POST", body=body) + request("/next"))
        told = b""
        while b"/next" not in told:
            data = client.recv(10_000)
            assert data, told
            told += data
    closing = front.ask(request("/early", "POST", "Connection: close", body=body))

    assert told.count(b"HTTP/1.1 200 ") == 2
    assert closing.endswith(b"/early 0")


def test_a_body_that_never_ends_after_its_answer(front: Running) -> None:
    """After an early answer, the rest of the body is thrown away for a moment, then no more."""
    with front.connect() as client:
        client.sendall(request("/early", "POST", "Content-Length: 1000000000"))
        told = _drip(client, b"x" * 1000)

    assert told.startswith(b"HTTP/1.1 200 ")
    wait_for(lambda: front.connections() == 0)


def test_who_has_sent_all_is_answered(front: Running) -> None:
    """A client that closes its side after the request gets its answer."""
    with front.connect() as client:
        client.sendall(request("/slow"))
        client.shutdown(socket.SHUT_WR)
        assert read_all(client).endswith(b"/slow 0")


def test_connections_of_one_address_have_a_limit() -> None:
    """Loopback has none; another address gets 503 for one too many, and a place when one goes."""
    with running(replace(SMALL, connections_per_address_max=1)) as front, ExitStack() as stack:
        for _ in range(5):
            stack.enter_context(front.connect())
        wait_for(lambda: front.connections() == 5)
        assert front.limited() == {}

    assert party_of("192.0.2.7") == "192.0.2.7"
    assert party_of("::ffff:192.0.2.7") == "192.0.2.7"
    assert party_of("2001:db8:1:2:3::4") == party_of("2001:db8:1:2::9%eth0") == "2001:db8:1:2::"


def test_another_address_has_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """One connection too many of an address gets 503, and a place when another has gone."""
    monkeypatch.setattr("meterstream_services.http.front.is_loopback", lambda _: False)
    with running(replace(SMALL, connections_per_address_max=1, idle_seconds=60)) as front:
        with front.connect() as first:
            first.sendall(request("/a"))
            assert first.recv(1000).endswith(b"/a 0")
            refused = front.ask(b"")
        wait_for(lambda: front.connections() == 0)
        again = front.ask(request("/b", "GET", "Connection: close"))

        assert refused.startswith(b"HTTP/1.1 503 ")
        assert b"retry-after: " in refused
        assert again.endswith(b"/b 0")
        assert front.limited() == {"connections_per_address_max": 1}


def test_connections_have_a_limit() -> None:
    """One connection too many is told so at once; those that are open go on."""
    with running(replace(SMALL, connections_max=2, head_seconds=60)) as front:
        with front.connect() as first, front.connect():
            wait_for(lambda: front.connections() == 2)
            assert front.ask(request("/c")).startswith(b"HTTP/1.1 503 ")
            first.sendall(request("/a"))
            assert first.recv(1000).endswith(b"/a 0")

        assert front.limited() == {"connections_max": 1}


def test_a_thousand_idle_connections_cost_little() -> None:
    """Memory grows by less than 32 KiB for each of 1,000 connections, both ends of it, and stays.

    One more client is answered beside them.
    """
    limits = replace(DEFAULTS, connections_max=1500)
    process = psutil.Process()
    with running(limits) as front, ExitStack() as stack:
        front.ask(request("/warm", "GET", "Connection: close"))
        before = process.memory_info().rss
        for number in range(1000):
            client = stack.enter_context(front.connect())
            client.sendall(request("/a") if number % 2 else b"GET / HTTP/1.1\r\nX: a")
        wait_for(lambda: front.connections() == 1000)
        wait_for(lambda: front.app.answered == 501)
        opened = process.memory_info().rss
        assert front.ask(request("/b", "GET", "Connection: close")).endswith(b"/b 0")

        assert (opened - before) / 1000 < 32 * 1024
        assert process.memory_info().rss - opened < 4 << 20


def test_slow_readers_cost_little() -> None:
    """20 clients that ask for 131 MB each and read nothing hold what two buffers hold, no more."""
    limits = replace(SMALL, answer_seconds=60, connections_per_address_max=50)
    process = psutil.Process()
    with running(limits) as front, ExitStack() as stack:
        before = process.memory_info().rss
        for _ in range(20):
            client = stack.enter_context(front.connect())
            client.sendall(request("/large"))
        wait_for(lambda: len(front.app.seen) == 20)
        time.sleep(0.3)

        assert (process.memory_info().rss - before) / 20 < 1 << 20


def test_limits_have_names() -> None:
    """Limits are given by name; what is no limit or no number is one sentence."""
    assert parse_limits([]) == DEFAULTS
    assert parse_limits(["idle_seconds=30", "connections_max=7"]) == FrontLimits(
        idle_seconds=30.0, connections_max=7
    )
    for text in ("nothing=1", "idle_seconds", "connections_max=1.5", "idle_seconds=-1", "=", "a=b"):
        with pytest.raises(ValueError, match=r"[;:] "):
            parse_limits([text])
    assert {"head_seconds", "connections_max", "answer_seconds"} <= set(LIMITS)


def _drip(client: socket.socket, piece: bytes) -> bytes:
    """Send a piece again and again until the other side says something or closes."""
    until = time.monotonic() + END_SECONDS
    client.settimeout(0.02)
    while time.monotonic() < until:
        try:
            client.sendall(piece)
            return client.recv(1000)
        except TimeoutError:
            continue
        except ConnectionError:
            return b""
    pytest.fail("it never ends")

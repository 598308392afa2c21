"""Requests that two readers could read differently, heads that are too much, odd targets."""

from __future__ import annotations

import socket

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meterstream_services.http.front_heads import flaw_of_head, origin_form
from tests.unit.services.front.conftest import (
    HEAD,
    Running,
    read_all,
    request,
    running,
    wait_for,
)

TWO_READINGS = {
    "length and coding": b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n",
    "coding and length": b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n",
    "two lengths": b"Content-Length: 4\r\nContent-Length: 5\r\n",
    "the same length twice": b"Content-Length: 4\r\nContent-Length: 4\r\n",
    "a list of lengths": b"Content-Length: 4, 4\r\n",
    "a signed length": b"Content-Length: +4\r\n",
    "a negative length": b"Content-Length: -1\r\n",
    "a hexadecimal length": b"Content-Length: 0x4\r\n",
    "a length beyond 64 bits": b"Content-Length: 99999999999999999999999\r\n",
    "chunked is not last": b"Transfer-Encoding: chunked, identity\r\n",
    "another coding": b"Transfer-Encoding: gzip\r\n",
    "nearly chunked": b"Transfer-Encoding: xchunked\r\n",
    "chunked by a tab": b"Transfer-Encoding:\x0bchunked\r\n",
    "a space before the colon": b"Transfer-Encoding : chunked\r\n",
    "a folded line": b"X: a\r\n b\r\n",
    "a NUL in a value": b"X: a\0b\r\n",
    "a bare carriage return": b"X: a\rContent-Length: 4\r\n",
    "two hosts": b"Host: localhost\r\n",
    "no colon": b"Broken\r\n",
    "an empty name": b": a\r\n",
}


@pytest.mark.parametrize("headers", TWO_READINGS.values(), ids=TWO_READINGS.keys())
def test_what_could_be_read_twice_is_refused(shared: Running, headers: bytes) -> None:
    """One 400, the connection closed, and what follows is no second request."""
    seen = len(shared.app.seen)

    told = shared.ask(b"POST /a HTTP/1.1\r\n" + HEAD + headers + b"\r\n0\r\n\r\n" + request("/b"))

    assert told.startswith(b"HTTP/1.1 400 "), told
    assert told.count(b"HTTP/1.1 ") == 1
    assert b"connection: close" in told
    assert not {path for _, path, _, _ in shared.app.seen[seen:]} & {"/b"}


@pytest.mark.parametrize(
    "line",
    [
        b"GET / HTTP/9.9", b"GET / HTTP/2.0", b"GET / HTTP/0.9", b"GET /", b"PRI * HTTP/2.0",
        b"FOO / HTTP/1.1", b"get / HTTP/1.1", b"GET  / HTTP/1.1 x", b"CONNECT a:1 HTTP/1.1",
        b"GET a HTTP/1.1", b"GET ftp://a/ HTTP/1.1", b"GET http:/// HTTP/1.1",
        b"GET http://u@h/ HTTP/1.1", b"GET /\xff HTTP/1.1", b"GET /a b HTTP/1.1", b"\x16\x03\x01",
    ],
)  # fmt: skip
def test_a_line_that_is_no_request(shared: Running, line: bytes) -> None:
    """Other protocols, versions and targets are one 400."""
    seen = len(shared.app.seen)

    told = shared.ask(line + b"\r\n" + HEAD + b"\r\n")

    assert told.startswith(b"HTTP/1.1 400 "), told
    assert shared.app.seen[seen:] == []


@pytest.mark.parametrize(
    ("target", "path"),
    [
        ("//", "//"),
        ("//evil.example/a", "//evil.example/a"),
        ("/%2e%2e/%2e%2e/etc/passwd", "/../../etc/passwd"),
        ("/../x", "/../x"),
        ("/a%00b", "/a\0b"),
        ("/%ff", "/\ufffd"),
        ("/%zz", "/%zz"),
        ("/a;b=c", "/a;b=c"),
    ],
)
def test_odd_paths_reach_the_application_as_they_are(
    shared: Running, target: str, path: str
) -> None:
    """The front makes no path of another: what is meant is for the routes to say."""
    told = shared.ask(request(target, "GET", "Connection: close"))

    assert told.startswith(b"HTTP/1.1 200 ")
    assert shared.app.seen[-1][:2] == ("GET", path)


def test_a_target_with_a_host_means_that_host(shared: Running) -> None:
    """The absolute form replaces the Host header, so that nobody is told two names."""
    told = shared.ask(request("http://other.example:81/x?y", "GET", "Connection: close"))

    assert told.startswith(b"HTTP/1.1 200 ")
    assert shared.app.seen[-1] == ("GET", "/x", "other.example:81", b"")


@pytest.mark.parametrize(
    ("sent", "status", "limit"),
    [
        (b"GET /" + b"a" * 10_000 + b" HTTP/1.1\r\n" + HEAD + b"\r\n", 414, "head_bytes_max"),
        (b"GET /" + b"a" * 900_000, 414, "head_bytes_max"),
        (request("/", "GET", "X: " + "a" * 9000), 431, "head_bytes_max"),
        (b"GET / HTTP/1.1\r\nX: " + b"a" * 900_000, 431, "head_bytes_max"),
        (request("/", "GET", *(f"X{n}: a" for n in range(30))), 431, "headers_max"),
        (b"GET / HTTP/1.1\r\n" + b"X: a\r\n" * 200_000, 431, "head"),
        (b"\r\n" * 400_000, 431, "head_bytes_max"),
    ],
)
def test_a_head_has_limits(sent: bytes, status: int, limit: str) -> None:
    """A line, a header or many headers beyond the limit are refused before their end."""
    with running() as front:
        told = front.ask(sent)

        assert told.startswith(f"HTTP/1.1 {status} ".encode()), told[:200]
        assert [name for name in front.limited() if name.startswith(limit)]
        assert front.app.seen == []


def test_a_head_may_come_byte_by_byte(shared: Running) -> None:
    """A short head in many pieces is a head like others."""
    with shared.connect() as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in request("/bytes", "POST", "Connection: close", body=b"ab"):
            client.sendall(bytes([byte]))
        told = client.recv(1000)

    assert told.startswith(b"HTTP/1.1 200 ")
    assert shared.app.seen[-1] == ("POST", "/bytes", "localhost", b"ab")


def test_what_follows_chunks_is_no_header(shared: Running) -> None:
    """Trailers never become headers of the request."""
    told = shared.ask(
        b"POST /t HTTP/1.1\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n" + HEAD + b"\r\n"
        b"2\r\nab\r\n0\r\nHost: evil.example\r\nX: y\r\n\r\n"
    )

    assert told.startswith(b"HTTP/1.1 200 ")
    assert shared.app.seen[-1] == ("POST", "/t", "localhost", b"ab")


@pytest.mark.parametrize(
    "body",
    [
        b"zz\r\n",
        b"-1\r\na",
        b"ffffffffffffffffff\r\na",
        b"2\r\nabc\r\n0\r\n\r\n",
        b"2;" + b"x" * 900_000,
        b"0\r\n" + b"X: y\r\n" * 100_000,
        b"0\r\nX: " + b"y" * 900_000,
        b"1;" + b"e" * 200 + b"\r\na\r\n",
    ],
    ids=range(8),
)
def test_chunks_that_are_none(shared: Running, body: bytes) -> None:
    """Wrong sizes, endless extensions and endless trailers are refused; the request is dropped."""
    head = b"POST /c HTTP/1.1\r\nTransfer-Encoding: chunked\r\n" + HEAD + b"\r\n"
    seen = len(shared.app.seen)

    told = shared.ask(head + body * (1 if len(body) > 300 or b"e" not in body else 200))

    assert told.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 408 ")), told[:100]
    assert shared.app.seen[seen:] == []


@pytest.mark.parametrize("method", ["HEAD", "OPTIONS", "TRACE", "DELETE", "PATCH"])
def test_other_methods_reach_the_application(shared: Running, method: str) -> None:
    """The front has no opinion on methods; HEAD's answer has no body."""
    told = shared.ask(request("/m", method, "Connection: close"))

    head, _, body = told.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 ")
    assert body == (b"" if method == "HEAD" else b"/m 0")


def test_http_1_0_is_answered_and_closed(shared: Running) -> None:
    """A client of 1996 needs no Host header, and gets its answer."""
    assert shared.ask(b"GET /old HTTP/1.0\r\n\r\n").endswith(b"\r\n\r\n/old 0")
    assert shared.ask(
        b"GET /old HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    ).startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize("cut", [None, 60, 150, 190, 210])
@pytest.mark.parametrize(
    "body",
    [b"Content-Length: 4\r\n\r\nbody", b"Transfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n"],
)
def test_an_offer_of_another_protocol_costs_no_body(
    shared: Running, body: bytes, cut: int | None
) -> None:
    """As Java's client sends it: the request is read whole, and what follows it is answered too."""
    offer = b"Connection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAEAAEAAAAIAAAAB\r\n"
    sent = b"POST /offer HTTP/1.1\r\n" + HEAD + offer + b"Upgrade: h2c\r\n" + body
    with shared.connect() as client:
        client.sendall(sent[:cut])
        if cut is not None:
            wait_for(lambda: shared.connections() > 0)
            client.sendall(sent[cut:])
        client.sendall(request("/next", "GET", "Connection: close"))
        told = read_all(client)

    assert told.count(b"HTTP/1.1 200 ") == 2, told
    assert shared.app.seen[-2][:2] == ("POST", "/offer")
    assert shared.app.seen[-2][3] == b"body"
    assert shared.app.seen[-1][1] == "/next"


def test_an_upgrade_is_declined(shared: Running) -> None:
    """A request for another protocol is answered as one of this, and is the last."""
    told = shared.ask(
        request("/u", "GET", "Connection: Upgrade", "Upgrade: websocket") + b"\x81\x05hello"
    )

    assert told.startswith(b"HTTP/1.1 200 ")
    assert told.count(b"HTTP/1.1 ") == 1


def test_who_waits_to_be_told_to_go_on_is_told(shared: Running) -> None:
    """``Expect: 100-continue`` gets its 100 before the body, and 200 after it."""
    with shared.connect() as client:
        client.sendall(
            b"POST /e HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 2\r\n" + HEAD + b"\r\n"
        )
        assert client.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.sendall(b"ab")
        assert client.recv(1000).startswith(b"HTTP/1.1 200 ")


@settings(max_examples=150)
@given(
    st.lists(
        st.sampled_from(
            [
                b"GET", b"POST", b" ", b"/", b"/a", b" HTTP/1.1", b"\r\n", b"\n",
                b"Host: localhost", b"Content-Length: 3", b"Transfer-Encoding: chunked",
                b"\r\n\r\n", b"3\r\nabc\r\n", b"0\r\n\r\n", b"\0", b"http://", b"Connection: close",
                b"Expect: 100-continue", b":",
            ]
        )
        | st.binary(max_size=12),
        max_size=14,
    )
)  # fmt: skip
def test_any_bytes_are_answered_or_closed(shared: Running, pieces: list[bytes]) -> None:
    """Whatever is sent, the connection ends soon, and no answer is a 500."""
    with shared.connect() as client:
        client.sendall(b"".join(pieces))
        client.shutdown(socket.SHUT_WR)
        told = client.recv(65_536)

    assert not told or told.startswith(b"HTTP/1.1 ")
    assert b"HTTP/1.1 5" not in told


@given(st.binary(max_size=40))
def test_any_target_has_a_host_and_a_path_or_neither(target: bytes) -> None:
    """Splitting a target never fails, and its path begins as one."""
    found = origin_form(target)

    assert found is None or (found[0] and found[1].startswith(b"/"))


def test_versions_and_hosts() -> None:
    """Only 1.1 and 1.0 are spoken; a host is named once, by 1.1 always."""
    host = (b"host", b"a")

    assert flaw_of_head("1.1", [host]) is None
    assert flaw_of_head("1.0", []) is None
    assert flaw_of_head("1.0", [host]) is None
    for version, headers in (
        ("1.1", []),
        ("1.1", [host, host]),
        ("1.0", [host, host]),
        ("1.0", [(b"transfer-encoding", b"chunked")]),
        ("2.0", [host]),
    ):
        assert flaw_of_head(version, headers) is not None

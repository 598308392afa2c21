"""One request and its answer on a connection: uvicorn's cycle, with cheaper answers.

The head of an answer waits for the first piece of its body, as ASGI has it, so that both go out in
one write. Heads repeat themselves, so each is judged and put together once; the date alone is new
every second.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Final, NamedTuple

from uvicorn.protocols.http.httptools_impl import (
    HEADER_RE,
    HEADER_VALUE_RE,
    STATUS_LINE,
    RequestResponseCycle,
)

_HEADS_KEPT: Final = 1024
_BODILESS: Final = frozenset({204, 304})

Headers = tuple[tuple[bytes, bytes], ...]


class Head(NamedTuple):
    """The lines of a head without the date; what it says of the body, and of the connection."""

    lines: bytes
    length: int | None
    is_chunked: bool
    closes: bool


class FrontCycle(RequestResponseCycle):
    """See the module. What it is asked beside ``send`` is uvicorn's."""

    _head: bytes = b""

    async def send(self, message: Any) -> None:  # noqa: ANN401 - a message of ASGI
        """The answer's head, then its body, piece by piece."""
        if self.flow.write_paused and not self.disconnected:
            await self.flow.drain()
        if self.disconnected:
            return
        kind = message["type"]
        if self.response_complete:
            raise RuntimeError(f"{kind!r} was sent when the answer was complete")
        if not self.response_started:
            if kind != "http.response.start":
                raise RuntimeError(f"an answer does not begin with {kind!r}")
            self._begin(message["status"], tuple(message.get("headers", ())))
        elif kind == "http.response.body":
            self._go_on(message.get("body", b""), message.get("more_body", False))
        else:
            raise RuntimeError(f"{kind!r} was sent in the middle of an answer")

    def _begin(self, status: int, headers: Headers) -> None:
        head = head_of(headers)
        self.response_started = True
        self.waiting_for_100_continue = False
        lines = [STATUS_LINE[status]]
        for name, value in self.default_headers:
            lines += (name, b": ", value, b"\r\n")
        lines.append(head.lines)
        if head.closes:
            self.keep_alive = False
        elif not self.keep_alive:
            lines.append(b"connection: close\r\n")
        self.expected_content_length = head.length or 0
        self.chunked_encoding = head.is_chunked
        if head.length is None and not head.is_chunked and self._may_have_body(status):
            self.chunked_encoding = True
            lines.append(b"transfer-encoding: chunked\r\n")
        lines.append(b"\r\n")
        self._head = b"".join(lines)

    def _may_have_body(self, status: int) -> bool:
        return self.scope["method"] != "HEAD" and status not in _BODILESS

    def _go_on(self, body: bytes, more: bool) -> None:
        head, self._head = self._head, b""
        if self.scope["method"] == "HEAD":
            self.expected_content_length = 0
            body = b""
        elif self.chunked_encoding:
            body = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
            if not more:
                body += b"0\r\n\r\n"
        else:
            self.expected_content_length -= len(body)
            if self.expected_content_length < 0:
                raise RuntimeError("the answer is longer than its Content-Length")
        if head or body:
            self.transport.write(head + body if head else body)
        if not more:
            if self.expected_content_length:
                raise RuntimeError("the answer is shorter than its Content-Length")
            self._end()

    def _end(self) -> None:
        self.response_complete = True
        self.message_event.set()
        if not self.keep_alive:
            self.transport.close()
        self.on_response()


@lru_cache(_HEADS_KEPT)
def head_of(headers: Headers) -> Head:
    """The head of an answer. Raises `RuntimeError` for a header that would end it early.

    Lengths are among its headers, so there may be as many heads as lengths: few are kept.
    """
    lines: list[bytes] = []
    length: int | None = None
    is_chunked = closes = False
    for given, value in headers:
        if HEADER_RE.search(given) or HEADER_VALUE_RE.search(value):
            raise RuntimeError("a header of an answer has characters that none may have")
        name = given.lower()
        if name == b"content-length" and not is_chunked:
            length = int(value)
        elif name == b"transfer-encoding" and value.lower() == b"chunked":
            length, is_chunked = None, True
        elif name == b"connection":
            closes = closes or b"close" in {part.strip() for part in value.lower().split(b",")}
        lines += (name, b": ", value, b"\r\n")
    return Head(b"".join(lines), length, is_chunked, closes)

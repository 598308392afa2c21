"""One client's connection, held to the limits of the front.

States, by what the client owes::

    HEAD ──head complete──▶ BODY ──body complete──▶ ANSWER ──answered──▶ IDLE ──first byte──▶ HEAD
     │                       │                         │ (client must read)  │
     └── too slow, too large, malformed: an answer if none is begun ─────────┴──▶ OVER ──▶ closed

In OVER nothing is read any more but to be thrown away: a socket that is closed with unread bytes
takes the answer away from the client that still writes.

What was sent ahead (pipelined) is answered in its order. A refusal waits for the answers before it,
so that it is never taken for one of theirs.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any, Final

import httptools
from uvicorn.config import Config
from uvicorn.server import ServerState

from meterstream_services.http.front import Front, Refusal, keep_little_unsent, party_of
from meterstream_services.http.front_heads import flaw_of_head, name_host, origin_form
from meterstream_services.http.front_limits import MALFORMED
from meterstream_services.http.front_offers import parser_for, without_offer
from meterstream_services.http.front_protocol import FrontProtocol
from meterstream_services.http.front_state import State as _State

_TRICKERY_PER_BODY_BYTE: Final = 8
"""Bytes of chunk sizes, extensions and trailers that each byte of a body may bring along."""
_log: Final = logging.getLogger("meterstream.http")


class _Unfit(Exception):
    """Stops the parser; the connection has noted why."""


class FrontConnection(FrontProtocol):
    """See the module. Made by uvicorn's server for each connection."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        front: Front,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._front = front
        self._limits = front.limits
        self.url = b""
        self._state = _State.IDLE
        self._begun = self.loop.time()
        self._message_begins = False
        self._head_bytes = 0
        self._wire_bytes = 0
        self._body_bytes = 0
        self._chunk_bytes = 0
        self._requests = 0
        self._stuck: float | None = None
        self._flaw: Refusal | None = None
        self._waiting_refusal: bytes | None = None
        self._again: bytes | None = None
        self._address = ""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """Take the connection, or refuse it where there are too many."""
        super().connection_made(transport)
        keep_little_unsent(transport)
        self._address = party_of(self.client[0]) if self.client else ""
        limit = self._front.enter(self, self._address)
        if limit is not None:
            self._front.limited(limit)
            transport.write(Refusal(limit, 503, "too many connections; wait").answer())
            self._over()
            transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._front.leave(self, self._address)
        self.pipeline.clear()
        super().connection_lost(exc)
        self._over()

    def data_received(self, data: bytes) -> None:
        """Parse what came, unless the connection is over."""
        parser = self.parser
        if self._state is _State.OVER or self._waiting_refusal is not None:
            return
        assert parser is not None, "only a connection that is over has no parser"
        if self._state is _State.IDLE:
            self._state, self._begun = _State.HEAD, self.loop.time()
            self._head_bytes, self.url = 0, b""
        self._chunk_bytes = len(data)
        self._message_begins = False
        if self._state is _State.BODY:
            self._wire_bytes += len(data)
        try:
            parser.feed_data(data)
        except httptools.HttpParserUpgrade as offer:
            if self._again is not None:
                head, self._again, self.parser = self._again, None, parser_for(self)
                self.data_received(head + data[offer.args[0] :])
                return
            # Nothing else is spoken here: the request was answered as one of HTTP/1.1, the last.
            self.cycle.keep_alive = False
        except httptools.HttpParserError as problem:
            self._refuse(
                self._flaw or Refusal(MALFORMED, 400, f"the request is no HTTP: {problem}")
            )
            return
        if self._state is _State.HEAD:
            self._judge_partial_head(len(data))
        elif self._state is _State.BODY:
            self._judge_partial_body()

    def eof_received(self) -> bool:  # type: ignore[override]  # True keeps the connection to answer on
        """A client that has sent all it will is answered all the same, where the socket can."""
        if self._answering() and self.cycle.more_body is False and self.scheme == "http":
            self.cycle.keep_alive = False
            return True
        return False

    def pause_writing(self) -> None:
        """The client reads more slowly than its answer comes."""
        self._stuck = self.loop.time()
        super().pause_writing()

    def resume_writing(self) -> None:
        """The client has read."""
        self._stuck = None
        super().resume_writing()

    def shutdown(self) -> None:
        """Answer what is under way, then close."""
        super().shutdown()
        if self.transport.is_closing():
            self._over()

    def on_message_begin(self) -> None:
        """A head begins: its time and size count from here."""
        super().on_message_begin()
        self._message_begins = True
        if self._state is not _State.HEAD:
            self._state, self._begun = _State.HEAD, self.loop.time()
        self._head_bytes = 0

    def on_headers_complete(self) -> None:
        """Judge the head, and begin to answer."""
        self._flaw = self._flaw_of_head()
        if self._flaw is not None:
            raise _Unfit
        self._again = without_offer(self.parser, self.url, self.headers)
        if self._again is not None:
            return
        super().on_headers_complete()
        self._requests += 1
        if self._requests >= self._limits.requests_per_connection_max:
            self._front.limited("requests_per_connection_max")
            self.cycle.keep_alive = False
        # The cycle writes and closes through this; see `close`.
        self.cycle.transport = self  # type: ignore[assignment]  # it asks for write, is_closing, close
        # What follows a body in chunks are no headers of the request.
        self.headers = []
        self._state, self._begun = _State.BODY, self.loop.time()
        self._wire_bytes = self._body_bytes = 0

    def on_body(self, body: bytes) -> None:
        """A piece of the body."""
        self._body_bytes += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The client has sent its request."""
        if self._again is not None:
            return
        done = self.cycle.response_complete
        super().on_message_complete()
        self._state, self._begun = (_State.IDLE if done else _State.ANSWER), self.loop.time()

    def write(self, data: bytes) -> None:
        """A piece of an answer; for nobody, when the client has gone."""
        if not self.transport.is_closing():
            self.transport.write(data)

    def is_closing(self) -> bool:
        """Whether nothing more can be written."""
        return self._state is _State.OVER or self.transport.is_closing()

    def close(self) -> None:
        """The last answer is written: close, at once where the client has sent all."""
        if self._state is _State.BODY:
            self._hang_up()
        else:
            self._over()
            self.transport.close()

    def on_response_complete(self) -> None:
        """Go on with what was sent ahead, or wait for the next."""
        self.server_state.total_requests += 1
        if self.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            cycle, app = self.pipeline.pop()
            self._start_asgi_task(cycle, app)
        elif self._waiting_refusal is not None:
            self.transport.write(self._waiting_refusal)
            self._hang_up()
        elif self._state is _State.ANSWER:
            self._state, self._begun = _State.IDLE, self.loop.time()
        elif self._state is not _State.IDLE:
            # A head that came while this side did not read, or the rest of a body.
            self._begun = self.loop.time()

    def look(self, now: float, since: float) -> None:
        """See `meterstream_services.http.front.Connection`."""
        limits = self._limits
        if self._state is _State.OVER:
            patience = limits.answer_seconds if self.transport.is_closing() else 0
            if now - self._begun > max(limits.linger_seconds, patience):
                self.transport.abort()
        elif self._stuck is not None and now - self._stuck > limits.answer_seconds:
            self._front.limited("answer_seconds")
            self._over()
            self.transport.abort()
        elif self._state is _State.IDLE:
            self._judge_idleness(now - self._begun)
        elif self.flow.read_paused:
            self._begun += now - since  # It is this side that does not read.
        elif self._state is _State.HEAD:
            if now - self._begun > limits.head_seconds:
                self._refuse(
                    Refusal("head_seconds", 408, "the head of the request came too slowly")
                )
        elif self._state is _State.BODY:
            self._judge_pace(now - self._begun)

    def _judge_idleness(self, seconds: float) -> None:
        """Nothing is said: a client could take it for the answer to what it sends just now."""
        first = self._requests == 0
        if seconds > (self._limits.head_seconds if first else self._limits.idle_seconds):
            if first:
                self._front.limited("head_seconds")
            self._over()
            self.transport.close()

    def _judge_pace(self, seconds: float) -> None:
        limits = self._limits
        if self.cycle.response_complete:
            if seconds > limits.linger_seconds:
                self._hang_up()
                self.transport.abort()
            return
        due = (seconds - limits.body_grace_seconds) * limits.body_bytes_per_second_min
        if self._wire_bytes < due:
            limit = "body_bytes_per_second_min"
        elif seconds > limits.body_seconds_max:
            limit = "body_seconds_max"
        else:
            return
        self._refuse(Refusal(limit, 408, "the body of the request came too slowly"))

    def _judge_partial_head(self, received: int) -> None:
        """Of a head that began before this piece of it; a shorter one is judged when complete."""
        if not self._message_begins:
            self._head_bytes += received
        if self._head_bytes > self._limits.head_bytes_max:
            self._refuse(self._too_large_head())

    def _judge_partial_body(self) -> None:
        trickery = self._wire_bytes - self._body_bytes
        most = self._limits.head_bytes_max + _TRICKERY_PER_BODY_BYTE * self._body_bytes
        if trickery > most and not self._message_begins:
            self._refuse(Refusal(MALFORMED, 400, "the body is mostly sizes of chunks"))

    def _flaw_of_head(self) -> Refusal | None:
        """What is wrong with a complete head, of those things that the parser lets pass."""
        limits, headers = self._limits, self.headers
        if len(headers) > limits.headers_max:
            detail = f"more than {limits.headers_max} headers; send fewer"
            return Refusal("headers_max", 431, detail)
        if len(self.pipeline) >= limits.pipelined_max:
            detail = f"more than {limits.pipelined_max} requests ahead of answers; wait for them"
            return Refusal("pipelined_max", 429, detail)
        if self._chunk_bytes > limits.head_bytes_max or self._head_bytes:
            size = len(self.url) + sum(len(name) + len(value) + 4 for name, value in headers)
            if size > limits.head_bytes_max:
                return self._too_large_head()
        assert self.parser is not None
        flaw = flaw_of_head(self.parser.get_http_version(), headers)
        if flaw is None and not self.url.startswith(b"/"):
            found = origin_form(self.url)
            if found is None:
                flaw = "the target is no path; write METHOD /path HTTP/1.1"
            else:
                host, self.url = found
                name_host(headers, host)
        return None if flaw is None else Refusal(MALFORMED, 400, flaw)

    def _too_large_head(self) -> Refusal:
        most = self._limits.head_bytes_max
        status = 414 if len(self.url) > most // 2 else 431
        return Refusal("head_bytes_max", status, f"a head has at most {most} bytes; send less")

    def _refuse(self, why: Refusal) -> None:
        self._front.limited(why.limit)
        _log.debug("%s: %s", self._address, why.detail)
        answer = why.answer()
        cycle = self.cycle
        if self._answering() and (self.pipeline or not cycle.more_body):
            # Requests before it are complete: theirs is the next answer.
            if cycle.more_body:
                self.pipeline.popleft()
            self._waiting_refusal, self._state = answer, _State.ANSWER
            return
        if self._answering():
            cycle.disconnected = True
            cycle.message_event.set()
            if cycle.response_started:
                self._over()
                self.transport.abort()
                return
        self.transport.write(answer)
        self._hang_up()

    def _answering(self) -> bool:
        return self._requests > 0 and not self.cycle.response_complete

    def _over(self) -> None:
        self._state, self._begun = _State.OVER, self.loop.time()

    def _hang_up(self) -> None:
        """Say that nothing more is written, and throw away what still comes, for a moment."""
        self._over()
        self.flow.resume_reading()
        if self.transport.can_write_eof():
            self.transport.write_eof()
        else:
            self.transport.close()

"""A gateway that stands in for the real one: it keeps records, and misbehaves when it is told to.

It speaks the contract of decision 22 over plain sockets on 127.0.0.1, and asserts it: a request
that breaks it is noted in ``violations``, which a test looks at in the end.
"""

from __future__ import annotations

import gzip
import json
import socket
import ssl
import struct
import threading
import time
from collections import deque
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from meterstream.memory import Stored
from meterstream_schemas import codec, wire

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from types import TracebackType
    from typing import Self

    from meterstream_schemas.events import MeterEvent

_SCHEMA = codec.parse_text(codec.bundled_text(codec.LATEST_ID))
KEY = "secret-key-of-the-tests"
CERTIFICATE = Path(__file__).with_suffix(".pem")
"""Signed by itself, for 127.0.0.1, with its key: for these tests and nothing else."""


class Log(Protocol):
    """Where a gateway puts records."""

    def append(self, records: Sequence[tuple[int, bytes, bytes]]) -> list[list[int]]:
        """Keep partition, key and value of each; where each lies, when all are safe."""
        ...


class MemoryLog:
    """Partitions as lists."""

    def __init__(self, partitions: int = 4) -> None:
        self.partitions: list[list[Stored]] = [[] for _ in range(partitions)]
        self._lock = threading.Lock()

    def append(self, records: Sequence[tuple[int, bytes, bytes]]) -> list[list[int]]:
        """See `Log`."""
        places = []
        with self._lock:
            for partition, key, value in records:
                self.partitions[partition].append(Stored(key, value))
                places.append([partition, len(self.partitions[partition]) - 1])
        return places


class Reply(NamedTuple):
    """What goes back. ``cut``: so many bytes of the body, and then the connection is reset.

    ``drip``: head and body one byte at a time, with so many seconds between.
    """

    status: int
    body: bytes
    headers: Mapping[str, str] = {}
    cut: int | None = None
    drip: float | None = None


class Asked(NamedTuple):
    """One request as it came."""

    method: str
    records: int
    at: float


def told(results: object) -> Reply:
    """An answer of the contract."""
    return Reply(200, json.dumps({"results": results}).encode())


class Standin:
    """A threaded server for a ``with`` block. ``fates`` come to the next POSTs, one each.

    Later ones get what ``always`` or, by their records, ``fate_of`` says.

    ``refuse`` is asked for every record: its error text with ``permanent``, or None to keep it.
    """

    def __init__(
        self, *, log: Log | None = None, records_max: int = 500, tls: bool = False
    ) -> None:
        self.memory = MemoryLog()
        self.log: Log = log or self.memory
        self.terms: dict[str, Any] = {
            "partitions": 4,
            "bytes_max": 1_000_000,
            "records_max": records_max,
        }
        self.key = KEY
        self.fates: deque[str | None] = deque()
        self.always: str | None = None
        self.fate_of: Callable[[list[bytes]], str | None] = lambda _: None
        self.greeting: str | None = None
        self.refuse: Callable[[MeterEvent], tuple[str, bool] | None] = lambda _: None
        self.asked: list[Asked] = []
        self.violations: list[str] = []
        self.released = threading.Event()
        self.dripped = 0
        self._server = _Server(self)
        self._scheme = "https" if tls else "http"
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(CERTIFICATE)
            plain = self._server.socket
            self._server.socket = context.wrap_socket(plain, server_side=True)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))

    @property
    def url(self) -> str:
        """The gateway's address."""
        return f"{self._scheme}://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.released.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def posts(self) -> list[int]:
        """How many records each POST had."""
        return [asked.records for asked in self.asked if asked.method == "POST"]

    def keep(self, records: list[tuple[int, bytes]]) -> Reply:
        """What a gateway does that is well."""
        events = [codec.decode_body(wire.split(value)[1], _SCHEMA) for _, value in records]
        refusals = [self.refuse(event) for event in events]
        kept = [
            (partition, event.tenant.encode(), value)
            for event, (partition, value), refusal in zip(events, records, refusals, strict=True)
            if refusal is None
        ]
        places = iter(self.log.append(kept))
        return told(
            [
                {"error": refusal[0], "permanent": refusal[1]} if refusal else next(places)
                for refusal in refusals
            ]
        )

    def reply(self, fate: str | None, keep: Callable[[], Reply]) -> Reply:
        """The answer under a fate."""
        if fate is None:
            return keep()
        if fate in _WITHOUT_KEEPING:
            return _WITHOUT_KEEPING[fate]()
        if fate == "slow":
            reply = keep()
            self.released.wait(10)
            return reply
        return _AFTER_KEEPING[fate](keep())


def _changed(change: Callable[[list[Any]], object]) -> Callable[[Reply], Reply]:
    return lambda reply: told(change(json.loads(reply.body)["results"]))


_WITHOUT_KEEPING: dict[str, Callable[[], Reply]] = {
    "reset": lambda: Reply(200, b"", cut=-1),
    "429": lambda: Reply(429, b"", {"Retry-After": "1"}),
    "503": lambda: Reply(503, b'{"error": "busy"}', {"Retry-After": "0"}),
    "503 with a date": lambda: Reply(
        503, b"", {"Retry-After": formatdate(time.time() + 2, usegmt=True)}
    ),
    "503 for a day": lambda: Reply(503, b"", {"Retry-After": "86400"}),
    "500": lambda: Reply(500, b"Traceback ..."),
    "401": lambda: Reply(401, b'{"error": "no such key: %s"}' % KEY.encode()),
    "403": lambda: Reply(403, b"<html>"),
    "413": lambda: Reply(413, b'{"error": "too large"}'),
    "413 of a proxy": lambda: Reply(413, b"<html>too large</html>"),
    "400": lambda: Reply(400, b'{"error": "cannot be read"}'),
    "400 of a proxy": lambda: Reply(400, b"<html>bad request</html>"),
    "404": lambda: Reply(404, b"{}"),
    "redirect": lambda: Reply(308, b"", {"Location": "/elsewhere"}),
    "204": lambda: Reply(204, b""),
}
_AFTER_KEEPING: dict[str, Callable[[Reply], Reply]] = {
    "lost answer": lambda _: Reply(200, b"", cut=-1),
    "half an answer": lambda reply: reply._replace(cut=len(reply.body) // 2),
    "dripping": lambda reply: reply._replace(drip=0.02),
    "garbage": lambda _: Reply(200, b"\xff\x00 not JSON"),
    "nested garbage": lambda _: Reply(200, b"[" * 20_000),
    "html": lambda _: Reply(200, b"<html>Sign in</html>", {"Content-Type": "text/html"}),
    "list": lambda reply: reply._replace(
        body=json.dumps(json.loads(reply.body)["results"]).encode()
    ),
    "huge": lambda _: Reply(200, b" " * 3_000_000),
    "packed": lambda reply: reply._replace(
        body=gzip.compress(reply.body), headers={"Content-Encoding": "gzip"}
    ),
    "one short": _changed(lambda results: results[:-1]),
    "one more": _changed(lambda results: [*results, results[0]]),
    "no list": _changed(lambda _: "ok"),
    "nulls": _changed(lambda results: [None] * len(results)),
    "truths": _changed(lambda results: [[where, True] for where, _ in results]),
    "texts": _changed(lambda results: [[str(where), str(offset)] for where, offset in results]),
    "negative": _changed(lambda results: [[where, -1] for where, _ in results]),
    "beyond": _changed(lambda results: [[where, 2**63] for where, _ in results]),
    "elsewhere": _changed(lambda results: [[(where + 1) % 4, offset] for where, offset in results]),
    "one place": _changed(lambda results: [results[0] for _ in results]),
    "in doubt": _changed(lambda results: [{"error": "away", "permanent": False} for _ in results]),
    "unclear": _changed(lambda results: [{"error": "away"} for _ in results]),
    "perhaps": _changed(lambda results: [{"error": "away", "permanent": 1} for _ in results]),
}
FATES = [name for name in (*_WITHOUT_KEEPING, *_AFTER_KEEPING) if name not in {"400", "413"}]
"""All but those after which one record alone is refused for good."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, standin: Standin) -> None:
        self.standin = standin
        super().__init__(("127.0.0.1", 0), _Handler)

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that went away in the middle is no error here."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def do_GET(self) -> None:
        """The terms."""
        standin = self.server.standin
        standin.asked.append(Asked("GET", 0, time.monotonic()))
        self._answer(
            standin.reply(standin.greeting, lambda: Reply(200, json.dumps(standin.terms).encode()))
        )

    def do_POST(self) -> None:
        """Records."""
        standin = self.server.standin
        records = self._records()
        values = [value for _, value in records]
        standin.asked.append(Asked("POST", len(values), time.monotonic()))
        try:
            fate = standin.fates.popleft()
        except IndexError:
            fate = standin.always or standin.fate_of(values)
        self._answer(standin.reply(fate, lambda: standin.keep(records)))

    def _records(self) -> list[tuple[int, bytes]]:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        standin = self.server.standin
        values: list[tuple[int, bytes]] = []
        size = len(body)
        while body:
            length, partition = struct.unpack_from(">II", body)
            values.append((partition, body[8 : 8 + length]))
            body = body[8 + length :]
        for name, found, expected in (
            ("count", self.headers["Meterstream-Records"], str(len(values))),
            ("type", self.headers["Content-Type"], "application/vnd.meterstream.records"),
            ("path", self.path, "/v1/records"),
            ("bytes", size <= standin.terms["bytes_max"] or len(values) == 1, True),
            ("records", len(values) <= standin.terms["records_max"], True),
            ("key", self.headers["Authorization"], f"Bearer {KEY}"),
        ):
            if found != expected:
                standin.violations.append(f"{name}: {found!r}")
        return values

    def _answer(self, reply: Reply) -> None:
        if reply.cut is not None:
            self.wfile.write(self._head(reply) + reply.body[: reply.cut] if reply.cut > 0 else b"")
            # Reset instead of an orderly end.
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.close_connection = True
            return
        answer = self._head(reply) + reply.body
        if reply.drip is None:
            self.wfile.write(answer)
            return
        self.server.standin.dripped = 0
        for byte in answer:
            self.wfile.write(bytes([byte]))
            self.server.standin.dripped += 1
            time.sleep(reply.drip)

    def _head(self, reply: Reply) -> bytes:
        headers = {"Content-Length": str(len(reply.body)), **reply.headers}
        if reply.status == 204:
            del headers["Content-Length"]
        lines = [f"HTTP/1.1 {reply.status} .", *(f"{name}: {headers[name]}" for name in headers)]
        return "\r\n".join([*lines, "", ""]).encode()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as in http.server
        """Say nothing."""

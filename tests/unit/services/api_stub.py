"""An API on a real socket that answers what a test says and keeps what it was asked."""

from __future__ import annotations

import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import parse_qsl, unquote, urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


class Asked(NamedTuple):
    """One request."""

    method: str
    path: str
    parameters: list[tuple[str, str]]
    headers: Mapping[str, str]
    body: bytes


class Answer(NamedTuple):
    """What is answered to a path."""

    body: object
    status: int = 200
    etag: str = ""


class Stub:
    """``answers`` by method and path; anything else is a 404 problem."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.answers: dict[tuple[str, str], Answer] = {}
        self.asked: list[Asked] = []

    def answer(self, path: str, body: object, **rest: int | str) -> None:
        """Answer a GET of ``path``."""
        self.answers["GET", path] = Answer(body, **rest)  # type: ignore[arg-type]  # a fake of few types

    def problem(self, path: str, status: int, detail: str, **rest: object) -> None:
        """Answer a GET of ``path`` with a problem."""
        self.answer(path, {"title": "Problem", "detail": detail} | rest, status=status)


@contextmanager
def running_stub() -> Iterator[Stub]:
    """A stub that listens inside the block."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
    stub = Stub(f"http://127.0.0.1:{server.server_address[1]}")

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._reply()

        def do_PUT(self) -> None:
            self._reply()

        def do_POST(self) -> None:
            self._reply()

        def do_DELETE(self) -> None:
            self._reply()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - named by the base class
            """Say nothing."""

        def _reply(self) -> None:
            parts = urlsplit(self.path)
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            path = unquote(parts.path)
            headers = {name.lower(): value for name, value in self.headers.items()}
            asked = Asked(self.command, path, parse_qsl(parts.query), headers, body)
            stub.asked.append(asked)
            missing = Answer({"detail": f"nothing at {path}"}, 404)
            answer = stub.answers.get((self.command, path), missing)
            content = (
                answer.body if isinstance(answer.body, bytes) else json.dumps(answer.body).encode()
            )
            self.send_response(answer.status)
            self.send_header("content-length", str(len(content)))
            if answer.etag:
                self.send_header("etag", answer.etag)
            self.end_headers()
            self.wfile.write(content)

    server.RequestHandlerClass = Handler
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield stub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()

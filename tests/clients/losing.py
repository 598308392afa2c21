"""A way to the gateway on which answers get lost: requests arrive, what is answered does not."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import httpx

if TYPE_CHECKING:
    from collections.abc import Generator

_HOP = {"connection", "host", "transfer-encoding", "content-length"}


class Way:
    """How many answers are still to be lost, and how many requests went through."""

    def __init__(self, url: str, target: str) -> None:
        self.url = url
        self.target = target
        self.to_lose = 0
        self.arrived = 0


@contextmanager
def losing_way(target: str) -> Generator[Way]:
    """A proxy on this machine; set ``to_lose`` to lose answers."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.daemon_threads = True
    way = Way(f"http://127.0.0.1:{server.server_address[1]}", target)
    server.way = way  # type: ignore[attr-defined]  # for the handler, which sees nothing else
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield way
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    """Passes one request on."""

    def do_POST(self) -> None:
        """The request arrives in any case; its answer only if none is to be lost."""
        way: Way = self.server.way  # type: ignore[attr-defined]  # set above
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        headers = {name: value for name, value in self.headers.items() if name.lower() not in _HOP}
        answer = httpx.post(way.target + self.path, content=body, headers=headers, timeout=30)
        way.arrived += 1
        self.close_connection = True
        if way.to_lose > 0:
            way.to_lose -= 1
            return
        self.send_response(answer.status_code)
        self.send_header("content-type", answer.headers.get("content-type", "text/plain"))
        self.send_header("content-length", str(len(answer.content)))
        self.end_headers()
        self.wfile.write(answer.content)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002, ANN401 - its parent's
        """Nothing is told."""

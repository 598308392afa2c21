"""A way to the gateway that sees all requests, and on which answers can get lost."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Final

import httpx

if TYPE_CHECKING:
    from collections.abc import Generator

MARK: Final = "/mark"
"""A path that goes no further: whoever asks it divides what it did before from what comes."""
_HOP = {"connection", "host", "transfer-encoding", "content-length"}


class Way:
    """Which requests went through, and how many answers are still to be lost."""

    def __init__(self, url: str, target: str) -> None:
        self.url = url
        self.target = target
        self.to_lose = 0
        self.seen: list[str] = []
        """``METHOD /path`` of each request, without its question; `MARK` stands among them."""

    @property
    def arrived(self) -> int:
        """How many requests went through."""
        return len(self.seen) - self.seen.count(MARK)

    def parts(self) -> list[list[str]]:
        """The requests before each mark, and those after the last."""
        parts: list[list[str]] = [[]]
        for request in self.seen:
            if request == MARK:
                parts.append([])
            else:
                parts[-1].append(request)
        return parts


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

    def _pass(self) -> None:
        """The request arrives in any case; its answer only if none is to be lost."""
        way: Way = self.server.way  # type: ignore[attr-defined]  # set above
        self.close_connection = True
        if self.path == MARK:
            way.seen.append(MARK)
            self._answer(204, "text/plain", b"")
            return
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        headers = {name: value for name, value in self.headers.items() if name.lower() not in _HOP}
        answer = httpx.request(
            self.command, way.target + self.path, content=body, headers=headers, timeout=30
        )
        way.seen.append(f"{self.command} {self.path.partition('?')[0]}")
        if way.to_lose > 0:
            way.to_lose -= 1
            return
        kind = answer.headers.get("content-type", "text/plain")
        self._answer(answer.status_code, kind, answer.content)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _pass  # noqa: N815 - its parent's names

    def _answer(self, status: int, kind: str, content: bytes) -> None:
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002, ANN401 - its parent's
        """Nothing is told."""

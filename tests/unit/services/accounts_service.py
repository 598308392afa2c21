"""A service with accounts on a real socket that answers, hangs, talks nonsense, or is not there."""

from __future__ import annotations

import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Final

from meterstream_services.accounts.bounded import BoundedDirectory
from meterstream_services.accounts.cached import CachedDirectory, Caching
from meterstream_services.accounts.remote import RemoteDirectory

if TYPE_CHECKING:
    from collections.abc import Generator

FAULTS: Final = ("refused", "hangs", "garbage", "cut", "error")
"""Nobody listens; no answer comes; a page; a connection that ends; 500."""

ACCOUNT: Final = {
    "id": "a",
    "name": "A",
    "zone": "UTC",
    "billing_anchor": 1,
    "labels": {},
    "status": "active",
}


class Service:
    """Every tenant belongs to the account ``a``, once there is no ``fault``."""

    def __init__(self, fault: str | None) -> None:
        self.fault = fault
        self.asked = 0
        self._healed = threading.Event()
        service = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                service.asked += 1
                body = self.rfile.read(int(self.headers.get("content-length", "0")))
                service.answer(self, body)

            def do_POST(self) -> None:
                self.do_GET()

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name there
                """Silence."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler, bind_and_activate=False)
        self._server.daemon_threads = True
        self._server.server_bind()  # The port is ours; whoever connects is refused as yet.
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread: threading.Thread | None = None
        if fault != "refused":
            self._listen()

    def break_(self, fault: str) -> None:
        """From now on it fails that way."""
        self._healed.clear()
        self.fault = fault

    def heal(self) -> None:
        """From now on it answers; who hangs is let go."""
        if self._thread is None:
            self._listen()
        self.fault = None
        self._healed.set()

    def close(self) -> None:
        """Nobody listens any more."""
        self._healed.set()
        if self._thread is not None:
            self._server.shutdown()
            self._thread.join()
        self._server.server_close()

    def answer(self, handler: BaseHTTPRequestHandler, body: bytes) -> None:
        """Whatever is to be answered now."""
        fault = self.fault
        if fault == "hangs":
            self._healed.wait(60)
        if fault in {"hangs", "cut"}:
            handler.close_connection = True
            return
        content = b"<html>hello</html>" if fault else json.dumps(_told(handler.path, body)).encode()
        handler.send_response(500 if fault == "error" else 200)
        handler.send_header("content-length", str(len(content)))
        handler.end_headers()
        handler.wfile.write(content)

    def _listen(self) -> None:
        self._server.server_activate()
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True
        )
        self._thread.start()


def _told(path: str, body: bytes) -> object:
    if path == "/v1/lookup":
        history = [{"account": "a", "from": None}]
        return {
            "tenants": [
                {"tenant": each, "history": history} for each in json.loads(body)["tenants"]
            ]
        }
    if path.startswith("/v1/accounts/a/tenants"):
        return {"tenants": ["t0", "t1", "t2"]}
    return ACCOUNT if path == "/v1/accounts/a" else {"accounts": [ACCOUNT]}


@contextmanager
def service_and_directory(fault: str | None) -> Generator[tuple[Service, CachedDirectory]]:
    """A service, and the directory that a process makes of it, but that it waits less."""
    service = Service(fault)
    bounded = BoundedDirectory(RemoteDirectory(service.url, key=""), seconds=0.5)
    directory = CachedDirectory(bounded, Caching(retry_seconds=0.05))
    try:
        yield service, directory
    finally:
        directory.close()
        service.close()

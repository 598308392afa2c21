"""Metrics and health of a worker over HTTP: ``/metrics``, ``/health/live``, ``/health/ready``."""

from __future__ import annotations

import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from meterstream_consumers.errors import ConsumersError


class MetricsServer:
    """A small HTTP server in a daemon thread; ``close`` stops it."""

    def __init__(self, server: ThreadingHTTPServer | None) -> None:
        self._server = server
        if server is not None:
            threading.Thread(target=server.serve_forever, name="metrics", daemon=True).start()

    @classmethod
    def start(
        cls, address: str | None, registry: CollectorRegistry, why_not: Callable[[], str | None]
    ) -> MetricsServer:
        """Serve on ``host:port``; nothing for None. ``why_not`` says what readiness lacks."""
        if address is None:
            return cls(None)
        host, _, port = address.rpartition(":")
        try:
            return cls(ThreadingHTTPServer((host, int(port)), _handler(registry, why_not)))
        except (OSError, ValueError) as problem:
            raise ConsumersError(
                f"metrics cannot be served on {address!r} ({problem}); name a free HOST:PORT"
            ) from problem

    def close(self) -> None:
        """Stop serving."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()


def _handler(
    registry: CollectorRegistry, why_not: Callable[[], str | None]
) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == "/metrics":
                self._answer(200, CONTENT_TYPE_LATEST, generate_latest(registry))
            elif self.path == "/health/live":
                self._answer(200, "text/plain", b"live\n")
            elif self.path == "/health/ready":
                reason = why_not()
                self._answer(
                    503 if reason else 200, "text/plain", f"{reason or 'ready'}\n".encode()
                )
            else:
                self._answer(404, "text/plain", b"/metrics /health/live /health/ready\n")

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name there
            """Scrapes are not worth a line each."""

        def _answer(self, status: int, kind: str, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    return Handler

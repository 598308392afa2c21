"""Metrics and health of a process over HTTP: ``/metrics``, ``/livez``, ``/readyz``.

``/readyz`` answers 503 with the reason while there is one, as text or, to ``Accept:
application/json``, as JSON. ``/livez`` answers 503 only when starting the process again is what
helps. ``/health/live`` and ``/health/ready`` are the same under the names that `serve` uses.

There are no keys here, so nothing that is told may concern a tenant: metrics have no such labels,
and reasons name parts, addresses and partitions. The default is to listen nowhere.
"""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Final

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from meterstream_consumers.errors import ConsumersError

_REQUEST_SECONDS: Final = 10.0
"""What a client may take for its request: one that says nothing must not keep a thread."""
_PATHS: Final = b"/metrics /livez /readyz\n"

Reason = Callable[[], str | None]
"""Asked at each request, from another thread: one sentence, or None when all is well."""


class MetricsServer:
    """A small HTTP server in a daemon thread; ``close`` stops it."""

    def __init__(self, server: ThreadingHTTPServer | None) -> None:
        self._server = server
        if server is not None:
            threading.Thread(target=server.serve_forever, name="metrics", daemon=True).start()

    @classmethod
    def start(
        cls,
        address: str | None,
        registry: CollectorRegistry,
        why_not: Reason,
        *,
        stuck: Reason = lambda: None,
    ) -> MetricsServer:
        """Serve on ``host:port``; nothing for None. Raises `ConsumersError` for no such address.

        ``why_not`` says what readiness lacks, ``stuck`` why the process should be started again.
        """
        if address is None:
            return cls(None)
        host, _, port = address.rpartition(":")
        host = host.removeprefix("[").removesuffix("]")
        kind = _ServerOverSix if ":" in host else _Server
        try:
            return cls(kind((host, int(port)), _handler(registry, why_not, stuck)))
        except (OSError, ValueError, OverflowError) as problem:
            raise ConsumersError(
                f"metrics cannot be served on {address!r} ({problem}); name a free HOST:PORT"
            ) from problem

    def close(self) -> None:
        """Stop serving."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()


class _Server(ThreadingHTTPServer):
    """As the original, but what a client breaks off is no news."""

    def handle_error(self, request: object, client_address: object) -> None:
        """A scrape that was given up; the next one comes."""


class _ServerOverSix(_Server):
    address_family = socket.AF_INET6


def _handler(
    registry: CollectorRegistry, why_not: Reason, stuck: Reason
) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = _REQUEST_SECONDS

        def do_GET(self) -> None:
            match self.path.partition("?")[0]:
                case "/metrics":
                    self._answer(200, CONTENT_TYPE_LATEST, generate_latest(registry))
                case "/livez" | "/health/live":
                    self._judge("live", stuck())
                case "/readyz" | "/health/ready":
                    self._judge("ready", why_not())
                case _:
                    self._answer(404, "text/plain; charset=utf-8", _PATHS)

        def do_HEAD(self) -> None:
            self.do_GET()

        def version_string(self) -> str:
            """The header ``Server``: nobody needs to know which Python this is."""
            return "meterstream"

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name there
            """Scrapes are not worth a line each."""

        def _judge(self, what: str, reason: str | None) -> None:
            status = 503 if reason else 200
            if "application/json" in self.headers.get("Accept", ""):
                told = {"status": f"not {what}" if reason else what, "reason": reason}
                self._answer(status, "application/json", json.dumps(told).encode() + b"\n")
            else:
                text = f"{reason or what}\n".encode()
                self._answer(status, "text/plain; charset=utf-8", text)

        def _answer(self, status: int, kind: str, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Cache-Control", "no-store")
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

    return Handler

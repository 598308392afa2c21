"""A stand-in for the servers of four published metering clients: takes everything, counts it.

Run as ``python -m benchmarks.standin``; prints its two ports (HTTP, Unimeter's TCP) in a line and
serves until its standard input ends. ``GET /counted`` tells how many events arrived over HTTP.
"""

from __future__ import annotations

import json
import socketserver
import struct
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

_REQUEST: Final = struct.Struct("<IBBHII")
_RESPONSE: Final = struct.Struct("<B3xII")
_PARTITION_MAP, _MAP_ROWS = 0x10, 256


class _Web(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    counted = 0
    _guard = threading.Lock()

    def do_GET(self) -> None:
        if self.path == "/counted":
            self._answer(200, {"counted": type(self).counted})
        else:  # meter-lib asks which customer a tenant is.
            self._answer(200, [{"id": "customer"}])

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        count = len(body.get("events", body.get("records", [body])))
        with self._guard:
            type(self).counted += count
        if self.path.startswith("/topics/"):
            self._answer(200, {"offsets": [{"partition": 0, "offset": 1}]})
        elif "meter-events" in self.path:
            self._answer(201, {**body, "id": "1"})
        else:
            self._answer(200, {})

    def log_message(self, *_: object) -> None:
        """Say nothing of single requests."""

    def _answer(self, status: int, body: Any) -> None:  # noqa: ANN401 - any JSON
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


class _Unimeter(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        port: int = self.connection.getsockname()[1]
        place = f"127.0.0.1:{port}".encode()
        rows = place.ljust(96, b"\0") * _MAP_ROWS
        while head := self.rfile.read(_REQUEST.size):
            _, _, kind, _, size, request = _REQUEST.unpack(head)
            payload = self.rfile.read(size)
            if kind == _PARTITION_MAP:
                answer = rows
            else:
                answer = struct.pack("<IIQ", int.from_bytes(payload[:4], "little"), 0, 1)
            self.wfile.write(_RESPONSE.pack(0, request, len(answer)) + answer)


def main() -> None:
    """Serve both until nobody listens any more."""
    web = ThreadingHTTPServer(("127.0.0.1", 0), _Web)
    tcp = socketserver.ThreadingTCPServer(("127.0.0.1", 0), _Unimeter)
    tcp.daemon_threads = True
    for server in (web, tcp):
        threading.Thread(target=server.serve_forever, daemon=True).start()
    print(web.server_address[1], tcp.server_address[1], flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()

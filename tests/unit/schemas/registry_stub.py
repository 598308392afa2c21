"""The few calls of a schema registry that matter here, over real HTTP, in memory."""

from __future__ import annotations

import json
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Generator


@dataclass
class Registry:
    """What the registry holds: subject -> texts by id. ``asked`` lists the paths it was asked."""

    url: str
    subjects: dict[str, dict[int, str]] = field(default_factory=dict[str, dict[int, str]])
    asked: list[str] = field(default_factory=list[str])
    types: dict[int, str] = field(default_factory=dict[int, str])
    failing_with: int | None = None
    read_only: bool = False

    def answer(self, method: str, path: str, body: bytes) -> tuple[int, object]:
        """Status and JSON of one request."""
        self.asked.append(f"{method} {path}")
        if self.failing_with is not None:
            return self.failing_with, {"error_code": 50001, "message": "down"}
        parts = path.partition("?")[0].strip("/").split("/")
        if parts[:2] == ["schemas", "ids"]:
            return self._by_id(int(parts[2]), versions=parts[-1] == "versions")
        known = self.subjects.get(parts[1], {})
        text = json.loads(body)["schema"]
        for schema_id, registered in known.items():
            if json.loads(registered) == json.loads(text):
                return 200, {"id": schema_id, "subject": parts[1], "version": 1, "schema": text}
        if parts[-1] != "versions":
            return 404, {"error_code": 40403, "message": "Schema not found"}
        if self.read_only:
            return 403, {"error_code": 40301, "message": "Forbidden"}
        schema_id = 100 + len(known)
        self.subjects.setdefault(parts[1], {})[schema_id] = text
        return 200, {"id": schema_id}

    def _by_id(self, schema_id: int, *, versions: bool) -> tuple[int, object]:
        holders = [name for name, known in self.subjects.items() if schema_id in known]
        if not holders:
            return 404, {"error_code": 40403, "message": "Schema not found"}
        if versions:
            return 200, [{"subject": name, "version": 1} for name in holders]
        answer = {"schema": self.subjects[holders[0]][schema_id]}
        if schema_id in self.types:
            answer["schemaType"] = self.types[schema_id]
        return 200, answer


@contextmanager
def running_registry() -> Generator[Registry]:
    """A registry on a free port of this machine."""

    class Handler(BaseHTTPRequestHandler):
        def _reply(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            status, answer = registry.answer(self.command, self.path, body)
            data = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = _reply  # noqa: N815 - the names http.server looks for

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name there
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    registry = Registry(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield registry
    finally:
        server.shutdown()
        server.server_close()
        thread.join()

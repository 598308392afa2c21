"""``meterstream serve`` as a process of its own, over a directory, and a client that insists."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Self

import httpx

from tests.unit.consumers.test_metrics import free_port
from tests.waiting import eventually

if TYPE_CHECKING:
    from pathlib import Path

KEPT = frozenset({"accepted", "duplicate", "spooled"})


class Serve:
    """One gateway at one address: started, killed and started again over the same spool."""

    def __init__(self, directory: Path, bootstrap_servers: str, topic: str, *options: str) -> None:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        self.output = directory / "serve.out"
        told = {
            "--http": f"127.0.0.1:{port}",
            "--bootstrap": bootstrap_servers,
            "--topic": topic,
            "--store": str(directory / "store.sqlite3"),
            "--accounts": str(directory / "accounts.sqlite3"),
            "--spool": str(directory / "spool"),
        }
        self._command = [sys.executable, "-m", "meterstream_services.cli.main", "serve"]
        self._command += [part for pair in told.items() for part in pair] + list(options)
        self._process: subprocess.Popen[bytes] | None = None
        self._client = httpx.Client(base_url=self.url, timeout=30)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()
        self.stop()

    def start(self) -> None:
        """Start it and wait until it answers."""
        clean = {
            name: os.environ[name] for name in os.environ if not name.startswith("METERSTREAM")
        }
        with self.output.open("ab") as output:
            self._process = subprocess.Popen(self._command, stdout=output, stderr=output, env=clean)
        eventually(self._answers, timeout_seconds=60)

    def kill(self) -> None:
        """SIGKILL."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        """SIGTERM, and a clean end."""
        process, self._process = self._process, None
        if process is None or process.poll() is not None:
            return
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise AssertionError(self.output.read_text("utf-8", "replace")) from None
        assert process.returncode == 0, self.output.read_text("utf-8", "replace")

    def takes_events(self) -> bool:
        """What /health/ready says of the door."""
        answer = self._client.get("/health/ready")
        told = str(answer.json()["checks"]["door"])
        assert told == "ready" or answer.status_code == 503
        return told == "ready"

    def metric(self, name: str) -> float:
        """The value of a gauge without labels."""
        text = self._client.get("/metrics").text
        [line] = [line for line in text.splitlines() if line.startswith(f"{name} ")]
        return float(line.partition(" ")[2])

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self.output.read_text("utf-8", "replace")
        with suppress(httpx.HTTPError):
            return self._client.get("/health/live").status_code == 200
        return False


def insist(client: httpx.Client, url: str, events: list[dict[str, Any]], *, seconds: float) -> int:
    """Send a batch until every event of it is kept; how often something was sent again.

    Each event needs a key and a time. What is refused fails the test.
    """
    left, again, deadline = events, 0, time.monotonic() + seconds
    while True:
        results = _results(client, url, left)
        if results is not None:
            refused = [row for row in results if row["status"] not in KEPT | {"unavailable"}]
            assert not refused, refused[:3]
            left = [
                event for event, row in zip(left, results, strict=True) if row["status"] not in KEPT
            ]
        if not left:
            return again
        assert time.monotonic() < deadline, f"{len(left)} events were not taken"
        again += len(left)
        time.sleep(0.05)


def _results(
    client: httpx.Client, url: str, events: list[dict[str, Any]]
) -> list[dict[str, Any]] | None:
    """What became of each; None where that is not known."""
    try:
        answer = client.post(f"{url}/v1/events", json={"events": events}, timeout=30)
    except httpx.HTTPError:
        return None
    if answer.status_code == 503:
        assert int(answer.headers["retry-after"]) >= 1
        return None
    assert answer.status_code == 200, answer.text[:500]
    results: list[dict[str, Any]] = answer.json()["results"]
    return results

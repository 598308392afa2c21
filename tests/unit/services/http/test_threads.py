"""Slow questions: they hold up neither events nor what is asked of the process's health."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

import httpx

from meterstream_services.clients.eventlog import Listed
from meterstream_services.gateway.memory import MemoryDoor
from meterstream_services.http.app import create_app
from meterstream_services.http.settings import Settings

if TYPE_CHECKING:
    from pathlib import Path

THREADS = 40
"""So many questions are answered at once."""


class StuckLog:
    """An `EventLog` that answers when it is let go."""

    def __init__(self) -> None:
        self.asked = threading.Semaphore(0)
        self.go = threading.Event()

    def events(self, *_: Any, **__: Any) -> list[Listed]:  # noqa: ANN401 - of the port
        """See `EventLog`."""
        self.asked.release()
        assert self.go.wait(30)
        return []


def test_slow_questions_hold_up_nothing_else(tmp_path: Path) -> None:
    """With every thread for questions taken, events are taken and health is told."""
    log = StuckLog()
    app = create_app(Settings(tmp_path / "s", tmp_path / "a"), door=MemoryDoor(), log=log)

    async def ask() -> list[int]:
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            url = "/v1/events?customerRef=a"
            questions = [asyncio.create_task(client.get(url)) for _ in range(THREADS + 5)]
            try:
                for _ in range(THREADS):
                    await asyncio.to_thread(log.asked.acquire, timeout=10)
                async with asyncio.timeout(10):
                    answers = [
                        await client.get("/health/live"),
                        await client.get("/health/ready"),
                        await client.post("/v1/records", headers={"content-type": "text/plain"}),
                        await client.post("/v1/events/ingest", json={"events": []}),
                        await client.post("/api/meter/event", json={"project_id": "p"}),
                    ]
            finally:
                log.go.set()
            return [each.status_code for each in [*answers, *await asyncio.gather(*questions)]]

    live, ready, records, ingest, event, *questions = asyncio.run(ask())

    assert (live, records, questions) == (200, 415, [200] * (THREADS + 5))
    assert ready in {200, 503}  # There is no store.
    assert ingest == 400
    assert event < 500

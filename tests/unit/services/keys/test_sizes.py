"""How many bytes a key may send: of one body, and by the second, through the whole application."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from meterstream_aggregator.store.memory import MemoryStore
from meterstream_services.accounts.memory import MemoryDirectory
from meterstream_services.clients.book import MemoryBook
from meterstream_services.gateway.memory import MemoryDoor
from meterstream_services.http.app import create_app
from meterstream_services.http.rates import Rates
from meterstream_services.http.settings import Settings
from meterstream_services.keys.principal import Principal, Rate
from tests.unit.services.keys.making import Clock, Keyed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

EVENT = {"type": "call", "tenant": "acme", "quantity": 1}
REFUSED = "meterstream_climeter_events_refused_total"


class Gate:
    """The application with one key of a rate."""

    def __init__(self, rate: Rate) -> None:
        self.keyed = Keyed()
        self.text = self.keyed.make("ingest", tenants=["acme"], rate=rate)
        self.door = MemoryDoor()
        self.app = create_app(
            Settings(Path(), Path()),
            open_store=MemoryStore,
            directory=MemoryDirectory(),
            door=self.door,
            book=MemoryBook(),
            keys=self.keyed.keys,
        )

    def send(self, body: bytes, *, told: bool = True, path: str = "/v1/events") -> httpx.Response:
        """One body, with or without its length said."""

        async def pieces() -> AsyncIterator[bytes]:
            for at in range(0, len(body), 64):
                yield body[at : at + 64]

        async def ask() -> httpx.Response:
            transport = httpx.ASGITransport(app=self.app)
            async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as to:
                headers = {"authorization": f"Bearer {self.text}"}
                headers["content-type"] = "application/json"
                content: Any = body if told else pieces()
                return await to.post(path, content=content, headers=headers)

        return asyncio.run(ask())


def batch(events: int) -> bytes:
    """A body of so many events."""
    return json.dumps({"events": [EVENT] * events}).encode()


@pytest.mark.parametrize("told", [True, False])
def test_a_body_beyond_a_keys_bound(told: bool) -> None:
    """Refused whole, whether its length was said or found out; a smaller one is taken."""
    gate = Gate(Rate(body_bytes_max=len(batch(3))))

    assert gate.send(batch(4), told=told).status_code == 413
    assert gate.door.taken == []
    assert gate.send(batch(3), told=told).status_code == 200
    assert len(gate.door.taken) == 3


@pytest.mark.parametrize("told", [True, False])
def test_climeter_keeps_what_is_too_large(told: bool) -> None:
    """Its client throws away what is 413, and keeps what is 503; it reads none: it is counted."""
    gate = Gate(Rate(body_bytes_max=100))
    count = gate.app.state.parts.metrics.registry.get_sample_value

    answer = gate.send(b"x" * 101, told=told, path="/v1/events/batch")
    assert answer.status_code == 503
    assert answer.json()["error"] == "service_unavailable"
    assert count(REFUSED) == 1
    assert gate.send(b"x" * 101, told=told).status_code == 413
    assert gate.send(b'{"events": []}', told=told, path="/v1/events/batch").status_code == 200
    assert count(REFUSED) == 1


@pytest.mark.parametrize("told", [True, False])
def test_bytes_by_the_second(told: bool) -> None:
    """What is beyond two seconds' worth waits until it is paid off; 429 says for how long."""
    gate = Gate(Rate(bytes_per_second=1))

    answers = [gate.send(batch(2), told=told) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 429, 429]
    assert 10 < int(answers[1].headers["retry-after"]) <= len(batch(2))
    assert len(gate.door.taken) == 2


def test_a_debt_of_bytes_is_paid_off() -> None:
    """What was read already is charged in any case, and the next waits for all of it."""
    clock = Clock()
    rates, who = Rates(clock), Principal("k", frozenset(), None, rate=Rate(bytes_per_second=100))

    assert rates.of_bytes(who, 250) is None
    assert rates.of_bytes(who, 1) == pytest.approx(0.5)
    assert rates.of_bytes(who, 50, in_debt=True) is None
    assert rates.of_bytes(who, 1) == pytest.approx(1.0)
    clock.seconds += 1.01
    assert rates.of_bytes(who, 1) is None
    assert rates.of_bytes(Principal("k", frozenset(), None), 10**9) is None


def test_other_keys_pay_for_no_bytes() -> None:
    """Without such a limit bytes are not counted."""
    gate = Gate(Rate(1_000, 1_000_000))
    assert {gate.send(batch(900)).status_code for _ in range(5)} == {200}

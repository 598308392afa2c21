"""Calls that killed processes left open are ended while the application runs, unasked."""

from __future__ import annotations

import asyncio
import logging
from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest

from meterstream_services.clients.book import BookUnavailable
from meterstream_services.clients.climeter import sweeping
from meterstream_services.clients.climeter.consumer import sweep
from meterstream_services.clients.climeter.wallets import WALLET
from tests.unit.services.clients.world import SOMEBODY, ClientWorld
from tests.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

TENANT = f"climeter-{SOMEBODY.digest}"
WALLET_PATH = f"/v1/clients/climeter/wallets/{TENANT}"


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ClientWorld:
    """A wallet of 1.00, from which a killed process took 0.40 two minutes ago; sweeps in a row."""
    made = ClientWorld("climeter", tmp_path)
    made.send("PUT", "/v1/clients/climeter/tools/ocr", json={"price": "0.40"})
    made.send("PUT", WALLET_PATH, json={"balance": "1.00"})

    async def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(made.door, "take", killed)
        with pytest.raises(KeyboardInterrupt):
            made.post("/v1/consumer/call", {"tool_id": "ocr"})
    made.time += timedelta(minutes=2)
    monkeypatch.setattr(sweeping, "SWEEP_SECONDS", 0.001)
    monkeypatch.setattr(sweeping, "SHARE", 0)
    return made


def _until(world: ClientWorld, is_so: Callable[[], bool]) -> None:
    """Let the application run until something is so, and end it."""

    async def running() -> None:
        async with world.app.router.lifespan_context(world.app):
            await asyncio.to_thread(eventually, is_so, timeout_seconds=30)

    asyncio.run(running())


def _open_calls(world: ClientWorld) -> int:
    [(_, _, wallet)] = world.book.all(None, WALLET, after="", limit=10)
    return len(wallet.get("open", {}))


def test_a_call_is_metered_although_nobody_asks(world: ClientWorld) -> None:
    """The charge stands before and after: it is no hold that expires."""
    before = world.get("/v1/consumer/balance").json()["balance"]
    assert (before, _open_calls(world), world.door.taken) == (0.6, 1, [])

    _until(world, lambda: _open_calls(world) == 0)

    [offer] = world.door.taken
    assert (offer.tenant, (offer.attributes or {})["tool"]) == (TENANT, "ocr")
    assert world.get(WALLET_PATH).json()["balance"] == "0.6"


def test_a_book_that_is_away_is_asked_again(
    world: ClientWorld, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is said in the log, and the next sweep goes on."""
    every, times = world.book.all, list[int]()

    def flaky(*arguments: object, **named: object) -> object:
        times.append(1)
        if len(times) < 3:
            raise BookUnavailable("away")
        return every(*arguments, **named)  # type: ignore[arg-type]  # as it was called

    monkeypatch.setattr(world.book, "all", flaky)
    with caplog.at_level(logging.WARNING, "meterstream.http"):
        _until(world, lambda: bool(world.door.taken))

    assert caplog.text.count("open CLIMeter calls are not settled: away") == 2
    assert Decimal(str(world.get("/v1/consumer/balance").json()["balance"])) == Decimal("0.6")


def test_a_sweep_ends_with_the_application(
    world: ClientWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It begins no further wallet then, and one under way is finished."""
    left = world.book.get(f"tenant:{TENANT}", WALLET, TENANT)
    for name in "abc":
        world.book.change(f"tenant:{name}", WALLET, name, lambda _: left)
    ended = asyncio.Event()
    take = world.door.take

    async def slow(*arguments: object) -> object:
        ended.set()
        return await take(*arguments)  # type: ignore[arg-type]  # as it was called

    monkeypatch.setattr(world.door, "take", slow)

    asyncio.run(sweep(world.app.state.parts, ended))

    assert len(world.door.taken) == 1

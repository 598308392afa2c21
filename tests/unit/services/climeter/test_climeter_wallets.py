"""Calls that are paid before they are made: charged and metered, or neither."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from meterstream_schemas.events import EventKind
from meterstream_services.clients.book import BookUnavailable
from meterstream_services.clients.climeter.consumer import sweep
from meterstream_services.gateway.port import Fate, Patience, Ruling
from meterstream_services.keys.principal import Scope
from tests.unit.services.clients.world import SOMEBODY, ClientWorld, bound_to

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from meterstream_services.clients.book import Content
    from meterstream_services.gateway.port import Offer

TENANT = f"climeter-{SOMEBODY.digest}"
TOOL = "3fa85f64-5717-4562-b3fc-2c963f66afa6"
OPERATED = "/v1/clients/climeter"


@pytest.fixture
def world(tmp_path: Path) -> ClientWorld:
    """A tool of 0.40 with one free call, and a wallet of 1.00."""
    made = ClientWorld("climeter", tmp_path)
    price = {"price": "0.40", "free_calls": 1, "checkout_url": "https://pay.example/top-up"}
    assert made.send("PUT", f"{OPERATED}/tools/{TOOL}", json=price).status_code == 200
    wallet = {"balance": "1.00"}
    assert made.send("PUT", f"{OPERATED}/wallets/{TENANT}", json=wallet).status_code == 200
    return made


def _call(world: ClientWorld, **metadata: Any) -> tuple[int, dict[str, Any]]:  # noqa: ANN401 - any JSON value
    body = {"tool_id": TOOL, "event_name": "call", "metadata": metadata}
    answer = world.post("/v1/consumer/call", body)
    return answer.status_code, json.loads(answer.text, parse_float=Decimal)


def _balance(world: ClientWorld) -> Decimal:
    answer = world.get("/v1/consumer/balance", params={"tool": TOOL})
    return Decimal(json.loads(answer.text, parse_float=Decimal)["balance"])


def _metered(world: ClientWorld) -> int:
    """How many calls count in the end: those taken, less those taken back."""
    by_key: dict[str | None, set[EventKind]] = {}
    for offer in world.door.taken:
        by_key.setdefault(offer.key, set()).add(offer.kind)
    return sum(EventKind.VOID not in kinds for kinds in by_key.values())


def _later(world: ClientWorld) -> None:
    """A while later somebody sweeps."""
    world.time += timedelta(minutes=2)
    asyncio.run(sweep(world.app.state.parts))


def test_free_calls_come_first_then_the_price_then_402(world: ClientWorld) -> None:
    """Amounts are exact; what is refused is neither charged nor metered."""
    answers = [_call(world) for _ in range(4)]

    assert [status for status, _ in answers] == [200, 200, 200, 402]
    assert [answer["cost"] for _, answer in answers[:3]] == [0, Decimal("0.4"), Decimal("0.4")]
    assert answers[2][1] == {
        "success": True,
        "balance_remaining": Decimal("0.2"),
        "calls_remaining": 0,
        "free_calls_remaining": 0,
        "cost": Decimal("0.4"),
    }
    assert answers[3][1] == {
        "error": "insufficient_balance",
        "message": "the wallet holds 0.2 and the call costs 0.4",
        "checkout_url": "https://pay.example/top-up",
        "balance": Decimal("0.2"),
        "cost": Decimal("0.4"),
    }
    assert len(world.door.taken) == 3
    offer = world.door.taken[0]
    assert offer.tenant == TENANT
    assert offer.attributes == {"tool": TOOL, "command": "call", "status": "success"}


def test_the_balance_is_what_calls_left(world: ClientWorld) -> None:
    """With what it covers of the tool that is asked for."""
    before = world.get("/v1/consumer/balance", params={"tool": TOOL}).json()
    _call(world)
    _call(world)
    after = world.get("/v1/consumer/balance", params={"tool": TOOL}).json()

    assert before == {
        "tool": TOOL,
        "balance": 1,
        "calls_remaining": 2,
        "free_calls_remaining": 1,
    }
    assert (after["balance"], after["calls_remaining"], after["free_calls_remaining"]) == (
        0.6,
        1,
        0,
    )
    assert world.get("/v1/consumer/balance").json()["calls_remaining"] is None


def test_a_tool_without_a_price_costs_nothing(world: ClientWorld) -> None:
    """And its calls are metered."""
    answer = world.post("/v1/consumer/call", {"tool_id": "unknown"})

    assert (answer.status_code, answer.json()["cost"]) == (200, 0)
    assert answer.json()["calls_remaining"] is None
    assert _metered(world) == 1


def test_a_call_under_a_key_is_charged_once(world: ClientWorld) -> None:
    """A client that heard nothing makes it again; the answer is the same."""
    _call(world)

    first, again = _call(world, idempotency_key="k"), _call(world, idempotency_key="k")

    assert first == again
    assert _balance(world) == Decimal("0.6")
    assert _metered(world) == 2


def test_an_event_that_is_refused_costs_nothing(
    world: ClientWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """422, the price and the free call are back, and nothing stays open."""

    async def refuse(_offers: Sequence[Offer], _patience: Patience) -> list[Fate]:
        return [Fate(Ruling.REFUSED, field="attributes", reason="are too much")]

    monkeypatch.setattr(world.door, "take", refuse)

    assert _call(world)[0] == 422
    wallet = world.get(f"{OPERATED}/wallets/{TENANT}").json()
    assert wallet == {
        "tenant": TENANT,
        "balance": "1",
        "free_calls_used": {TOOL: 0},
        "open_calls": 0,
    }


def test_while_the_log_is_away_a_call_is_neither_charged_nor_metered(world: ClientWorld) -> None:
    """503; the event is taken back later, should it have come through after all."""
    _call(world)
    world.door.away = True

    answer = _call(world, idempotency_key="k")

    assert (answer[0], _balance(world)) == (503, Decimal(1))
    world.door.away = False
    assert _call(world, idempotency_key="k")[0] == 200
    _later(world)
    voids = [offer for offer in world.door.taken if offer.kind is EventKind.VOID]
    assert len(voids) == 1
    assert (_metered(world), _balance(world)) == (2, Decimal("0.6"))
    assert world.get(f"{OPERATED}/wallets/{TENANT}").json()["open_calls"] == 0


@pytest.mark.parametrize("has_event", [True, False])
def test_a_call_whose_process_was_killed_is_charged_and_metered_once(
    world: ClientWorld, monkeypatch: pytest.MonkeyPatch, *, has_event: bool
) -> None:
    """Between charge and event, and between event and settlement: the next sweep ends it."""
    _call(world)
    take = world.door.take

    async def killed(offers: Sequence[Offer], patience: Patience = Patience.LOG) -> list[Fate]:
        if has_event:
            await take(offers, patience)
        raise KeyboardInterrupt

    monkeypatch.setattr(world.door, "take", killed)
    with pytest.raises(KeyboardInterrupt):
        _call(world)
    monkeypatch.setattr(world.door, "take", take)
    assert world.get(f"{OPERATED}/wallets/{TENANT}").json()["open_calls"] == 1
    asyncio.run(sweep(world.app.state.parts))
    assert world.get(f"{OPERATED}/wallets/{TENANT}").json()["open_calls"] == 1

    _later(world)
    _later(world)

    assert (_metered(world), _balance(world)) == (2, Decimal("0.6"))
    assert world.get(f"{OPERATED}/wallets/{TENANT}").json()["open_calls"] == 0


def test_a_book_that_goes_away_after_the_event_makes_no_failure(
    world: ClientWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The call is charged and metered; it is settled when the book is back."""
    change = world.book.change
    calls: list[str] = []

    def flaky(
        owner: str, kind: str, name: str, what: Callable[[Content | None], Content | None]
    ) -> Content | None:
        calls.append(kind)
        if len(calls) == 2:
            raise BookUnavailable("away")
        return change(owner, kind, name, what)

    monkeypatch.setattr(world.book, "change", flaky)

    assert _call(world)[0] == 200
    _later(world)
    assert world.get(f"{OPERATED}/wallets/{TENANT}").json()["open_calls"] == 0
    assert _metered(world) == 1


def test_calls_under_way_are_bounded(world: ClientWorld) -> None:
    """A wallet whose calls do not settle takes no more of them for a while."""
    world.door.away = True
    for _ in range(16):
        assert _call(world)[0] == 503
    world.door.away = False

    status, answer = _call(world)

    assert (status, answer["message"]) == (
        503,
        "calls of this wallet are not settled yet; try again",
    )
    _later(world)
    assert _call(world)[0] == 200


def test_topups_count_once_by_their_id(world: ClientWorld) -> None:
    """A payment that is told twice is one."""
    for topup, amount in (("p-1", "0.50"), ("p-1", "0.50"), ("p-2", 1.25)):
        body = {"id": topup, "amount": amount}
        answer = world.post(f"{OPERATED}/wallets/{TENANT}/topups", body)
        assert answer.status_code == 200

    assert answer.json()["balance"] == "2.75"
    assert _balance(world) == Decimal("2.75")


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("PUT", "/tools/t", {"price": -1}),
        ("PUT", "/tools/t", {"price": "1e999999"}),
        ("PUT", "/tools/t", {"free_calls": "3"}),
        ("PUT", "/tools/t", {"checkout_url": 1}),
        ("PUT", "/tools/t", {"Price": 1}),
        ("PUT", f"/tools/{'t' * 129}", {"price": 1}),
        ("PUT", "/wallets/w", {}),
        ("PUT", "/wallets/w", {"balance": "-1"}),
        ("POST", "/wallets/w/topups", {"amount": 1}),
        ("POST", "/wallets/w/topups", {"id": "", "amount": 1}),
    ],
)
def test_a_wrong_price_or_wallet_is_refused(
    world: ClientWorld, method: str, path: str, body: dict[str, Any]
) -> None:
    """422, with what to mend."""
    answer = world.send(method, OPERATED + path, json=body)

    assert (answer.status_code, answer.json()["error"]) == (422, "unprocessable_entity")


def test_only_operators_set_prices_and_wallets(world: ClientWorld) -> None:
    """A key that is bound to a tenant never does, whatever its scopes; and sees its own wallet."""
    world.principal = bound_to("acme", scopes=list(Scope))
    for method, path in (("PUT", "/tools/t"), ("PUT", "/wallets/acme"), ("GET", "/wallets/acme")):
        assert world.send(method, OPERATED + path, json={}).status_code == 403
    assert world.get("/v1/consumer/balance").json()["balance"] == 0
    assert _call(world)[0] == 200
    assert _call(world)[0] == 402

"""Who shows no key: what its body has to hold, and how little of it is read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from meterstream_services.clients.meter_lib import strangers
from meterstream_services.clients.meter_lib.strangers import STRANGERS_BYTES_MAX

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.unit.services.agentmeter.world import World

TOPIC = "/topics/usage-events"
LOOKUP = "/metering/v1alpha1/customer-accounts/tenant/acme"


def record(customer: str) -> dict[str, Any]:
    """One record of the client's."""
    return {"value": {"meter_id": "m", "customer_id": customer, "total_usage": 1}}


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"[" * 100_000,
        b'{"records": []}',
        b"",
        b"mc1_",
        b"mc1_" + b"a" * 60,
        b"mc1_a" * 20_000,
    ],
)
def test_nothing_is_parsed_that_is_nobodys(
    world: World, monkeypatch: pytest.MonkeyPatch, body: bytes
) -> None:
    """Without a key, and without a customer id of the lookup's, it is 401 whatever it is."""
    world.key("acme")
    parsed: list[bytes] = []
    monkeypatch.setattr("meterstream_services.clients.meter_lib.routes.parse_json", parsed.append)

    assert world.send("POST", TOPIC, content=body).status_code == 401
    assert parsed == []


def test_little_is_read_of_a_stranger(world: World) -> None:
    """A body beyond what its client ever sends is refused before its end."""
    world.key("acme")
    read: list[int] = []

    async def body() -> AsyncIterator[bytes]:
        for number in range(16):
            read.append(number)
            yield b" " * (STRANGERS_BYTES_MAX // 4)

    assert world.send("POST", TOPIC, content=body()).status_code == 413
    assert len(read) < 16


def test_a_signed_customer_is_found_wherever_it_stands(world: World) -> None:
    """In the last of many records as in the first; one that is not signed spoils them all."""
    customer = world.send("GET", LOOKUP, key=world.key("acme")).json()["id"]
    many = [record(customer) for _ in range(strangers._LOOKED_AT + 8)]

    assert world.send("POST", TOPIC, json={"records": many}).status_code == 200
    assert len(world.door.taken) == len(many)
    mixed = [*many, record("bolt")]
    assert world.send("POST", TOPIC, json={"records": mixed}).status_code == 401
    assert len(world.door.taken) == len(many)


def test_a_key_sends_what_it_will(world: World) -> None:
    """With a key nothing needs to be signed, and bodies are as large as elsewhere."""
    padding = "x" * (STRANGERS_BYTES_MAX + 1)
    body = {"records": [record("acme")], "ignored": padding}

    assert world.send("POST", TOPIC, json=body, key=world.key("acme")).status_code == 200

"""The published package where keys were made: its event has no credential but the customer id."""

from __future__ import annotations

import socket
import threading
from typing import TYPE_CHECKING

import meter_lib  # type: ignore[import-untyped]  # it publishes no types
import pytest
import uvicorn

from tests.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.unit.services.agentmeter.world import World


@pytest.fixture
def url(world: World) -> Iterator[str]:
    """The application on a socket."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(world.app, log_config=None, ws="none"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        eventually(lambda: server.started)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(30)
        listener.close()


def test_a_key_opens_its_own_tenants_alone(world: World, url: str) -> None:
    """The key is shown at the lookup; another tenant, or no key, is None and nothing is kept."""
    key = world.key("mine")

    def post(tenant: str, api_key: str | None, kafka_url: str = url) -> object:
        return meter_lib.post_meter_usage(
            tenant_id=tenant, device_id="d", meter_id="page.processed.basic", kafka_url=kafka_url,
            total_usage=24, portal_url=url, api_key=api_key, timestamp=1_759_791_552_000,
        )  # fmt: skip

    assert post("mine", key) is not None
    assert post("yours", key) is None
    assert post("x/../mine", key) is None
    assert post("mine", "wrong") is None
    world.ring.revoke(key[len("mk_live_") :][:8], world.time[0])
    world.ticks[0] += 2
    assert post("mine", key) is None

    assert [(offer.tenant, offer.quantity) for offer in world.door.taken] == [("mine", 24)]


@pytest.mark.parametrize("place", ["path", "user"])
def test_an_address_can_carry_the_key(world: World, url: str, place: str) -> None:
    """As the first part of the path, or as its password: for ids that are not signed."""
    key = world.key("mine")
    address = f"{url}/k/{key}" if place == "path" else url.replace("//", f"//user:{key}@")
    body = {"meter_id": "page.processed.basic", "total_usage": 1, "customer_id": "mine"}

    answer = meter_lib.core.requests.post(
        f"{address}/topics/usage-events", json={"records": [{"value": body}]}, timeout=10
    )

    assert answer.status_code == 200
    assert [offer.tenant for offer in world.door.taken] == ["mine"]

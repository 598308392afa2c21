"""Names of StripeMeter that are longer than a tenant or an id may be: metered, and found again."""

from __future__ import annotations

import hashlib
import json
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from tests.unit.services.clients.world import ClientWorld, bound_to

if TYPE_CHECKING:
    from pathlib import Path

CUSTOMERS = ["c" * 128, "c" * 129, "c" * 254 + "1", "c" * 254 + "2", "ü" * 65, "🦕" * 255]
"""The first is a tenant as it is."""
ACCOUNT = "a" * 255


@pytest.fixture
def world(tmp_path: Path) -> ClientWorld:
    """The application with the catalogue of StripeMeter."""
    return ClientWorld("stripemeter", tmp_path)


def _hashed(text: str) -> str:
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


def _event(customer: str, quantity: int = 1, **more: object) -> dict[str, Any]:
    return {
        "tenantId": ACCOUNT,
        "metric": "m" * 100,
        "customerRef": customer,
        "quantity": quantity,
        "ts": "2026-11-21T01:16:23Z",
        "idempotencyKey": "k",
        **more,
    }


def _send(world: ClientWorld, *events: dict[str, Any]) -> dict[str, Any]:
    answer = world.post("/v1/events/ingest", {"events": events})
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def _exact(answer: Any) -> Any:  # noqa: ANN401 - an answer of httpx, and JSON
    assert answer.status_code == 200, answer.text
    return json.loads(answer.text, parse_float=Decimal, parse_int=Decimal)


def test_each_customer_of_the_vendors_lengths_has_its_own_figures(world: ClientWorld) -> None:
    """Asked for under the reference that was sent, in all four questions."""
    for number, customer in enumerate(CUSTOMERS, start=1):
        assert _send(world, _event(customer, number), _event(customer, number))["accepted"] == 1
    world.fold()

    for number, customer in enumerate(CUSTOMERS, start=1):
        asked = {"tenantId": ACCOUNT, "customerRef": customer}
        usage = _exact(world.get("/v1/usage/current", params=asked))
        assert usage["customerRef"] == customer
        assert [metric["current"] for metric in usage["metrics"]] == [number]
        [item] = _exact(world.post("/v1/usage/projection", asked))["lineItems"]
        assert item["quantity"] == number
        [metric] = _exact(world.get("/v1/usage/history", params=asked))["metrics"]
        assert [point["quantity"] for point in metric["usage"]] == [number]
        [listed] = _exact(world.get("/v1/events", params=asked))["events"]
        assert (listed["customerRef"], listed["quantity"]) == (customer, number)
    tenants = [offer.tenant for offer in world.door.taken]
    assert tenants == [CUSTOMERS[0], *map(_hashed, CUSTOMERS[1:])]


def test_the_whole_event_fits_with_everything_as_long_as_may_be(world: ClientWorld) -> None:
    """The longest customer, account, metric, resource, key and meta together."""
    meta = {f"{number:02}" + "n" * 58: "x" * 90 for number in range(24)}
    whole: dict[str, Any] = {"resourceId": "r" * 2_000, "idempotencyKey": "k" * 500, "meta": meta}

    first = _send(world, _event("🦕" * 255, **whole))
    again = _send(world, _event("🦕" * 255, **whole))

    assert (first["accepted"], again["duplicates"]) == (1, 1)
    assert first["results"][0]["idempotencyKey"] == "k" * 500
    [offer] = world.door.taken
    assert (offer.subject, offer.key) == (_hashed("r" * 2_000), _hashed("k" * 500))
    assert len(offer.attributes or {}) == 27
    for resource, count in (("r" * 2_000, 1), ("r" * 2_001, 0)):
        asked = {"tenantId": ACCOUNT, "customerRef": "🦕" * 255, "resourceId": resource}
        assert len(_exact(world.get("/v1/events", params=asked))["events"]) == count


def test_a_key_is_bound_to_a_long_customer_by_its_digest(world: ClientWorld) -> None:
    """To that one alone."""
    mine, other = CUSTOMERS[2], CUSTOMERS[3]
    world.principal = bound_to(_hashed(mine))

    assert _send(world, _event(mine), _event(other))["accepted"] == 1
    for customer, status in ((mine, 200), (other, 403)):
        asked = {"tenantId": ACCOUNT, "customerRef": customer}
        for path in ("/v1/usage/current", "/v1/usage/history", "/v1/events"):
            assert world.get(path, params=asked).status_code == status
    assert {offer.tenant for offer in world.door.taken} == {_hashed(mine)}

"""StripeMeter's Python SDK is not published: its wire, byte for byte, against a running gateway."""

from __future__ import annotations

import hashlib
import time
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
import requests

from tests.clients.losing import losing_way

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tests.clients.conftest import Gateway

pytestmark = pytest.mark.integration

_TRIES = 3


class Failed(Exception):
    """What the SDK raises: the answer's ``message`` and status."""


class Sdk:
    """What the SDK sends and reads: snake_case events with keys of their own, three tries."""

    def __init__(self, url: str, tenant: str) -> None:
        self.url, self.tenant = url, tenant
        self.session = requests.Session()
        self.session.trust_env = False
        self.session.headers.update(
            {"Authorization": "Bearer id.secret", "User-Agent": "Stripemeter-Python/1.0.0"}
        )

    def event(self, metric: str, customer: str, quantity: float, **more: Any) -> dict[str, Any]:  # noqa: ANN401 - any JSON value
        """One event as its model is dumped: quantities are floats, keys are of 16 digits."""
        ts = more.pop("ts", datetime.now(UTC)).isoformat().replace("+00:00", "Z")
        resource = more.get("resource_id") or "default"
        text = f"{self.tenant}|{metric}|{customer}|{resource}|{ts}"
        return {
            "tenant_id": self.tenant,
            "metric": metric,
            "customer_ref": customer,
            "quantity": float(quantity),
            "ts": ts,
            "meta": {},
            "idempotency_key": f"evt_{hashlib.sha256(text.encode()).hexdigest()[:16]}",
            "source": "sdk",
            **more,
        }

    def track_batch(self, events: list[dict[str, Any]]) -> dict[str, Any]:
        """`accepted`, `duplicates`, `errors`."""
        return self._ask("POST", "/v1/events/ingest", json={"events": events})

    def get_usage(self, customer: str) -> dict[str, Any]:
        """The present month."""
        parameters = {"tenantId": self.tenant, "customerRef": customer}
        return self._ask("GET", "/v1/usage/current", params=parameters)

    def get_projection(self, customer: str) -> dict[str, Any]:
        """What the present month costs."""
        body = {"tenantId": self.tenant, "customerRef": customer}
        return self._ask("POST", "/v1/usage/projection", json=body)

    def current(self, customer: str) -> dict[str, Any]:
        """Its usage by metric."""
        return {each["name"]: each["current"] for each in self.get_usage(customer)["metrics"]}

    def _ask(self, method: str, path: str, **options: Any) -> dict[str, Any]:  # noqa: ANN401 - any JSON value
        for _ in range(_TRIES - 1):
            try:
                answer = self.session.request(method, self.url + path, timeout=30, **options)
            except requests.ConnectionError:
                continue
            if answer.status_code < 500:
                return self._read(answer)
        return self._read(self.session.request(method, self.url + path, timeout=30, **options))

    def _read(self, answer: requests.Response) -> dict[str, Any]:
        if not answer.ok:
            raise Failed(answer.json()["message"], answer.status_code)
        return dict(answer.json(parse_float=Decimal))


@pytest.fixture
def sdk(gateway: Gateway, fresh: str) -> Iterator[Sdk]:
    """A client for an account of its own."""
    made = Sdk(gateway.url, f"vendor-{fresh}")
    yield made
    made.session.close()


def _wait(sdk: Sdk, customer: str, expected: Mapping[str, object]) -> None:
    """Until the client reads these figures; its own answers say so."""
    deadline = time.monotonic() + 30
    while (found := sdk.current(customer)) != expected:
        assert time.monotonic() < deadline, f"{found} is not {expected}"
        time.sleep(0.1)


def test_the_documented_flow_gives_exact_figures(sdk: Sdk, fresh: str) -> None:
    """track, track_batch, get_usage and get_projection of the published document."""
    meta = {"endpoint": "/v1/search", "region": "us-east-1"}
    first = sdk.track_batch([sdk.event("api_calls", fresh, 100, meta=meta)])
    batch = sdk.track_batch(
        [
            sdk.event("api_calls", fresh, 50),
            sdk.event("storage_gb", fresh, 2.5),
            sdk.event("storage_gb", fresh, 0.1, resource_id="disk-1"),
        ]
    )

    assert (first["accepted"], first["duplicates"]) == (1, 0)
    assert (batch["accepted"], batch["duplicates"]) == (3, 0)
    _wait(sdk, fresh, {"api_calls": 150, "storage_gb": Decimal("2.6")})
    usage, projection = sdk.get_usage(fresh), sdk.get_projection(fresh)
    assert usage["customerRef"] == fresh
    assert usage["alerts"] == []
    assert usage["period"]["start"].endswith("-01")
    assert [item["quantity"] for item in projection["lineItems"]] == [150, Decimal("2.6")]
    assert (projection["total"], projection["currency"]) == (0, "USD")
    assert projection["freshness"]["staleness"] >= 0


def test_prices_and_limits_that_were_set_are_in_the_answers(sdk: Sdk, fresh: str) -> None:
    """A mapping changes what the client reads, and nothing that was counted."""
    mapping: dict[str, Any] = {
        "tenantId": sdk.tenant,
        "metric": "api_calls",
        "unitPrice": "0.01",
        "limit": 10,
    }
    answer = sdk.session.post(f"{sdk.url}/v1/mappings", json=mapping, timeout=30)
    assert answer.status_code == 201

    sdk.track_batch([sdk.event("api_calls", fresh, 12.5)])

    _wait(sdk, fresh, {"api_calls": Decimal("12.5")})
    usage, projection = sdk.get_usage(fresh), sdk.get_projection(fresh)
    assert usage["metrics"][0]["limit"] == 10
    assert [alert["type"] for alert in usage["alerts"]] == ["limit"]
    assert projection["total"] == Decimal("0.125")


def test_lost_answers_count_once_and_events_are_listed_once(
    gateway: Gateway, sdk: Sdk, fresh: str
) -> None:
    """The SDK sends the same keys again; figures, history and the list of events have them once."""
    with losing_way(gateway.url) as way:
        lossy = Sdk(way.url, sdk.tenant)
        way.to_lose = 2
        events = [lossy.event("api_calls", fresh, 1.5, resource_id=f"r{n}") for n in range(3)]
        answer = lossy.track_batch(events)
        lossy.session.close()
        assert way.arrived == 3
    assert (answer["accepted"], answer["duplicates"]) == (0, 3)

    gateway.settle()
    _wait(sdk, fresh, {"api_calls": Decimal("4.5")})
    parameters = {"tenantId": sdk.tenant, "customerRef": fresh}
    listed = gateway.get("/v1/events", list(parameters.items()))
    history = gateway.get("/v1/usage/history", list(parameters.items()))
    assert sorted(event["resourceId"] for event in listed["events"]) == ["r0", "r1", "r2"]
    assert {event["idempotencyKey"] for event in listed["events"]} == {
        event["idempotency_key"] for event in events
    }
    assert sum(point["quantity"] for point in history["metrics"][0]["usage"]) == 4.5


def test_a_wrong_event_is_the_sdks_error(sdk: Sdk, fresh: str) -> None:
    """Alone it raises with the message; among others it is in the answer's errors."""
    wrong = sdk.event("api_calls", fresh, -1)

    with pytest.raises(Failed, match="quantity"):
        sdk.track_batch([wrong])
    answer = sdk.track_batch([wrong, sdk.event("api_calls", fresh, 1)])

    assert answer["accepted"] == 1
    assert answer["errors"][0]["index"] == 0
    _wait(sdk, fresh, {"api_calls": 1})

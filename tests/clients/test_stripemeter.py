"""StripeMeter's SDK is not published: its document, by its wire, against a running gateway."""

from __future__ import annotations

import asyncio
import sys
import time
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from tests.clients import stripemeter_wire
from tests.clients.losing import losing_way
from tests.clients.snippets import configured, published_snippets, shell_of
from tests.clients.stripemeter_wire import StripeMeterClient, StripeMeterError
from tests.compat import documents

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tests.clients.conftest import Gateway

pytestmark = pytest.mark.integration


@pytest.fixture
def sdk(gateway: Gateway, fresh: str) -> Iterator[StripeMeterClient]:
    """A client for an account of its own."""
    made = StripeMeterClient(gateway.url, "id.secret", f"vendor-{fresh}")
    yield made
    made.session.close()


def _wait(sdk: StripeMeterClient, customer: str, expected: Mapping[str, object]) -> None:
    """Until the client reads these figures; its own answers say so."""
    deadline = time.monotonic() + 30
    while (found := sdk.current(customer)) != expected:
        assert time.monotonic() < deadline, f"{found} is not {expected}"
        time.sleep(0.1)


def test_every_snippet_of_the_document_is_metered(
    gateway: Gateway,
    fresh: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """All three as they stand, on the recorded wire: only address and account are others."""
    monkeypatch.setitem(sys.modules, "stripemeter", stripemeter_wire)
    account, customer = f"vendor-{fresh}", "cus_ABC123"
    names: dict[str, Any] = {}
    with losing_way(gateway.url) as way:
        settings = {"https://api.stripemeter.io": way.url, "your_tenant_id": account}
        quick, in_async, handling = configured(published_snippets("stripemeter"), settings)
        documents.run(quick, names)
        sent = way.seen.copy()
        _wait(names["client"], customer, {"api_calls": 160, "storage_gb": Decimal("2.5")})
        documents.run(in_async, names)
        asyncio.run(names["main"]())
        documents.run(handling, names)
        _wait(names["client"], customer, {"api_calls": 360, "storage_gb": Decimal("2.5")})
        # The handler of the document reads what the gateway says of an event that cannot be.
        names["client"].tenant_id = "x" * 300
        documents.run(handling, names)
        names["client"].close()

    assert sent == ["POST /v1/events/ingest"] * 3 + [
        "GET /v1/usage/current",
        "POST /v1/usage/projection",
    ]
    assert names["response"]["accepted"] == 1
    assert (names["usage"]["customerRef"], names["projection"]["customerRef"]) == (customer,) * 2
    assert capsys.readouterr().out.endswith("Status: 400\n")
    gateway.wait_for(
        "stripemeter.sum",
        {("api_calls", account): 360, ("storage_gb", account): "2.5"},
        tenant=customer,
        by=["metric", "account"],
    )
    assert shell_of("stripemeter") == ["pip install stripemeter\n"]


def test_resources_and_fractions_add_up_exactly(sdk: StripeMeterClient, fresh: str) -> None:
    """What the document's calls can say beside what it shows: resources, tenths, metadata."""
    meta = {"endpoint": "/v1/search", "region": "us-east-1"}
    first = sdk.send([sdk.event("api_calls", fresh, 100, meta=meta)])
    batch = sdk.send(
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


def test_prices_and_limits_that_were_set_are_in_the_answers(
    sdk: StripeMeterClient, fresh: str
) -> None:
    """A mapping changes what the client reads, and nothing that was counted."""
    mapping: dict[str, Any] = {
        "tenantId": sdk.tenant_id,
        "metric": "api_calls",
        "unitPrice": "0.01",
        "limit": 10,
    }
    answer = sdk.session.post(f"{sdk.api_url}/v1/mappings", json=mapping, timeout=30)
    assert answer.status_code == 201

    sdk.send([sdk.event("api_calls", fresh, 12.5)])

    _wait(sdk, fresh, {"api_calls": Decimal("12.5")})
    usage, projection = sdk.get_usage(fresh), sdk.get_projection(fresh)
    assert usage["metrics"][0]["limit"] == 10
    assert [alert["type"] for alert in usage["alerts"]] == ["limit"]
    assert projection["total"] == Decimal("0.125")


def test_lost_answers_count_once_and_events_are_listed_once(
    gateway: Gateway, sdk: StripeMeterClient, fresh: str
) -> None:
    """The SDK sends the same keys again; figures, history and the list of events have them once."""
    with losing_way(gateway.url) as way:
        lossy = StripeMeterClient(way.url, "id.secret", sdk.tenant_id)
        way.to_lose = 2
        events = [lossy.event("api_calls", fresh, 1.5, resource_id=f"r{n}") for n in range(3)]
        answer = lossy.send(events)
        lossy.session.close()
        assert way.arrived == 3
    assert (answer["accepted"], answer["duplicates"]) == (0, 3)

    gateway.settle()
    _wait(sdk, fresh, {"api_calls": Decimal("4.5")})
    parameters = {"tenantId": sdk.tenant_id, "customerRef": fresh}
    listed = gateway.get("/v1/events", list(parameters.items()))
    history = gateway.get("/v1/usage/history", list(parameters.items()))
    assert sorted(event["resourceId"] for event in listed["events"]) == ["r0", "r1", "r2"]
    assert {event["idempotencyKey"] for event in listed["events"]} == {
        event["idempotency_key"] for event in events
    }
    assert sum(point["quantity"] for point in history["metrics"][0]["usage"]) == 4.5


def test_a_wrong_event_is_the_sdks_error(sdk: StripeMeterClient, fresh: str) -> None:
    """Alone it raises with the message; among others it is in the answer's errors."""
    wrong = sdk.event("api_calls", fresh, -1)

    with pytest.raises(StripeMeterError, match="quantity"):
        sdk.send([wrong])
    answer = sdk.send([wrong, sdk.event("api_calls", fresh, 1)])

    assert answer["accepted"] == 1
    assert answer["errors"][0]["index"] == 0
    _wait(sdk, fresh, {"api_calls": 1})

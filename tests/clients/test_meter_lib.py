"""The package meter-lib 0.1.0 as published against a real gateway: two requests for every event."""

from __future__ import annotations

import time
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import httpx
import meter_lib  # type: ignore[import-untyped]  # it publishes no types
import pytest

from tests.clients.conftest import LOOKUP_HOST
from tests.compat.guides import python_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.clients.conftest import Gateway

pytestmark = pytest.mark.integration

START, END = 1_759_791_552_000, 1_779_799_552_000
"""The document's own example, of 5,557.8 hours."""


@pytest.fixture
def addresses(gateway: Gateway, fresh: str) -> dict[str, Any]:
    """What every call of the document names; the tenant has an account, as others may have."""
    account = {"id": f"account-{fresh}", "tenants": [fresh]}
    httpx.put(f"{gateway.url}/v1/accounts/{account['id']}", json={}).raise_for_status()
    httpx.put(
        f"{gateway.url}/v1/tenants/{fresh}/account", json={"account": account["id"]}
    ).raise_for_status()
    return {
        "tenant_id": fresh,
        "device_id": "us-east-ing1",
        "kafka_url": gateway.url,
        "portal_url": gateway.url,
        "api_key": "sk-lw-40ea6ac9ee3xxxx_305e790xxxx",
    }


def test_amounts_are_counted(gateway: Gateway, fresh: str, addresses: dict[str, Any]) -> None:
    """The quick start without its trailing commas, and the call with metadata."""
    result = meter_lib.post_meter_usage(meter_id="document.basic.page", total_usage=24, **addresses)
    with_metadata = meter_lib.post_meter_usage(
        meter_id="rule.executed.small",
        total_usage=1,
        metadata={"rule_id": "rule-abc123", "batch_id": "batch-999"},
        **addresses,
    )
    fraction = meter_lib.post_meter_usage(
        meter_id="document.storage.size_gb", total_usage=0.1, timestamp=START, **addresses
    )

    for told in (result, with_metadata, fraction):
        assert told["offsets"][0]["offset"] >= 0
    gateway.wait_for("document.basic.page", 24, tenant=fresh)
    gateway.wait_for("rule.executed.small", 1, tenant=fresh)
    gateway.wait_for("document.storage.size_gb", "0.1", tenant=fresh)


def test_the_quick_start_as_it_stands_sends_nothing(
    gateway: Gateway, fresh: str, addresses: dict[str, Any]
) -> None:
    """Its trailing commas make tuples of the addresses: the package answers None by itself."""
    tuples = addresses | {"kafka_url": (gateway.url,), "portal_url": (gateway.url,)}

    assert (
        meter_lib.post_meter_usage(meter_id="document.basic.page", total_usage=24, **tuples) is None
    )


@pytest.mark.parametrize("metadata", [{"session_id": "s-1"}, None], ids=["by-id", "by-tenant"])
def test_the_documents_session_is_measured(
    gateway: Gateway, fresh: str, addresses: dict[str, Any], metadata: dict[str, str] | None
) -> None:
    """Start and end in two calls, the end first: 20,008,000 seconds, split over its months."""
    post: Callable[..., Any] = meter_lib.post_ai_meter_usage
    for times in ({"end_time": END}, {"start_time": START}):
        assert post(meter_id="chat.on.time_hours", metadata=metadata, **times, **addresses)

    gateway.wait_for("chat.on.time_hours", (END - START) // 1000, tenant=fresh)
    months = gateway.get(
        "/v1/usage",
        [("meter", "chat.on.time_hours"), ("tenant", fresh), ("every", "1mo"),
         ("from", "2025-10-01"), ("to", "2026-06-01")],
    )["rows"]  # fmt: skip
    assert len(months) == 8
    assert sum(Decimal(row["value"]) for row in months) == Decimal(END - START) / 1000
    assert months[1]["value"] == str(30 * 86_400)


def test_a_whole_session_counts_once(
    gateway: Gateway, fresh: str, addresses: dict[str, Any]
) -> None:
    """Both ends in one call, told twice; neither end, or the wrong order, is no success."""
    now = int(time.time() * 1000)
    for _ in range(2):
        assert meter_lib.post_ai_meter_usage(
            meter_id="chat.query.time_secs", start_time=now - 1500, end_time=now, **addresses
        )
    assert meter_lib.post_ai_meter_usage(meter_id="chat.query.time_secs", **addresses) is None
    assert (
        meter_lib.post_ai_meter_usage(
            meter_id="chat.query.time_secs", start_time=now, end_time=now - 1, **addresses
        )
        is None
    )

    gateway.settle()
    gateway.wait_for("chat.query.time_secs", "1.5", tenant=fresh)


def test_a_repeat_with_a_key_counts_once_and_without_one_twice(
    gateway: Gateway, fresh: str, addresses: dict[str, Any]
) -> None:
    """The client has no ids: an application that posts again must give one."""
    for _ in range(3):
        meter_lib.post_meter_usage(
            meter_id="page.processed.basic", total_usage=5, timestamp=START,
            metadata={"idempotency_key": "k"}, **addresses,
        )  # fmt: skip
    for _ in range(2):
        meter_lib.post_meter_usage(
            meter_id="page.processed.advanced", total_usage=5, timestamp=START, **addresses
        )

    gateway.settle()
    gateway.wait_for("page.processed.basic", 5, tenant=fresh)
    gateway.wait_for("page.processed.advanced", 10, tenant=fresh)


@pytest.mark.parametrize("total", ["x", None, [1], 10**30])
def test_what_cannot_be_counted_is_none(
    gateway: Gateway, addresses: dict[str, Any], total: object
) -> None:
    """The package answers None, as it documents for what was not accepted."""
    answer = meter_lib.post_meter_usage(
        meter_id="page.processed.basic", total_usage=total, **addresses
    )
    assert answer is None


def test_a_tenant_that_climbs_out_of_the_path_is_nobody(
    gateway: Gateway, fresh: str, addresses: dict[str, Any]
) -> None:
    """The package puts the tenant into the path as it is; the gateway sees what was meant."""
    odd = addresses | {"tenant_id": f"other/../{fresh}"}

    assert meter_lib.post_meter_usage(meter_id="page.processed.basic", total_usage=1, **odd) is None


def test_without_a_portal_the_lookup_comes_by_a_proxy(
    gateway: Gateway, fresh: str, addresses: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The built-in address is asked through HTTP_PROXY: a request in absolute form."""
    monkeypatch.setenv("http_proxy", gateway.url)
    monkeypatch.setenv("no_proxy", "127.0.0.1,localhost")
    inside = addresses | {"portal_url": None, "api_key": None}

    assert meter_lib.post_meter_usage(meter_id="report.generated.small", total_usage=2, **inside)

    gateway.wait_for("report.generated.small", 2, tenant=fresh)
    answer = httpx.get(
        f"{gateway.url}/v1alpha1/customer-accounts/tenant/{fresh}", headers={"host": LOOKUP_HOST}
    )
    assert answer.json()["id"] == fresh


def test_the_positional_order_is_the_packages(
    gateway: Gateway, fresh: str, addresses: dict[str, Any]
) -> None:
    """The document's order puts an address in place of the amount: no success, nothing counted."""
    url = addresses["kafka_url"]
    wrong = meter_lib.post_meter_usage(fresh, "d", "page.processed.basic", url, url, "key", 24)
    assert wrong is None
    assert meter_lib.post_meter_usage(fresh, "d", "page.processed.basic", url, 24, url, "key")

    gateway.wait_for("page.processed.basic", 24, tenant=fresh)


def test_the_guides_example_runs(
    gateway: Gateway, fresh: str, addresses: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    """The Python for the published package, with this gateway's address in it."""
    code = python_of("meter_lib")[1].replace("http://127.0.0.1:8080", gateway.url)

    exec(code.replace("tenant_123", fresh), {})

    assert "offsets" in capsys.readouterr().out
    gateway.wait_for("page.processed.basic", 24, tenant=fresh)
    gateway.wait_for("chat.on.time_hours", 3600, tenant=fresh)

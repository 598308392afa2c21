"""The verbatim snippets of climeter and stripemeter over a real broker, worker and API."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from meterstream.compat import wiring
from meterstream.compat.climeter import meter, tenant_of
from meterstream.compat.stripemeter import StripeMeterClient, declare_price
from tests.compat import documents
from tests.compat.standins import climeter_names
from tests.waiting import eventually

if TYPE_CHECKING:
    from tests.integration.up_process import Machine

pytestmark = pytest.mark.integration

CATALOGUES = ("climeter", "stripemeter")


def test_stripemeters_snippets_give_their_figures(live: Machine) -> None:
    """The document from top to bottom: usage and costs are what its events add up to."""
    names: dict[str, Any] = {}
    for snippet in documents.snippets("stripemeter"):
        documents.run(snippet, names)
    assert names["response"].accepted == 1
    declare_price("api_calls", "0.01", limit=1000)
    declare_price("storage_gb", "0.25", aggregation="max")
    client = StripeMeterClient(tenant_id="your_tenant_id")
    asyncio.run(names["main"]())  # The document defines it and leaves it at that.

    def current() -> dict[str, Decimal]:
        usage = client.get_usage("cus_ABC123")
        return {metric.name: metric.current for metric in usage.metrics}

    eventually(
        lambda: current() == {"api_calls": Decimal(360), "storage_gb": Decimal("2.5")},
        timeout_seconds=60,
    )
    projection = client.get_projection("cus_ABC123")
    assert [(item.metric, item.total) for item in projection.line_items] == [
        ("api_calls", Decimal("3.60")),
        ("storage_gb", Decimal("0.625")),
    ]
    assert (projection.total, projection.currency) == (Decimal("4.225"), "USD")
    # Known as soon as every partition, idle ones too, was folded to some moment.
    eventually(
        lambda: client.get_projection("cus_ABC123").freshness.last_update is not None,
        timeout_seconds=60,
    )
    assert StripeMeterClient(tenant_id="another").get_usage("cus_ABC123").metrics == ()


def test_a_repeated_key_counts_once(live: Machine) -> None:
    """The same event from two clients is one event: the figure says so."""
    for _ in range(2):
        client = StripeMeterClient(tenant_id="keys")
        answer = client.track(
            "api_calls", "cus_K", 7, ts="2026-11-20T10:00:00Z", idempotency_key="k1"
        )
        assert answer.accepted == 1
    client.track("api_calls", "cus_K", 1, ts="2026-11-20T10:00:01Z")

    def figure() -> Decimal:
        answer = client.get_projection("cus_K", "2026-11-01", "2026-11-30")
        return sum((item.quantity for item in answer.line_items), Decimal(0))

    eventually(lambda: figure() == 8, timeout_seconds=60)


def test_climeters_snippets_give_their_figures(live: Machine) -> None:
    """The document from top to bottom, and its functions called: calls by tool and command."""
    names = climeter_names()
    for snippet in documents.snippets("climeter"):
        documents.run(snippet, names)
    names["search_code"]("needle")
    names["search_v2"]("needle")
    asyncio.run(names["fetch_results"]("needle"))
    asyncio.run(names["handle_request"]("needle"))
    names["process_document"]("a.pdf")
    names["handler"]({"query": "needle"}, None)
    assert meter.status() == {"configured": True, "tool_slug": "my-tool", "queue_size": 0}

    def calls() -> dict[tuple[str, str], str]:
        parameters = [("meter", "climeter.calls"), ("from", "2026-01-01"), ("to", "2027-01-01")]
        parameters += [("tenant", tenant_of("clmtr_...")), ("by", "command"), ("by", "tool")]
        answer = wiring.usage().get("/v1/usage", parameters)
        return {
            (row["group"]["tool"], row["group"]["command"]): row["value"] for row in answer["rows"]
        }

    eventually(
        lambda: (
            calls()
            == {
                ("my-tool", "search_code"): "1",
                ("my-tool", "code-search-v2"): "1",
                ("my-tool", "fetch_results"): "1",
                ("my-tool", "pdf-analyzer"): "1",
                ("my-tool", "search"): "2",
                ("my-tool", "batch-search"): "1",
            }
        ),
        timeout_seconds=60,
    )

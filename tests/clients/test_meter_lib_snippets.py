"""Every snippet of meter-lib's document in the published package, with this gateway's addresses.

The document ends the lines of both addresses with a comma, which makes tuples of them. So the
snippets run twice: with the commas, where the package sends nothing, and without.
"""

from __future__ import annotations

from decimal import Decimal
from importlib.metadata import distribution
from typing import TYPE_CHECKING, Final

import httpx
import pytest

from tests.clients.losing import losing_way
from tests.clients.snippets import configured, published_snippets, run_snippets, shell_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.clients.conftest import Gateway
    from tests.clients.losing import Way
    from tests.clients.snippets import Ran

pytestmark = pytest.mark.integration

TENANT: Final = "tenant_123"
"""The document's own, which no other test of this directory uses."""
HOSTS: Final = {"kafka_url": "https://stream.app.domain.com",
                "portal_url": "https://portal.app.domain.com"}  # fmt: skip
CALLS: Final = {
    "Quickstart": "post_meter_usage",
    "With metadata": "post_meter_usage",
    "For AI enabled": "post_ai_meter_usage",
    "For AI disabled": "post_ai_meter_usage",
}
"""The call of each snippet. None of them is left out."""


def run(way: Way, setting: Callable[[str, str], tuple[str, str]]) -> list[Ran]:
    """The document with the addresses of a way; a result's first words are asked behind each."""
    changes = dict(setting(name, host) for name, host in HOSTS.items())
    snippets = configured(published_snippets("meter_lib"), changes)
    assert [each.heading for each in snippets] == list(CALLS)
    asked = {
        f"result = {call}(": {"result": "result and sorted(result['offsets'][0])"}
        for call in CALLS.values()
    }
    return run_snippets(None, snippets, way=way, asked=asked)


def test_with_its_commas_the_document_sends_nothing(gateway: Gateway) -> None:
    """Only the hosts are others: the package says itself that a tuple is no address, and None."""
    with losing_way(gateway.url) as way:
        ran = run(way, lambda _, host: (host, way.url))

    for each in ran:
        assert (each.requests, each.raised) == ([], {})
        assert each.values == {"result": "None"}
        assert f"('{way.url}',)" in each.printed
    assert ran[-1].printed.endswith("Failed to post meter usage event\n")


def test_without_them_every_snippet_is_metered(gateway: Gateway) -> None:
    """Both amounts, and a session of 5,557.8 hours over eight months, from its start and end."""
    customer = "customer-of-the-document"
    httpx.put(f"{gateway.url}/v1/accounts/{customer}", json={}).raise_for_status()
    mapping = f"{gateway.url}/v1/tenants/{TENANT}/account"
    httpx.put(mapping, json={"account": customer}).raise_for_status()
    with losing_way(gateway.url) as way:
        ran = run(way, lambda name, host: (f'{name}="{host}",', f'{name}="{way.url}"'))

    lookup = f"GET /metering/v1alpha1/customer-accounts/tenant/{TENANT}"
    for each in ran:
        assert (each.raised, each.requests) == ({}, [lookup, "POST /topics/usage-events"])
        assert each.values == {"result": "['error', 'error_code', 'offset', 'partition']"}
    assert ran[-1].printed.startswith("Event accepted: {'offsets': [")
    gateway.wait_for("document.basic.page", 24, tenant=TENANT)
    gateway.wait_for("rule.executed.small", 1, tenant=TENANT)
    gateway.wait_for("chat.on.time_hours", 20_008_000, tenant=TENANT)
    months = gateway.get(
        "/v1/usage",
        [("meter", "chat.on.time_hours"), ("tenant", TENANT), ("every", "1mo"),
         ("from", "2025-10-01"), ("to", "2026-06-01")],
    )["rows"]  # fmt: skip
    assert [Decimal(row["value"]) for row in months[1:-1]] == [
        days * 86_400 for days in (30, 31, 31, 28, 31, 30)
    ]


def test_the_document_installs_what_is_driven_here() -> None:
    """Its one line for a shell names the package."""
    assert shell_of("meter_lib") == [f"pip install {distribution('meter-lib').name}"]

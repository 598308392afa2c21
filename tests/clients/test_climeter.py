"""The published `climeter` 0.1.7, pointed at a running gateway by its own configuration."""

from __future__ import annotations

import asyncio
import hashlib
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from importlib.metadata import distribution
from typing import TYPE_CHECKING, Any

import climeter  # type: ignore[import-untyped]  # it publishes no types
import httpx
import pytest
from climeter.meter import Meter  # type: ignore[import-untyped]  # it publishes no types

from tests.clients.losing import losing_way
from tests.clients.published import run_published
from tests.clients.snippets import configured, environment_of, published_snippets, shell_of
from tests.compat import documents
from tests.compat.standins import climeter_names

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.clients.conftest import Gateway

    MakeMeter = Callable[[str, str], Meter]

pytestmark = pytest.mark.integration

TOOL = "3fa85f64-5717-4562-b3fc-2c963f66afa6"


def tenant_of(key: str) -> str:
    """Where a key's calls go where no keys were made."""
    return f"climeter-{hashlib.sha256(key.encode()).hexdigest()[:16]}"


def _end(meter: Meter) -> None:
    """Its own `shutdown` waits for five seconds; its thread may end when it wakes up."""
    client: Any = vars(meter)["_client"]
    vars(client)["_shutdown"].set()


@pytest.fixture
def make_meter() -> Iterator[MakeMeter]:
    """A meter of one's own for a key and an address; its thread ends with its next look."""
    made: list[Meter] = []

    def make(key: str, url: str) -> Meter:
        meter = Meter()
        meter.configure(api_key=key, api_url=url, tool_slug="my-tool")
        made.append(meter)
        return meter

    yield make
    for meter in made:
        _end(meter)


def test_the_published_document_meters_exactly_what_it_calls(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its snippets with nothing but the address changed: each call is one event of its kind."""
    monkeypatch.setattr(climeter, "meter", Meter())
    names = climeter_names()
    snippets = configured(published_snippets("climeter"), {"https://api.climeter.ai": gateway.url})
    assert len(snippets) == 6
    for snippet in snippets:
        # The published order of arguments is by name in the document, so it runs as it stands.
        documents.run(snippet, names)

    names["search_code"]("needle", repo=".")
    asyncio.run(names["fetch_results"]("needle"))
    names["search_v2"]("needle")
    names["process_document"]("a.pdf")
    asyncio.run(names["handle_request"]("needle"))
    names["handler"]({"query": "needle"}, None)

    assert names["state"]["configured"] is True
    expected: dict[tuple[str, ...], int | str | Decimal] = {
        ("my-tool", command, "success"): count
        for command, count in {
            "search": 2,
            "batch-search": 1,
            "search_code": 1,
            "fetch_results": 1,
            "code-search-v2": 1,
            "pdf-analyzer": 1,
        }.items()
    }
    tenant, by = tenant_of("clmtr_..."), ("tool", "command", "status")
    gateway.wait_for("climeter.calls", expected, tenant=tenant, by=by)
    _end(climeter.meter)


ENVIRONMENT = """
import json, os, sys
from climeter import meter

with meter.track_usage("search"):
    pass
meter.flush()
print(json.dumps(meter.status()))
sys.stdout.flush()
os._exit(0)  # Its thread wakes up every five seconds.
"""


def test_the_documents_environment_is_read_at_the_first_event(gateway: Gateway) -> None:
    """The block of settings as a shell reads it, without any `configure`."""
    install, block = shell_of("climeter")
    told = environment_of(block.replace("https://api.climeter.ai", gateway.url))

    status = run_published(None, ENVIRONMENT, environment=told)

    assert status == {"configured": True, "tool_slug": "my-tool", "queue_size": 0}
    tenant, by = tenant_of("clmtr_your_key_here"), ("tool", "command")
    gateway.wait_for("climeter.calls", {("my-tool", "search"): 1}, tenant=tenant, by=by)
    assert install == f"pip install {distribution('climeter').name}"


def test_every_way_to_record_is_counted(
    gateway: Gateway, fresh: str, make_meter: MakeMeter
) -> None:
    """Also of functions that fail, which the published client sends as successes."""
    meter = make_meter(fresh, gateway.url)

    @meter.track()  # type: ignore[untyped-decorator]  # it publishes no types
    def fails() -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        fails()
    for number in range(120):
        meter.record("bulk", tool_slug="other", metadata={"n": number, "odd": float("nan")})
    meter.flush()

    assert meter.status() == {"configured": True, "tool_slug": "my-tool", "queue_size": 0}
    gateway.wait_for(
        "climeter.calls",
        {("my-tool", "fails"): 1, ("other", "bulk"): 120},
        tenant=tenant_of(fresh),
        by=("tool", "command"),
    )


def test_what_a_lost_answer_does_with_and_without_ids(
    gateway: Gateway, fresh: str, make_meter: MakeMeter
) -> None:
    """With a key in the metadata an event counts once; without, as often as it was sent."""
    with losing_way(gateway.url) as way:
        meter = make_meter(fresh, way.url)
        meter.record("with", metadata={"idempotency_key": f"{fresh}-1"})
        meter.record("without")
        way.to_lose = 1
        meter.flush()
        assert way.arrived == 2

    gateway.settle()
    gateway.wait_for(
        "climeter.calls",
        {("with",): 1, ("without",): 2},
        tenant=tenant_of(fresh),
        by=("command",),
    )


def test_a_wallet_is_charged_for_calls_until_it_is_empty(
    gateway: Gateway, fresh: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`check_balance`, `call` and `InsufficientBalanceError` against what an operator set."""
    monkeypatch.setenv("CLIMETER_API_KEY", fresh)
    monkeypatch.setenv("CLIMETER_API_URL", gateway.url)
    climeter.clear_cache()
    tool, tenant = f"{TOOL}-{fresh}", tenant_of(fresh)
    operated = f"{gateway.url}/v1/clients/climeter"
    price = {"price": "0.40", "free_calls": 1, "checkout_url": "https://pay.example/"}
    assert httpx.put(f"{operated}/tools/{tool}", json=price).status_code == 200
    assert httpx.put(f"{operated}/wallets/{tenant}", json={"balance": "1"}).status_code == 200

    before = climeter.check_balance(tool)
    results = [climeter.call(tool, metadata={"source": "test"}) for _ in range(3)]
    with pytest.raises(climeter.InsufficientBalanceError) as refused:
        climeter.call(tool)
    climeter.clear_cache()
    after = climeter.check_balance(tool)

    assert (before["balance"], before["calls_remaining"], before["free_calls_remaining"]) == (
        1,
        2,
        1,
    )
    assert [result["cost"] for result in results] == [0, 0.4, 0.4]
    assert [result["balance_remaining"] for result in results] == [1, 0.6, 0.2]
    assert all(result["success"] and "_offline" not in result for result in results)
    assert (refused.value.balance, refused.value.cost) == (0.2, 0.4)
    assert refused.value.checkout_url == "https://pay.example/"
    assert (after["balance"], after["calls_remaining"], after["free_calls_remaining"]) == (
        0.2,
        0,
        0,
    )
    climeter.clear_cache()
    gateway.wait_for("climeter.calls", {(tool, "call"): 3}, tenant=tenant, by=("tool", "command"))
    wallet = httpx.get(f"{operated}/wallets/{tenant}").json()
    assert (wallet["balance"], wallet["open_calls"]) == ("0.2", 0)


def test_a_wallet_that_many_spend_at_once_is_never_overdrawn(
    gateway: Gateway, fresh: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As many calls succeed as the wallet covers, and exactly these are metered."""
    monkeypatch.setenv("CLIMETER_API_KEY", fresh)
    monkeypatch.setenv("CLIMETER_API_URL", gateway.url)
    tool, tenant = f"{TOOL}-{fresh}", tenant_of(fresh)
    operated = f"{gateway.url}/v1/clients/climeter"
    httpx.put(f"{operated}/tools/{tool}", json={"price": "0.25"})
    httpx.put(f"{operated}/wallets/{tenant}", json={"balance": "3"})

    def spend(_: int) -> bool:
        try:
            return bool(climeter.call(tool)["success"])
        except climeter.InsufficientBalanceError:
            return False

    with ThreadPoolExecutor(8) as pool:
        succeeded = sum(pool.map(spend, range(24)))
    climeter.clear_cache()

    assert succeeded == 12
    gateway.settle()
    gateway.wait_for("climeter.calls", 12, tenant=tenant)
    wallet = httpx.get(f"{operated}/wallets/{tenant}").json()
    assert (wallet["balance"], wallet["open_calls"]) == ("0", 0)

"""AgentMeter's snippets over a real broker, worker and API: its statistics are exact."""

from __future__ import annotations

import threading
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest

from meterstream.compat import wiring
from meterstream.compat.agentmeter import (
    AgentMeterTracker,
    MeterStats,
    create_client,
    meter_api_request_pay,
)
from tests.compat import documents
from tests.compat.agentmeter_namespace import AGENT, PROJECT, USER, namespace
from tests.waiting import eventually

if TYPE_CHECKING:
    from tests.integration.up_process import Machine

pytestmark = pytest.mark.integration

CATALOGUES = ("agentmeter",)


def counted(stats: MeterStats) -> tuple[int, int, int, int]:
    """Calls, tokens in, tokens out, payments."""
    return (
        stats.total_api_calls,
        stats.total_tokens_in,
        stats.total_tokens_out,
        stats.total_payments,
    )


def test_the_document_gives_its_figures(live: Machine) -> None:
    """The document from top to bottom, and its functions called: each figure is their exact sum."""
    names = namespace()
    for snippet in documents.snippets("agentmeter"):
        documents.run(snippet, names)
    names["llm_call"]("hello")
    names["premium_feature"]("x", premium=True)
    names["EcommerceService"](names["client"]).search_products("tea", "u1")
    names["SearchAgent"]().search("tea")
    client = create_client(project_id=PROJECT, user_id=USER)
    assert client.flush(30)

    eventually(lambda: counted(client.get_meter_stats()) == (8, 3300, 1600, 5), timeout_seconds=60)

    stats = client.get_meter_stats(timeframe="30 days")
    assert stats.cost_by_payment_type == {
        "api_request_pay": Decimal("1.65"),
        "token_based_pay": Decimal("6.88"),
        "instant_pay": Decimal("28.95"),
    }
    assert (stats.exact_cost, stats.total_cost) == (Decimal("37.48"), 37.48)
    assert client.get_meter_stats(agent_id=AGENT).exact_cost == stats.exact_cost
    assert client.get_meter_stats(agent_id="another").exact_cost == 0
    assert client.get_meter_stats("another").exact_cost == 0
    assert client.get_user_meter().exact_usage == Decimal("31.44")
    assert client.get_user_meter("user_123").current_usage == 0
    assert (live.data / "compat" / "ledger.json").exists()
    assert client.health_check()


def test_tenths_add_up_and_ids_count_once(live: Machine) -> None:
    """Four hundred tenths from four threads are 40; a payment recorded twice is one."""
    client = create_client(project_id="exact", agent_id="a", user_id="u")

    @meter_api_request_pay(client, unit_price=0.1)
    def call() -> None:
        pass

    def work() -> None:
        for _ in range(100):
            call()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    AgentMeterTracker(client).track_token_based_pay(
        tokens_in=3, input_token_price=0.1, output_token_price=0
    )
    event = client.record_instant_pay(amount=0.2, event_id="order-7").event
    assert client.record_event(event).success
    assert client.flush(30)

    eventually(lambda: counted(client.get_meter_stats()) == (400, 3, 0, 1), timeout_seconds=60)

    assert client.get_meter_stats().exact_cost == Decimal("40.5")
    assert client.get_user_meter().current_usage == 40.5
    assert wiring.meter().status().dropped == {}

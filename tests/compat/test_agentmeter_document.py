"""The snippets of AgentMeter's document, verbatim, with the results that it promises.

Outside are the shell commands of its section "Testing", which run files that are not part of it.
"""

from __future__ import annotations

import asyncio
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from meterstream_schemas.quantity import to_decimal
from tests.compat import documents
from tests.compat.agentmeter_namespace import AGENT, PROJECT, USER, namespace
from tests.compat.standins import usage_answer

if TYPE_CHECKING:
    from meterstream_schemas.events import MeterEvent
    from tests.compat.conftest import Memory

REQUEST, TOKENS, PAYMENT = "agentmeter.api_request", "agentmeter.tokens", "agentmeter.payment"

# (type, user, quantity, cost) of every event a snippet records by itself, by its heading.
RECORDED = {
    "1. API Request Pay": [(REQUEST, "user123", "1", "0")],
    "2. Token-based Pay": [(TOKENS, "user123", "150", "0")],
    "3. Instant Pay": [(PAYMENT, "user123", "5.99", "5.99")],
    "Basic Setup": [],
    "1. API Request Pay Examples": [(REQUEST, USER, "1", "0.3")] * 3,
    "2. Token-based Pay Examples": [
        (TOKENS, USER, "1500", "0"),
        (TOKENS, USER, "1500", "4.05"),
    ],
    "3. Instant Pay Examples": [(PAYMENT, USER, "4.99", "4.99"), (PAYMENT, USER, "9.99", "9.99")],
    "User Meter Management": [],
    "Project and Billing Management": [],
    "Batch Tracking": [
        (PAYMENT, USER, "2.99", "2.99"),
        (REQUEST, USER, "1", "0.3"),
        (TOKENS, USER, "750", "0"),
    ],
    "E-commerce Integration Example": [],
    "Class-level Metering": [],
    "Configuration Object": [],
    "Error Handling": [(REQUEST, USER, "1", "0.3")],
}


@pytest.fixture(params=documents.snippets("agentmeter"), ids=lambda snippet: snippet.heading)
def snippet(request: pytest.FixtureRequest) -> documents.Snippet:
    """Each snippet of the document."""
    found: documents.Snippet = request.param
    return found


def run(heading: str, names: dict[str, Any] | None = None) -> dict[str, Any]:
    """Run the snippet under a heading; its names afterwards."""
    names = namespace() if names is None else names
    [found] = [some for some in documents.snippets("agentmeter") if some.heading == heading]
    documents.run(found, names)
    return names


def told(event: MeterEvent) -> tuple[str, str | None, str, str]:
    """An event as `RECORDED` has it."""
    quantity = to_decimal(event.quantity, event.scale)
    return event.type, event.subject, f"{quantity.normalize():f}", event.attributes["cost"]


def test_every_snippet_records_what_it_charges(memory: Memory, snippet: documents.Snippet) -> None:
    """Each snippet runs as it stands, and its events carry exact costs, project and agent."""
    if "stats" in snippet.code:
        memory.usage.answers["/v1/usage"] = lambda _: usage_answer()

    documents.run(snippet, namespace())

    events = memory.arrived()
    assert sorted(told(event) for event in events) == sorted(RECORDED[snippet.heading])
    assert {(event.tenant, event.attributes["agent"]) for event in events} <= {(PROJECT, AGENT)}


def test_awaited_calls_run_in_an_event_loop(memory: Memory) -> None:
    """The three calls under Payment Types are awaited one after the other."""
    names = namespace()

    async def all_three() -> None:
        for snippet in documents.snippets("agentmeter")[:3]:
            await documents.execute(snippet, names)

    asyncio.run(all_three())

    assert sorted(event.type for event in memory.arrived()) == [REQUEST, PAYMENT, TOKENS]


def test_direct_calls_answer_the_documented_fields(memory: Memory) -> None:
    """`response` has id, cost, success, message and timestamp; the event is in the log by then."""
    response = run("1. API Request Pay Examples")["response"]

    assert response.success
    assert response.message
    assert response.event_id == response.id
    assert (response.cost, response.total_cost) == (0.3, 0.3)
    assert response.timestamp.tzinfo is not None
    [event] = [event for event in memory.arrived() if event.key == response.event_id]
    assert event.attributes["metadata.endpoint"] == "/api/search"


def test_decorated_search_answers_and_is_charged(memory: Memory) -> None:
    """`search_api` gives what the function gives; the block's metadata goes along."""
    names = run("1. API Request Pay Examples")

    assert names["result"] == ["found python tutorials"]
    events = memory.arrived()
    assert "search" in {event.attributes.get("metadata.operation") for event in events}
    assert {event.attributes["unit_price"] for event in events} == {"0.3"}


def test_decorated_model_call_is_charged_by_its_tokens(memory: Memory) -> None:
    """`llm_call` charges what `extract_tokens` tells, at the decorator's prices."""
    names = run("2. Token-based Pay Examples")

    assert names["llm_call"]("hello") == "answer to hello"

    [event] = [event for event in memory.arrived() if event.quantity == 1000]
    assert (event.attributes["tokens_in"], event.attributes["tokens_out"]) == ("700", "300")
    assert Decimal(event.attributes["cost"]) == Decimal("2.83")  # 700 * 0.004 + 300 * 0.0001


def test_premium_feature_is_charged_where_the_condition_holds(memory: Memory) -> None:
    """`should_charge` decides by the call's own arguments."""
    names = run("3. Instant Pay Examples")
    before = len(memory.arrived())

    assert names["premium_feature"]("x") == "basic x"
    assert len(memory.arrived()) == before
    assert names["premium_feature"]("x", premium=True) == "advanced x"

    assert len(memory.arrived()) == before + 1
    noted = {payment.description for payment in memory.ledger.payments(f"{PROJECT}/{USER}")}
    assert noted == {"Premium feature unlock", "Premium feature", ""}


def test_user_meter_counts_up_and_is_reset(
    memory: Memory, capsys: pytest.CaptureFixture[str]
) -> None:
    """A limit of 100, nothing used, 15.50 added, and nothing again after the reset."""
    names = run("User Meter Management")

    assert capsys.readouterr().out == "Usage: $0.0/$100.0\n"
    assert names["user_meter"].threshold_amount == 100.0
    assert names["client"].get_user_meter(user_id="user_123").current_usage == 0
    names["client"].increment_user_meter(amount=15.50, user_id="user_123")
    assert names["client"].get_user_meter(user_id="user_123").current_usage == 15.5


def test_statistics_read_well(memory: Memory, capsys: pytest.CaptureFixture[str]) -> None:
    """The three printed lines show the figures of the usage API, exact and without noise."""
    figures = {
        "agentmeter.api_calls": "12",
        "agentmeter.tokens_in": "1000",
        "agentmeter.tokens_out": "500",
        "agentmeter.payments": "2",
        "agentmeter.api_request_cost": "0.1",
        "agentmeter.token_cost": "0.2",
        "agentmeter.payment_cost": "7",
    }
    memory.usage.answers["/v1/usage"] = lambda asked: usage_answer(
        {"value": figures[asked["meter"][0]]}
    )

    names = run("Project and Billing Management")

    lines = ["Total cost: $7.3", "API calls: 12", "Tokens: 1500"]
    assert capsys.readouterr().out.splitlines() == lines
    assert names["stats"].exact_cost == Decimal("7.3")
    assert {asked["tenant"][0] for _, asked in memory.usage.asked} == {PROJECT}


def test_billing_record_is_kept(memory: Memory) -> None:
    """The record comes back with what was given and an id, and is found again."""
    memory.usage.answers["/v1/usage"] = lambda _: usage_answer()

    names = run("Project and Billing Management")

    record = names["billing_record"]
    assert (record.amount, record.status, record.project_id) == (150.0, "pending", PROJECT)
    assert names["client"].list_billing_records(PROJECT) == [record]
    assert names["events"] == []


def test_tracker_flushes(memory: Memory) -> None:
    """After `flush` all three events of the batch are in the log."""
    run("Batch Tracking")

    assert memory.meter.status().acknowledged == 3
    assert memory.meter.status().buffered == 0


def test_shop_is_charged_by_search_tokens_and_support(memory: Memory) -> None:
    """The methods of the e-commerce example charge the user that they are called for."""
    names = run("E-commerce Integration Example")
    shop = names["EcommerceService"](names["client"])

    assert shop.search_products("tea", "u1") == ["found tea"]
    assert shop.analyze_review_sentiment("nice", user_id="u2") == "good"
    assert shop.get_premium_support("help", "u3") == "solved help"
    assert shop.get_premium_support("help", "u3", premium=True) == "solved help"

    assert sorted(told(event) for event in memory.arrived()) == [
        (REQUEST, "u1", "1", "0.05"),
        (PAYMENT, "u3", "9.99", "9.99"),
        (TOKENS, "u2", "8", "0"),
    ]


def test_class_is_charged_by_its_named_methods(memory: Memory) -> None:
    """`search` and `recommend` are charged at 0.1 each, the private method is not."""
    names = run("Class-level Metering")
    agent = names["SearchAgent"]()

    assert agent.search("tea") == ["found tea"]
    assert agent.recommend("u1") == ["for u1"]
    agent._internal_method()

    assert sorted(told(event) for event in memory.arrived()) == [
        (REQUEST, "u1", "1", "0.1"),
        (REQUEST, USER, "1", "0.1"),
    ]


def test_configured_prices_are_charged(memory: Memory) -> None:
    """A client made of `config.dict()` charges the configuration's prices to its user."""
    client = run("Configuration Object")["client"]

    client.record_api_request_pay(api_calls=3)
    client.record_token_based_pay(tokens_in=1000, tokens_out=500)

    assert sorted(told(event) for event in memory.arrived()) == [
        (REQUEST, USER, "3", "0.003"),
        (TOKENS, USER, "1500", "0.0045"),
    ]


@pytest.mark.parametrize(
    ("status", "line"),
    [
        (401, "Authentication failed - check your API key"),
        (429, "Rate limited - retry later"),
        (500, "API error: away"),
    ],
)
def test_errors_lead_to_the_documented_branches(
    memory: Memory, capsys: pytest.CaptureFixture[str], status: int, line: str
) -> None:
    """An API error is told by its status code, as the document's handler reads it."""
    names = namespace()

    def refuse(**_: object) -> None:
        raise names["AgentMeterAPIError"]("away", status)

    names["client"].record_api_request_pay = refuse

    run("Error Handling", names)

    assert capsys.readouterr().out.strip() == line


def test_unconfirmed_event_is_an_sdk_error(
    memory: Memory, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without a broker the documented handler prints an SDK error; the event stays and arrives."""
    names = namespace()
    names["client"].timeout = 0.05
    memory.transport.available = False

    run("Error Handling", names)

    assert capsys.readouterr().out.startswith("SDK error: no confirmation within 0.05 seconds")
    memory.transport.available = True
    assert [told(event) for event in memory.arrived()] == RECORDED["Error Handling"]

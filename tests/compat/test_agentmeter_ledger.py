"""What AgentMeter's events cost their users, in the ledger: once each, and never in the way."""

from __future__ import annotations

import logging
import os
from decimal import Decimal, localcontext
from typing import TYPE_CHECKING, Any

import pytest

from meterstream.compat import wiring
from meterstream.compat.agentmeter import (
    AgentMeterClient,
    AgentMeterLedgerError,
    AgentMeterTracker,
    create_client,
    meter_api_request_pay,
)
from meterstream.compat.agentmeter.books import settle
from meterstream.compat.ledger import LocalLedger
from tests.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.compat.conftest import Memory


class Broken(LocalLedger):
    """A ledger that cannot be written until it is mended."""

    mended = False

    def change_allowance(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - as inherited
        """As a full disk would have it."""
        if not self.mended:
            raise OSError("no space left")
        return super().change_allowance(*args, **kwargs)


@pytest.fixture
def client(memory: Memory) -> AgentMeterClient:
    """A client whose events arrive in memory."""
    return create_client(project_id="p", agent_id="a", user_id="u")


def test_usage_is_what_events_cost_since_the_reset(
    memory: Memory, client: AgentMeterClient
) -> None:
    """Every kind of payment counts, to the last digit; other users' does not."""
    client.set_user_meter(1.0)
    client.record_api_request_pay(unit_price=0.1)
    client.record_token_based_pay(tokens_in=1, input_token_price=0.2)
    client.record_instant_pay(amount=9, user_id="other")

    assert client.get_user_meter().exact_usage == Decimal("0.3")
    client.reset_user_meter()
    assert client.get_user_meter().current_usage == 0
    AgentMeterTracker(client).track_instant_pay(amount=0.7)
    assert client.get_user_meter().current_usage == 0.7
    assert client.get_user_meter("other").current_usage == 9


def test_the_hosts_decimal_context_loses_nothing(memory: Memory, client: AgentMeterClient) -> None:
    """A host that computes with three digits has all digits in its ledger, by either way."""
    with localcontext(prec=3):
        client.record_instant_pay(amount=1234.5678)
        assert client.increment_user_meter(0.00001).exact_usage == Decimal("1234.56781")

    assert memory.ledger.balance("p/u") == Decimal("-1234.5678")


def test_limits_are_passed_by_more_only(memory: Memory, client: AgentMeterClient) -> None:
    """Exactly the limit is not over it; without a limit nothing is."""
    assert not client.increment_user_meter(50).is_over_limit
    assert client.get_user_meter().remaining == float("inf")

    meter = client.set_user_meter(50)
    assert (meter.is_over_limit, meter.remaining, meter.current_usage) == (False, 0.0, 50.0)

    assert client.increment_user_meter(0.01).is_over_limit
    assert not client.reset_user_meter().is_over_limit
    assert client.get_user_meter().threshold_amount == 50
    assert not client.set_user_meter(0).is_over_limit


def test_unknown_users_have_used_nothing(memory: Memory, client: AgentMeterClient) -> None:
    """Asking makes nothing up and writes nothing."""
    meter = client.get_user_meter("nobody")

    assert (meter.threshold_amount, meter.current_usage, meter.is_over_limit) == (0.0, 0.0, False)
    assert memory.ledger.allowance("p", "nobody") is None


def test_payments_are_noted_in_the_journal(memory: Memory, client: AgentMeterClient) -> None:
    """Under the event's id, taken from the user's account, with project and agent."""
    response = client.record_instant_pay(amount=4.99, description="Premium feature unlock")
    client.flush()

    [payment] = memory.ledger.payments("p/u")
    assert (payment.id, payment.amount) == (response.event_id, Decimal("-4.99"))
    assert payment.description == "Premium feature unlock"
    assert payment.details == {"project": "p", "user": "u", "agent": "a"}
    assert memory.ledger.balance("p/u") == Decimal("-4.99")


def test_refused_events_cost_nothing(memory: Memory, client: AgentMeterClient) -> None:
    """What was not taken is not booked."""
    AgentMeterTracker(client).track_instant_pay("u", amount=1, metadata={})
    assert not AgentMeterTracker(client).track_instant_pay("x" * 300, amount=1).success

    settle()

    assert [payment.account for payment in memory.ledger.payments()] == ["p/u"]


def test_the_ledger_is_written_by_itself(memory: Memory, client: AgentMeterClient) -> None:
    """Without any further call a decorated call's cost is in the ledger within moments."""
    meter_api_request_pay(client, unit_price=2)(lambda: None)()

    def booked() -> bool:
        allowance = memory.ledger.allowance("p", "u")
        return allowance is not None and allowance.used == 2

    eventually(booked)


def test_broken_ledgers_harm_no_call(
    memory: Memory, client: AgentMeterClient, caplog: pytest.LogCaptureFixture
) -> None:
    """Events are recorded, questions about limits say what is wrong, nothing is lost or doubled."""
    broken = Broken()
    wiring.use(ledger=broken)

    with caplog.at_level(logging.ERROR, logger="meterstream"):
        assert client.record_instant_pay(amount=3).success
        assert meter_api_request_pay(client, unit_price=2)(lambda: "answer")() == "answer"
        assert not client.flush()
        assert not client.flush()
    calls: list[Callable[[], object]] = [
        client.get_user_meter,
        client.reset_user_meter,
        lambda: client.set_user_meter(1),
    ]
    for call in calls:
        with pytest.raises(AgentMeterLedgerError, match="no space left"):
            call()
    broken.mended = True

    assert client.get_user_meter().current_usage == 5
    assert len(broken.payments("p/u")) == 1
    assert len(memory.arrived()) == 2
    assert [record.message for record in caplog.records] == [
        "the ledger cannot be written: no space left"
    ]


def test_closing_the_meter_writes_the_ledger(memory: Memory, client: AgentMeterClient) -> None:
    """What was taken but not booked yet is booked at the end."""
    AgentMeterTracker(client).track_instant_pay(amount=8)

    assert memory.meter.close(10)

    assert memory.ledger.balance("p/u") == -8


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forks_child_does_not_book_its_parents_costs(
    memory: Memory, client: AgentMeterClient
) -> None:
    """What was queued in the parent is the parent's to write."""
    wiring.use(ledger=Broken())
    AgentMeterTracker(client).track_instant_pay(amount=8)

    child = os.fork()
    if child == 0:
        wiring.use(ledger=memory.ledger)
        try:
            settle()
            os._exit(0 if not memory.ledger.payments() else 1)
        finally:
            os._exit(2)
    _, status = os.waitpid(child, 0)
    wiring.use(ledger=memory.ledger)
    settle()

    assert os.waitstatus_to_exitcode(status) == 0
    assert memory.ledger.balance("p/u") == -8

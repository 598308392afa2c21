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
    books,
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


class Away(Broken):
    """A ledger that notes no payments either."""

    def move(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - as inherited
        """As a full disk would have it."""
        raise OSError("no space left")


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


def test_ledgers_that_cannot_be_read_are_told(memory: Memory, client: AgentMeterClient) -> None:
    """A limit that nobody can tell is an error, not a limit of nothing."""

    class Unreadable(LocalLedger):
        def allowance(self, project: str, user: str) -> Any:  # noqa: ANN401 - it never answers
            raise OSError("gone")

    wiring.use(ledger=Unreadable())

    with pytest.raises(AgentMeterLedgerError, match="the ledger cannot be read: gone"):
        client.get_user_meter()


def test_slow_ledgers_hold_nobody_for_long(memory: Memory, client: AgentMeterClient) -> None:
    """`settle` gives up in time and says so; what waits is written by the next."""
    tracker = AgentMeterTracker(client)
    for user in ("u1", "u2"):
        tracker.track_api_request_pay(user, unit_price=1)

    with pytest.raises(AgentMeterLedgerError, match="some bookings wait still"):
        settle(0)
    settle()

    assert [client.get_user_meter(user).current_usage for user in ("u1", "u2")] == [1, 1]


def test_too_many_bookings_are_left_out(
    memory: Memory,
    client: AgentMeterClient,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The queue is bounded: beyond it the event is recorded, its booking is not, which is told."""
    monkeypatch.setattr(books, "BOOKINGS_MAX", 0)

    assert client.record_instant_pay(amount=1).success

    assert "bookings wait for the ledger; further ones are left out" in caplog.text
    assert memory.ledger.payments() == []


def test_old_event_ids_are_forgotten(
    memory: Memory, client: AgentMeterClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The ids that were booked are kept for a while only; payments have the ledger's own memory."""
    monkeypatch.setattr(books, "SEEN_MAX", 1)
    for event_id in ("a", "b", "a"):
        client.record_instant_pay(amount=1, event_id=event_id)

    assert client.get_user_meter().current_usage == 3
    assert sorted(payment.id for payment in memory.ledger.payments()) == ["p/a", "p/b"]


def test_event_ids_are_a_projects_own(memory: Memory, client: AgentMeterClient) -> None:
    """Two projects may both have an order 8, and each owes its own."""
    for project in ("p", "q", "q"):
        client.record_instant_pay(project, amount=1, event_id="order-8")
    client.flush()

    assert [memory.ledger.balance(account) for account in ("p/u", "q/u")] == [-1, -1]
    assert client.get_user_meter(project_id="q").current_usage == 1


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
    """Under an id made of the event's, taken from the user's account, with project and agent."""
    response = client.record_instant_pay(amount=4.99, description="Premium feature unlock")
    client.flush()

    [payment] = memory.ledger.payments("p/u")
    assert (payment.id, payment.amount) == (f"p/{response.event_id}", Decimal("-4.99"))
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
    wiring.use(ledger=Away())  # So that nobody writes before the fork.
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

"""AgentMeter's client: confirmed calls, statistics, events, projects, billing records, settings."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from meterstream.compat import agentmeter, wiring
from meterstream.compat.agentmeter import (
    AgentMeterAPIError,
    AgentMeterClient,
    AgentMeterConfig,
    AgentMeterDeliveryError,
    AgentMeterError,
    AgentMeterLedgerError,
    AgentMeterTracker,
    AgentMeterValidationError,
    APIRequestPayEvent,
    InstantPayEvent,
    NotFoundError,
    create_client,
    create_client_from_env,
)
from meterstream.compat.agentmeter.statistics import (
    API_CALLS,
    COSTS,
    PAYMENTS,
    TOKENS_IN,
    TOKENS_OUT,
    span,
)
from meterstream.compat.definitions import LocalDefinitions
from meterstream.compat.usage_api import UsageRefused, UsageUnavailable
from meterstream.memory import MemoryTransport
from meterstream_aggregator.catalogue_file import load_catalogue
from meterstream_services import catalogues
from tests.compat.standins import usage_answer

if TYPE_CHECKING:
    from tests.compat.conftest import Memory

NAIVE = datetime(2026, 1, 1)  # noqa: DTZ001 - to be refused


@pytest.fixture
def client(memory: Memory) -> AgentMeterClient:
    """A client whose events arrive in memory."""
    return create_client("secret-key", "p", "a", "u")


def test_confirmed_calls_may_be_awaited(memory: Memory, client: AgentMeterClient) -> None:
    """The synchronous answer can be awaited too: code that was written so keeps working."""

    async def scenario() -> object:
        return await client.record_instant_pay(amount=1)

    response: Any = asyncio.run(scenario())

    assert response.success
    assert response.partition is not None
    assert len(memory.transport.log[response.partition]) > response.offset
    assert response.dict()["event"]["payment_type"] == "instant_pay"
    assert set(response.dict()) == {
        "event_id", "id", "cost", "total_cost", "success", "message", "timestamp", "event",
    }  # fmt: skip


def test_an_event_id_is_the_events_key(memory: Memory, client: AgentMeterClient) -> None:
    """Recorded twice under one id, it has one key in the log and is booked once."""
    for _ in range(2):
        client.record_instant_pay(amount=2, event_id="order-7")

    assert [event.key for event in memory.arrived()] == ["order-7", "order-7"]
    assert client.get_user_meter().current_usage == 2
    assert len(memory.ledger.payments("p/u")) == 1


def test_own_events_can_be_recorded(memory: Memory, client: AgentMeterClient) -> None:
    """The event classes say everything themselves, their time included."""
    time = datetime(2026, 5, 1, 12, tzinfo=UTC)
    event = APIRequestPayEvent(
        project_id="other", user_id="v", api_calls=2, unit_price=0.5, timestamp=time
    )

    response = client.record_event(event)

    [arrived] = memory.arrived()
    assert (arrived.tenant, arrived.subject, arrived.quantity) == ("other", "v", 2)
    assert arrived.time == int(time.timestamp()) * 1_000_000
    assert response.timestamp == time


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda c: c.record_instant_pay(amount=-1), "amount: -1 is negative"),
        (lambda c: c.record_api_request_pay(metadata=[1]), "metadata: list is not a mapping"),
        (lambda c: InstantPayEvent(timestamp=NAIVE), "is not a datetime with a zone"),
        (lambda c: c.set_user_meter(-5), "threshold_amount: -5 is negative"),
        (lambda c: c.get_meter_stats(timeframe="soon"), "timeframe: 'soon' is none"),
        (lambda c: c.get_events(start_date="soon"), "start_date: 'soon' is no ISO 8601 time"),
        (lambda c: create_client().record_instant_pay(amount=1), "project_id: is missing"),
        (lambda c: create_client().get_meter_stats(), "project_id: is missing"),
        (lambda c: create_client(project_id="p").get_user_meter(), "user_id: is missing"),
        (lambda c: create_client(input_token_price="dear"), "input_token_price: 'dear'"),
        (lambda c: c.create_project(""), "name: is empty"),
        (lambda c: c.create_billing_record("p", "x", "y", 1), "period_start: 'x' is no ISO 8601"),
        (
            lambda c: c.create_billing_record("p", "2026-02-01", "2026-01-01", 1),
            "period_end: lies before period_start",
        ),
    ],
)  # fmt: skip
def test_wrong_arguments_are_told(
    memory: Memory, client: AgentMeterClient, call: Any, message: str  # noqa: ANN401 - a lambda
) -> None:  # fmt: skip
    """Each direct call says what is wrong with which argument."""
    with pytest.raises(AgentMeterValidationError, match=message):
        call(client)


def test_refused_events_are_told(memory: Memory, client: AgentMeterClient) -> None:
    """What the SDK refuses, a direct call raises, with the reason and the event's id."""
    with pytest.raises(AgentMeterDeliveryError, match=r"was not taken: .*at most 256") as refused:
        client.record_instant_pay(amount=1, user_id="u" * 300, event_id="e")

    assert refused.value.event_id == "e"
    assert isinstance(refused.value, AgentMeterError)
    strict = wiring.make_meter("strict", transport=MemoryTransport(), strict=True)
    wiring.use(meter=strict)
    with pytest.raises(AgentMeterDeliveryError, match="at most 256"):
        client.record_instant_pay(amount=1, user_id="u" * 300)
    assert strict.close(5)


def test_trackers_say_who_and_at_which_price(memory: Memory, client: AgentMeterClient) -> None:
    """The call's own values first, then the tracker's, then the client's; nothing waits."""
    tracker = AgentMeterTracker(
        client, "p2", "a2", "u2", default_api_price=0.1, default_output_token_price=0.01
    )
    memory.transport.available = False

    responses = [
        tracker.track_api_request_pay(api_calls=3),
        tracker.track_api_request_pay("u3", unit_price=5),
        tracker.track_token_based_pay(tokens_in=7, tokens_out=2),
        tracker.track_instant_pay(amount=2.99, description="Feature unlock"),
    ]
    memory.transport.available = True
    with tracker:
        pass

    assert [response.success for response in responses] == [True] * 4
    assert [response.cost for response in responses] == [0.3, 5.0, 0.02, 2.99]
    events = memory.arrived()
    assert {(event.tenant, event.attributes["agent"]) for event in events} == {("p2", "a2")}
    assert sorted(str(event.subject) for event in events) == ["u2", "u2", "u2", "u3"]


def test_trackers_tell_what_was_not_taken(memory: Memory) -> None:
    """Without any project the event is refused: told by the answer, counted in the status."""
    response = AgentMeterTracker(create_client()).track_instant_pay(amount=1)

    assert not response.success
    assert memory.meter.status().dropped == {"invalid": 1}


def test_statistics_ask_for_the_whole_timeframe(memory: Memory, client: AgentMeterClient) -> None:
    """Eight figures over whole hours up to the end of the present one, of one agent if asked."""
    memory.usage.answers["/v1/usage"] = lambda _: usage_answer({"value": "1"}, {"value": None})

    stats = client.get_meter_stats(timeframe="2 days", agent_id="a")

    assert (stats.total_api_calls, stats.total_payments, stats.total_cost) == (1, 1, 3.0)
    assert stats.cost_by_payment_type == {
        kind: Decimal(1) for kind in ("api_request_pay", "token_based_pay", "instant_pay")
    }
    assert stats.end - stats.start == timedelta(hours=49)
    meters = {asked["meter"][0] for _, asked in memory.usage.asked}
    assert meters == {API_CALLS, TOKENS_IN, TOKENS_OUT, PAYMENTS, *COSTS.values()}
    assert all(asked["where"] == ["agent=a"] for _, asked in memory.usage.asked)


@pytest.mark.parametrize(
    ("timeframe", "hours"),
    [
        ("30 days", 720),
        ("1 day", 24),
        ("12h", 12),
        ("2 Weeks", 336),
        ("1 month", 720),
        ("1y", None),
    ],
)
def test_timeframes_are_whole_hours(timeframe: str, hours: int | None) -> None:
    """From that many hours before the present hour to its end; other words are told."""
    now = datetime(2026, 3, 1, 10, 59, 59, 999_999, tzinfo=UTC)

    if hours is None:
        with pytest.raises(AgentMeterValidationError):
            span(timeframe, now)
        return
    start, end = span(timeframe, now)

    assert end == datetime(2026, 3, 1, 11, tzinfo=UTC)
    assert end - start == timedelta(hours=hours + 1)


@pytest.mark.parametrize(
    ("problem", "status", "kind"),
    [
        (UsageRefused(401, "no"), 401, "AuthenticationError"),
        (UsageRefused(403, "no"), 403, "AuthorizationError"),
        (UsageRefused(404, "no meter"), 404, "NotFoundError"),
        (UsageRefused(429, "slowly"), 429, "RateLimitError"),
        (UsageRefused(422, "no"), 422, "AgentMeterAPIError"),
        (UsageRefused(502, "no"), 502, "ServerError"),
        (UsageUnavailable("nothing answers"), 503, "ServerError"),
    ],
)
def test_refusals_of_the_usage_api_have_their_status(
    memory: Memory, client: AgentMeterClient, problem: Exception, status: int, kind: str
) -> None:
    """The documented error with its status code; a missing meter names the ready catalogue."""

    def refuse(_: object) -> object:
        raise problem

    memory.usage.answers |= {"/v1/usage": refuse, "/health/ready": refuse}

    for call in (client.get_meter_stats, client.health_check):
        with pytest.raises(AgentMeterAPIError) as raised:
            call()
        assert raised.value.status_code == status
        assert type(raised.value) is getattr(agentmeter, kind)
        assert ("meterstream catalogue agentmeter" in str(raised.value)) == (status == 404)


def test_events_are_listed_newest_first(memory: Memory, client: AgentMeterClient) -> None:
    """What this client recorded, by user, kind and time; at most `limit`."""
    before = datetime.now(UTC)
    client.record_api_request_pay(user_id="user_123")
    client.record_instant_pay(amount=5, user_id="user_123", metadata={"n": 1})
    client.record_instant_pay(amount=6, user_id="other")

    [newest] = client.get_events(limit=1, user_id="user_123")

    assert (newest["event_type"], newest["total_cost"]) == ("instant_payment", 5.0)
    assert newest["metadata"] == {"n": 1}
    assert len(client.get_events()) == 3
    assert len(client.get_events(event_type="instant_payment")) == 2
    assert len(client.get_events(start_date=before.isoformat())) == 3
    assert client.get_events(end_date="2026-01-01") == []
    assert client.get_events(limit=0) == []


def test_projects_live(memory: Memory, client: AgentMeterClient) -> None:
    """Made, listed, changed, taken away; what is not there is told."""
    project = client.create_project("Search", "finds things")

    changed = client.update_project(project.id, name="Find")

    assert (changed.name, changed.description) == ("Find", "finds things")
    assert client.list_projects() == [changed]
    assert client.get_project(project.id).dict()["name"] == "Find"
    assert client.delete_project(project.id) == {"success": True}
    for call in (client.get_project, client.delete_project, client.update_project):
        with pytest.raises(NotFoundError, match="there is no project") as raised:
            call(project.id)
        assert raised.value.status_code == 404


def test_billing_records_live(memory: Memory, client: AgentMeterClient) -> None:
    """Made, found by project, paid, taken away; amounts stay exact."""
    record = client.create_billing_record("p", "2024-03-01T00:00:00Z", "2024-03-31", 0.1)
    client.create_billing_record("q", "2024-03-01", "2024-03-31", "2.50")

    paid = client.update_billing_record(record.id, status="paid", amount=0.3)

    assert (paid.status, paid.amount, paid.exact_amount) == ("paid", 0.3, Decimal("0.3"))
    assert client.get_billing_record(record.id) == paid
    assert client.list_billing_records("p") == [paid]
    assert len(client.list_billing_records()) == 2
    assert client.delete_billing_record(record.id) == {"success": True}
    assert paid.dict()["amount"] == 0.3
    with pytest.raises(NotFoundError, match="there is no billing record"):
        client.get_billing_record(record.id)


def test_definitions_that_fail_are_told(memory: Memory, client: AgentMeterClient) -> None:
    """A definition that cannot be kept is an error of the SDK's."""

    class Failing(LocalDefinitions):
        def put(self, *_: object) -> None:
            raise OSError("no space left")

    wiring.use(definitions=Failing())

    with pytest.raises(AgentMeterLedgerError, match="definitions failed: no space left"):
        client.create_project("Search")


def test_clients_flush_at_their_end(memory: Memory) -> None:
    """A client is a context manager; afterwards everything has arrived and is booked."""
    with create_client(project_id="p", user_id="u") as client:
        client.take_event(InstantPayEvent(**client.who(), amount=1))

    assert memory.meter.status().buffered == 0
    assert memory.ledger.balance("p/u") == -1
    memory.usage.answers["/health/ready"] = lambda _: {"status": "ready"}
    assert client.health_check() == {"status": "ready"}


def test_far_timeframes_are_told() -> None:
    """A span that reaches before the calendar is none."""
    with pytest.raises(AgentMeterValidationError, match="'99999 years' is too long"):
        span("99999 years", datetime(2026, 1, 1, tzinfo=UTC))


def test_settings_come_from_the_environment(
    memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The three documented variables, and the further ones; empty ones are unset."""
    for name, value in {
        "API_KEY": "secret-key",
        "PROJECT_ID": "proj_123",
        "AGENT_ID": "agent_456",
        "USER_ID": "",
        "TIMEOUT": "2.5",
        "API_REQUEST_UNIT_PRICE": "0.25",
    }.items():
        monkeypatch.setenv(f"AGENTMETER_{name}", value)

    client = create_client_from_env()

    assert (client.project_id, client.agent_id, client.user_id) == ("proj_123", "agent_456", None)
    assert client.timeout == 2.5
    assert client.record_api_request_pay(api_calls=2).cost == 0.5
    monkeypatch.setenv("AGENTMETER_TIMEOUT", "soon")
    with pytest.raises(AgentMeterError, match="AGENTMETER_TIMEOUT: 'soon'"):
        create_client_from_env()


def test_keys_are_not_kept(memory: Memory) -> None:
    """Neither in the client nor in what is shown of a configuration."""
    config = AgentMeterConfig(api_key="secret-key", project_id="p", max_retries=3, batch_size=50)
    client = AgentMeterClient(**config.dict())

    assert config.dict()["api_key"] == "secret-key"
    assert "secret-key" not in repr(config) + repr(client) + repr(vars(client))


def test_unknown_settings_are_told(memory: Memory) -> None:
    """A misspelled setting is an error at once, not a price of 0 for ever."""
    with pytest.raises(TypeError, match="unit_prize"):
        create_client(project_id="p", unit_prize=5)


def test_ready_catalogue_has_every_meter_that_is_asked_for() -> None:
    """The file loads, is grouped by agent, and reads the attributes that events carry.

    One meter more is of the published client's events, which these calls never send.
    """
    path = catalogues.ready()["agentmeter"]
    meters = {meter.name: meter for meter in load_catalogue(Path(path)).meters}
    assert meters.pop("agentmeter.quantity").type == "agentmeter.meter_event"

    assert meters.keys() == {
        API_CALLS, TOKENS_IN, TOKENS_OUT, PAYMENTS, "agentmeter.tokens", *COSTS.values(),
    }  # fmt: skip
    assert {meter.group_by for meter in meters.values()} == {("agent",)}
    assert {meters[name].value for name in COSTS.values()} == {"attributes.cost"}

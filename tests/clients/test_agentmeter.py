"""AgentMeter's published packages, 0.3.2 and 0.2.0, unmodified against a real gateway.

What cannot work is in the packages themselves, and is told here: 0.3.2 has stand-ins in place of
``record_…``, of statistics and of billing records, which send nothing; the documented calls of
0.2.0 are coroutines that nobody awaits.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

import agentmeter
import httpx
import pytest
from agentmeter.exceptions import NotFoundError, ValidationError

from tests.clients.losing import losing_way
from tests.clients.published import published, run_published
from tests.compat.guides import python_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.clients.conftest import Gateway

pytestmark = pytest.mark.integration


@pytest.fixture(scope="session")
def older() -> Path:
    """The directory of version 0.2.0, which clashes with the one installed here."""
    return published("agentmeter", "0.2.0")


@pytest.fixture
def client(gateway: Gateway, fresh: str) -> Iterator[agentmeter.AgentMeter]:
    """The client of 0.3.2, with a key of its own."""
    with agentmeter.AgentMeter(api_key=f"secret-{fresh}", base_url=gateway.url) as made:
        yield made


def test_meter_types_events_and_totals(gateway: Gateway, client: agentmeter.AgentMeter) -> None:
    """0.3.2 from a project to what its events add up to: exactly what was recorded."""
    project = client.projects.create("Shop", description="an example")
    kind = client.meter_types.create("tokens", project_id=UUID(project.id), unit="token")
    other = client.meter_types.create("pages", project_id=UUID(project.id))
    times = ["2026-11-20T10:00:00Z", "2026-11-20T10:07:30.250000Z", "2026-11-20T11:00:00Z"]
    for number, time in enumerate(times):
        made = client.meter_events.record(
            str(kind.id), f"user-{number % 2}", 0.1 * (number + 1), timestamp=time,
            metadata={"model": "m", "n": number},
        )  # fmt: skip
        assert (made.meter_type_id, made.timestamp) == (
            kind.id,
            time.replace("Z", "+00:00"),
        )
    client.meter_events.record(str(other.id), "user-1", 7)

    gateway.wait_for(
        "agentmeter.quantity",
        {(str(kind.id), "user-0"): "0.40000000000000004", (str(kind.id), "user-1"): "0.2",
         (str(other.id), "user-1"): 7},
        tenant=project.id,
        by=["meter_type", "subject"],
    )  # fmt: skip
    told = client.meter_events.get_aggregations(meter_type_id=kind.id)
    assert (told.total_events, told.unique_subjects) == (3, 2)
    assert told.total_quantity == 0.60000000000000004
    assert told.first_event == "2026-11-20T10:00:00+00:00"
    assert told.last_event == "2026-11-20T11:00:00+00:00"
    part = client.meter_events.get_aggregations(
        meter_type_id=kind.id,
        start_time=datetime(2026, 11, 20, 10, 7, 30, 250_000, UTC),
        end_time=datetime(2026, 11, 20, 11, 0, tzinfo=UTC),
    )
    assert (part.total_quantity, part.total_events) == (0.2, 1)
    listed = client.meter_events.list(meter_type_id=kind.id, limit=2)
    assert [event.timestamp for event in listed] == [
        "2026-11-20T11:00:00+00:00",
        "2026-11-20T10:07:30.250000+00:00",
    ]
    assert listed[1].event_metadata == {"model": "m", "n": "1"}
    assert client.meter_events.list(meter_type_id=kind.id, subject_id="nobody") == []


def test_a_meter_type_is_told_by_its_method(
    gateway: Gateway, client: agentmeter.AgentMeter
) -> None:
    """A greatest of three and their average, as the client reads them from its aggregates."""
    project = client.projects.create("Peaks")
    kinds = {
        method: client.meter_types.create(
            method, project_id=UUID(project.id), aggregation_method=method
        )
        for method in ("max", "avg", "last")
    }
    for kind in kinds.values():
        for minute, quantity in enumerate((2, 6, 0.5)):
            time = f"2026-11-20T10:0{minute}:00Z"
            client.meter_events.record(str(kind.id), "u", quantity, timestamp=time)
    gateway.wait_for("agentmeter.quantity", "25.5", tenant=project.id)

    found = {
        method: client.meter_events.get_aggregations(meter_type_id=kind.id)
        for method, kind in kinds.items()
    }

    assert {method: told.total_quantity for method, told in found.items()} == {
        "max": 6, "avg": 8.5 / 3, "last": 0.5,
    }  # fmt: skip
    assert {told.total_events for told in found.values()} == {3}


def test_an_event_that_names_itself_counts_once(
    gateway: Gateway, client: agentmeter.AgentMeter
) -> None:
    """An id in the metadata makes what the client repeats by itself one event."""
    project = client.projects.create("Once")
    kind = client.meter_types.create("calls", project_id=UUID(project.id))
    for _ in range(3):
        client.meter_events.record(str(kind.id), "u", 1, metadata={"event_id": "e-1"})
    for _ in range(2):
        client.meter_events.record(str(kind.id), "u", 1)

    gateway.settle()

    gateway.wait_for("agentmeter.quantity", 3, tenant=project.id)


LOST = """
import asyncio, json, os
from agentmeter import create_client

project, gateway = os.environ["PROJECT"], os.environ["GATEWAY"]
client = create_client(api_key="k", project_id=project, agent_id="a", user_id="u", base_url=gateway)
print(json.dumps(asyncio.run(client.record_instant_pay(amount=2, description="d")).cost))
"""


def test_lost_answers_count_as_the_table_says(gateway: Gateway, fresh: str, older: Path) -> None:
    """What the packages repeat by themselves: once with an id, twice where 0.3.2 sends none."""
    body = {"name": "calls", "project_id": fresh}
    kind = httpx.post(f"{gateway.url}/api/v1/meter-types/", json=body).json()["id"]
    with losing_way(gateway.url) as way:
        with agentmeter.AgentMeter(api_key="k", base_url=way.url) as client:
            way.to_lose = 1
            client.meter_events.record(kind, "with", 1, metadata={"request_id": "r-1"})
            way.to_lose = 1
            client.meter_events.record(kind, "without", 1)
        way.to_lose = 1
        run_published(older, LOST, environment={"PROJECT": fresh, "GATEWAY": way.url})
        assert way.arrived == 6

    gateway.settle()
    gateway.wait_for(
        "agentmeter.quantity", {("with",): 1, ("without",): 2}, tenant=fresh, by=["subject"]
    )
    gateway.wait_for("agentmeter.payment_cost", 2, tenant=fresh)
    meter = gateway.get("/api/meter/usage", [("project_id", fresh), ("user_id", "u")])
    assert meter["current_usage"] == 2


def test_what_a_client_defines_is_kept(client: agentmeter.AgentMeter) -> None:
    """Projects and meter types: made, read, changed, listed, deleted; errors as its own classes."""
    project = client.projects.create("One")
    assert client.projects.get(project.id) == project
    assert client.projects.update(project.id, description="new").description == "new"
    assert project.id in {each.id for each in client.projects.list()}
    kind = client.meter_types.create("calls", project_id=UUID(project.id), aggregation_method="max")
    assert client.meter_types.get(UUID(str(kind.id))).aggregation_method == "max"
    assert client.meter_types.update(UUID(str(kind.id)), is_active=False).is_active is False
    assert [each.id for each in client.meter_types.list(UUID(project.id))] == [kind.id]
    with pytest.raises(ValidationError, match="not active"):
        client.meter_events.record(str(kind.id), "u", 1)
    assert client.meter_types.delete(UUID(str(kind.id)))
    assert client.projects.delete(project.id)
    with pytest.raises(NotFoundError, match="no such project"):
        client.projects.get(project.id)
    with pytest.raises(NotFoundError, match="no such meter type"):
        client.meter_events.record(str(kind.id), "u", 1)


def test_the_older_calls_of_the_new_version(gateway: Gateway, fresh: str) -> None:
    """`create_client` of 0.3.2: user meters and projects are real, ``record_…`` sends nothing."""
    client = agentmeter.create_client(
        "key", project_id=fresh, agent_id="bot", user_id="ann", base_url=gateway.url
    )
    with client:
        assert client.health_check()["status"] == "ok"
        assert client.set_user_meter(threshold_amount=100.0).threshold_amount == 100
        client.increment_user_meter(amount=15.5)
        assert client.increment_user_meter(amount=0.1).current_usage == 15.6
        assert not client.get_user_meter().is_over_limit
        assert client.reset_user_meter().current_usage == 0
        assert client.record_api_request_pay(api_calls=3, unit_price=0.3).success
        assert client.get_meter_stats().total_cost == 0

    gateway.settle()
    gateway.wait_for("agentmeter.api_calls", 0, tenant=fresh)


DOCUMENT = """
import asyncio, json, os
from agentmeter import AgentMeterTracker, create_client
from agentmeter.exceptions import AgentMeterAPIError
from agentmeter.models import APIRequestPayEvent

client = create_client(
    api_key="your_api_key", project_id=os.environ["PROJECT"], agent_id="agent_456",
    user_id="user_123", base_url=os.environ["GATEWAY"],
)
told = {"health": client.health_check()["status"]}
# Documented without await: the package makes coroutines, and sends nothing.
client.record_api_request_pay(api_calls=1000, unit_price=0.3).close()
told["response"] = asyncio.run(
    client.record_api_request_pay(api_calls=1, unit_price=0.3, metadata={"endpoint": "/api/search"})
).model_dump(mode="json")
asyncio.run(client.record_token_based_pay(
    tokens_in=1000, tokens_out=500, input_token_price=0.004, output_token_price=0.0001,
    metadata={"model": "gpt-4"},
))
asyncio.run(client.record_instant_pay(
    amount=4.99, description="Premium feature unlock", metadata={"feature": "advanced_search"},
))
again = APIRequestPayEvent(
    project_id=os.environ["PROJECT"], agent_id="other", user_id="user_123", api_calls=2,
    unit_price=0.05,
)
told["again"] = [client.record_event(again).event_id for _ in range(3)]
tracker = AgentMeterTracker(client=client, project_id=os.environ["PROJECT"], agent_id="agent_456",
                            user_id="user_123", auto_flush=False)
tracker.track_event(api_calls=5)  # The package drops its fields: a bare event, which is one call.
tracker.flush()
client.set_user_meter(threshold_amount=100.0, user_id="user_123")
client.increment_user_meter(amount=15.50, user_id="user_123")
meter = client.get_user_meter(user_id="user_123")
told["meter"] = [meter.current_usage, meter.threshold_amount, meter.is_over_limit]
told["reset"] = client.reset_user_meter(user_id="user_123").current_usage
billing = client.create_billing_record(
    project_id=os.environ["PROJECT"], period_start="2024-03-01T00:00:00Z",
    period_end="2024-03-31T23:59:59Z", amount=150.00, status="pending",
)
told["billing"] = client.update_billing_record(billing.id, status="paid").status
told["records"] = [record.amount for record in client.list_billing_records()]
project = client.create_project("A project", "described")
told["project"] = client.update_project(project.id, name="Renamed").name
told["deleted"] = client.delete_project(project.id)
try:
    client.get_project(project.id)
except AgentMeterAPIError as problem:
    told["missing"] = problem.status_code
print(json.dumps(told))
"""
FIGURES = """
import json, os
from agentmeter import create_client

project, gateway = os.environ["PROJECT"], os.environ["GATEWAY"]
client = create_client(api_key="k", project_id=project, base_url=gateway)
stats = client.get_meter_stats(timeframe="30 days")
events = client.get_events(limit=10, user_id="user_123")
print(json.dumps({
    "cost": stats.total_cost, "calls": stats.total_api_calls, "tokens": stats.total_tokens,
    "events": [[event["event_type"], event["total_cost"], event["agent_id"]] for event in events],
}))
"""


def test_the_document_by_the_older_version(gateway: Gateway, fresh: str, older: Path) -> None:
    """0.2.0, awaited: costs to the last digit, repeats once, meters, billing notes, events."""
    environment = {"PROJECT": fresh, "GATEWAY": gateway.url, "TZ": "UTC"}

    told = run_published(older, DOCUMENT, environment=environment)

    response = told.pop("response")
    assert (response["success"], response["cost"]) == (True, 0.3)
    assert len(set(told.pop("again"))) == 1
    assert told == {
        "health": "ok",
        "meter": [24.94, 100, False],
        "reset": 0,
        "billing": "paid",
        "records": [150.0],
        "project": "Renamed",
        "deleted": {"success": True},
        "missing": 404,
    }
    figures: dict[str, int | str] = {
        "agentmeter.api_calls": 4,
        "agentmeter.api_request_cost": "0.4",
        "agentmeter.tokens_in": 1000,
        "agentmeter.tokens_out": 500,
        "agentmeter.token_cost": "4.05",
        "agentmeter.payments": 1,
        "agentmeter.payment_cost": "4.99",
    }
    for meter, figure in figures.items():
        gateway.wait_for(meter, figure, tenant=fresh)
    asked = run_published(older, FIGURES, environment=environment)
    events = asked.pop("events")
    assert asked == {"cost": 9.44, "calls": 4, "tokens": 1500}
    assert [kind for kind, _, _ in events] == [
        "api_call", "api_call", "instant_payment", "token_usage", "api_call",
    ]  # fmt: skip
    assert [cost for _, cost, _ in events] == [0, 0.1, 4.99, 4.05, 0.3]


LOCAL = """
import asyncio, json, os
from agentmeter import create_client
from agentmeter.exceptions import AgentMeterAPIError

client = create_client(api_key="k", project_id=os.environ["PROJECT"], agent_id="a", user_id="u",
                       base_url=os.environ["GATEWAY"])
first = asyncio.run(client.record_instant_pay(amount=1, description="a"))
client.set_user_meter(threshold_amount=1.5)
try:
    asyncio.run(client.record_instant_pay(amount=1, description="b"))
    status, said = 201, ""
except AgentMeterAPIError as problem:
    status, said = problem.status_code, str(problem)
print(json.dumps([first.timestamp.isoformat(), status, said]))
"""


def test_the_settings_of_a_project_for_the_older_version(
    gateway: Gateway, fresh: str, older: Path
) -> None:
    """A project's zone says what its local times mean; its limit is answered 402 after storing."""
    project: dict[str, Any] = {"id": fresh, "name": "P", "timezone": "Asia/Tokyo"}
    project["enforce_threshold"] = True
    assert httpx.post(f"{gateway.url}/projects", json=project).status_code == 201
    before = datetime.now(UTC)

    time, status, said = run_published(
        older, LOCAL, environment={"PROJECT": fresh, "GATEWAY": gateway.url, "TZ": "Asia/Tokyo"}
    )

    assert abs(datetime.fromisoformat(time) - before) < timedelta(minutes=10)
    assert (status, said) == (402, "Threshold exceeded. Payment required.")
    gateway.wait_for("agentmeter.payment_cost", 2, tenant=fresh)


def test_a_key_of_another_project_is_told_so(gateway: Gateway, fresh: str) -> None:
    """A name that cannot be a tenant is refused with its reason, in the client's class."""
    with (
        agentmeter.AgentMeter(api_key="k", base_url=gateway.url) as client,
        pytest.raises(ValidationError, match="project_id"),
    ):
        client.users.set_meter("u", "x" * 200, 1.0)


def test_the_guides_example_runs(gateway: Gateway, capsys: pytest.CaptureFixture[str]) -> None:
    """The Python for the published package, with this gateway's address in it."""
    code = python_of("agentmeter")[1].replace("http://127.0.0.1:8080", gateway.url)
    names: dict[str, Any] = {}

    exec(code, names)

    gateway.wait_for("agentmeter.quantity", 1500, tenant=names["project"].id)
    assert capsys.readouterr().out.strip() in {"0.0", "1500.0"}

"""AgentMeter 0.2.0: events with prices, user meters, billing records, errors."""

from __future__ import annotations

import uuid
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from meterstream.compat.agentmeter.events import TokenBasedPayEvent
from meterstream.compat.agentmeter.translating import recorded
from tests.unit.services.agentmeter.world import NOW, exact

if TYPE_CHECKING:
    from tests.unit.services.agentmeter.world import World

CALL = {
    "project_id": "proj_1",
    "agent_id": "bot",
    "user_id": "ann",
    "total_cost": 0.0,
    "timestamp": "2026-05-21T01:19:40.024416",
    "metadata": {"endpoint": "/search"},
    "event_type": "api_call",
    "payment_type": "api_request_pay",
    "api_calls": 3,
    "unit_price": 0.1,
}


def record(world: World, key: str | None = None, **fields: Any) -> Any:  # noqa: ANN401 - JSON may be anything
    """The answer to an event with an id of its own, or the one named."""
    body = CALL | {"id": str(uuid.uuid4())} | fields
    body = {name: value for name, value in body.items() if value != "missing"}
    return world.send("POST", "/api/meter/event", json=body, key=key)


def usage(world: World, user: str = "ann", project: str = "proj_1") -> Any:  # noqa: ANN401 - JSON may be anything
    """A user's meter."""
    parameters = {"project_id": project, "user_id": user}
    return exact(world.send("GET", "/api/meter/usage", params=parameters))


def test_the_answer_has_what_both_servers_say(world: World) -> None:
    """All names at once, costs exact: a tenth three times is three tenths."""
    answer = record(world, id="e-1")

    told = exact(answer)
    assert answer.status_code == 201
    assert told["event_id"] == told["id"] == told["event"]["id"] == "e-1"
    assert told["cost"] == told["total_cost"] == told["event"]["total_cost"] == Decimal("0.3")
    assert told["success"] is True
    assert told["timestamp"] == "2026-05-21T01:19:40.024416+00:00"


def test_an_event_is_what_the_compatible_module_makes(world: World) -> None:
    """Type, quantity, attributes and key are the same as by the call of the module."""
    record(
        world,
        id="e-2",
        event_type="token_usage",
        payment_type="token_based_pay",
        tokens_in=1000,
        tokens_out=500,
        input_token_price=0.004,
        output_token_price=0.0001,
        timestamp="2026-05-21T01:19:40.024416Z",
    )
    same = recorded(
        TokenBasedPayEvent(
            project_id="proj_1",
            agent_id="bot",
            user_id="ann",
            tokens_in=1000,
            tokens_out=500,
            input_token_price=0.004,
            output_token_price=0.0001,
            metadata={"endpoint": "/search"},
            event_id="e-2",
            timestamp=datetime.fromisoformat("2026-05-21T01:19:40.024416+00:00"),
        )
    )

    [offer] = world.door.taken
    assert (offer.type, offer.tenant, offer.quantity) == (same.type, same.tenant, same.quantity)
    assert (offer.subject, offer.key) == (same.subject, same.key)
    assert offer.attributes == same.attributes
    assert same.attributes["cost"] == "4.05"


def test_an_id_that_is_sent_again_counts_and_costs_once(world: World) -> None:
    """Also where the door has forgotten it, as another process would have."""
    for _ in range(2):
        assert record(world, id="e-1").status_code == 201
    world.door._keys.clear()
    assert record(world, id="e-1").status_code == 201

    assert usage(world)["current_usage"] == Decimal("0.3")


def test_an_id_without_a_time_may_be_sent_again_later(world: World) -> None:
    """The door gave it a time, and a repeat is no other event for coming later."""
    first = record(world, id="e-1", timestamp="missing")
    world.time[0] += 5_000_000
    again = record(world, id="e-1", timestamp="missing")

    assert (first.status_code, again.status_code) == (201, 201)
    assert len(world.door.taken) == 1
    assert usage(world)["current_usage"] == Decimal("0.3")


def test_times_are_read_in_the_zone_of_the_project(world: World) -> None:
    """UTC unless the project says otherwise; a time with a zone is left as it is."""
    world.send(
        "POST", "/projects", json={"id": "proj_1", "name": "P", "timezone": "America/New_York"}
    )

    record(world)
    record(world, timestamp="2026-05-21T01:19:40+00:00")
    record(world, id="missing", timestamp="missing")

    hours = [
        ((offer.time or 0) - 1_779_326_380_000_000) // 3_600_000_000 for offer in world.door.taken
    ]
    assert hours[:2] == [4, 0]
    assert world.door.taken[2].time == NOW


@pytest.mark.parametrize(
    ("fields", "kind", "quantity", "cost"),
    [
        ({"amount": 4.99, "event_type": "instant_payment", "payment_type": "instant_pay"},
         "agentmeter.payment", "4.99", "4.99"),
        ({"payment_type": None, "event_type": None, "api_calls": None, "unit_price": None,
          "total_cost": 0.25}, "agentmeter.api_request", "1", "0.25"),
        ({"payment_type": None, "event_type": None, "api_calls": None, "request_count": 5,
          "unit_price": 2}, "agentmeter.api_request", "5", "10"),
        ({"payment_type": None, "event_type": "token_usage", "input_tokens": 7, "output_tokens": 1,
          "input_token_price": "0.001"}, "agentmeter.tokens", "8", "0.007"),
        ({"unit_price": 0, "total_cost": 1.5}, "agentmeter.api_request", "3", "1.5"),
        ({"unit_price": 0.5, "total_cost": 99}, "agentmeter.api_request", "3", "1.5"),
    ],
)  # fmt: skip
def test_what_is_charged(
    world: World, fields: dict[str, Any], kind: str, quantity: str, cost: str
) -> None:
    """Prices make the cost; without any the client's total is it; the vendor's names are known."""
    answer = record(world, **fields)

    assert answer.status_code == 201, answer.text
    [offer] = world.door.taken
    assert offer.type == kind
    assert Decimal(offer.quantity) == Decimal(quantity)
    assert exact(answer)["cost"] == Decimal(cost)
    assert (offer.attributes or {})["cost"] == cost


@pytest.mark.parametrize(
    "fields",
    [
        {"api_calls": -1}, {"api_calls": 1.5}, {"unit_price": "x"}, {"unit_price": [1]},
        {"payment_type": "gift"}, {"payment_type": None, "event_type": "party"},
        {"timestamp": "yesterday"}, {"timestamp": 5}, {"metadata": [1]}, {"user_id": {"a": 1}},
        {"project_id": "a\nb"}, {"project_id": "x" * 129}, {"unit_price": 10**400},
        {"timestamp": "1969-12-31T23:59:59"}, {"id": "x" * 257}, {"unit_price": True},
        {"input_token_price": [0]},
    ],
)  # fmt: skip
def test_what_cannot_be_billed_is_refused_with_a_sentence(
    world: World, fields: dict[str, Any]
) -> None:
    """422, where 0.2.0 finds the text and 0.3.x too; nothing is kept."""
    answer = record(world, **fields)

    if answer.status_code == 201:
        assert fields == {"input_token_price": [0]}  # Not a field of this kind of payment.
        return
    assert answer.status_code == 422, answer.text
    assert answer.json()["error"]["message"] == answer.json()["detail"]
    assert world.door.taken == []


def test_a_user_meter_is_set_used_added_to_and_reset(world: World) -> None:
    """Both versions see one meter: limit, what events cost, what was added, and the reset."""
    assert usage(world)["threshold_amount"] == 0
    put = {"project_id": "proj_1", "user_id": "ann", "threshold_amount": 100.0}
    assert exact(world.send("PUT", "/api/meter", json=put))["threshold_amount"] == 100
    record(world)
    body = {"project_id": "proj_1", "user_id": "ann", "amount": 15.5}
    world.send("POST", "/api/meter/increment", json=body)
    path = "/api/v1/users/ann/meter"

    newer = exact(world.send("GET", path, params={"project_id": "proj_1"}))

    assert newer == usage(world)
    assert (newer["threshold_amount"], newer["current_usage"]) == (100, Decimal("15.8"))
    world.time[0] += 5_000_000
    world.send("POST", f"{path}/reset", json={"project_id": "proj_1"})
    after = usage(world)
    assert (after["current_usage"], after["threshold_amount"]) == (0, 100)
    assert after["last_reset_at"] > newer["last_reset_at"]
    assert after["created_at"] == newer["created_at"]


@pytest.mark.parametrize(
    ("written", "user"), [("a/b", "a/b"), ("a%2Fb", "a/b"), ("x/meter", "x/meter"), ("ü@x", "ü@x")]
)
def test_a_user_may_have_a_slash(world: World, written: str, user: str) -> None:
    """The package writes the id into the path as it is."""
    path, body = f"/api/v1/users/{written}/meter", {"project_id": "p"}
    world.send("PUT", path, json=body | {"threshold_amount": 9})
    world.send("POST", f"{path}/increment", json=body | {"amount": 2})

    told = exact(world.send("GET", path, params=body))

    assert (told["user_id"], told["threshold_amount"], told["current_usage"]) == (user, 9, 2)
    assert told == usage(world, user, "p")
    assert exact(world.send("POST", f"{path}/reset", json=body))["current_usage"] == 0


def test_an_increment_under_a_key_is_added_once(world: World) -> None:
    """The header Idempotency-Key; without it a repeat adds again."""
    body, path = {"project_id": "p", "amount": 1}, "/api/v1/users/u/meter/increment"
    for _ in range(3):
        world.send("POST", path, json=body, headers={"idempotency-key": "k"})
    for _ in range(2):
        world.send("POST", path, json=body)

    assert usage(world, "u", "p")["current_usage"] == 3


def test_beyond_the_limit_402_only_where_the_project_asks_for_it(world: World) -> None:
    """The event is stored in any case; the answer then has the meter."""
    project = {"id": "proj_1", "name": "P"}
    world.send("POST", "/projects", json=project)
    put = {"project_id": "proj_1", "user_id": "ann", "threshold_amount": 0.5}
    world.send("PUT", "/api/meter", json=put)
    assert [record(world).status_code for _ in range(2)] == [201, 201]

    world.send("PATCH", "/projects/proj_1", json={"enforce_threshold": True})
    answer = record(world, id="late")

    assert answer.status_code == 402
    told = exact(answer)
    assert told["error"]["message"] == told["detail"] == "Threshold exceeded. Payment required."
    assert told["meter"]["current_usage"] == Decimal("0.9")
    assert (told["success"], told["event_id"]) == (False, "late")
    assert len(world.door.taken) == 3


def test_events_are_listed_with_their_own_fields(world: World) -> None:
    """By agent, user, type and day; the latest first."""
    record(world, id="a")
    record(world, id="b", event_type="instant_payment", payment_type="instant_pay", amount=2,
           description="Unlock", user_id="bob", timestamp="2026-05-22T00:00:00")  # fmt: skip

    def ask(**parameters: str) -> Any:  # noqa: ANN401 - JSON may be anything
        asked = {"project_id": "proj_1"} | parameters
        return exact(world.send("GET", "/api/meter/events", params=asked))

    assert [each["id"] for each in ask()] == ["b", "a"]
    assert [each["id"] for each in ask(user_id="ann")] == ["a"]
    assert [each["id"] for each in ask(event_type="instant_payment")] == ["b"]
    assert [each["id"] for each in ask(start_date="2026-05-22")] == ["b"]
    assert ask(event_type="party") == []
    [one] = ask(end_date="2026-05-22")
    assert (one["api_calls"], one["unit_price"], one["total_cost"]) == (
        3, Decimal("0.1"), Decimal("0.3"),
    )  # fmt: skip
    assert (one["agent_id"], one["metadata"]) == ("bot", {"endpoint": "/search"})
    assert ask(limit="1")[0]["description"] == "Unlock"


def test_statistics_of_nothing_are_zeros(world: World) -> None:
    """And a timeframe that is none is refused."""
    asked = {"project_id": "proj_1", "timeframe": "30 days"}

    told = world.send("GET", "/api/meter/stats", params=asked).json()

    assert (told["total_api_calls"], told["total_cost"], told["timeframe"]) == (0, 0, "30 days")
    wrong = world.send("GET", "/api/meter/stats", params=asked | {"timeframe": "ages"})
    assert wrong.status_code == 422


def test_billing_records_are_notes(world: World) -> None:
    """Create, list, read, change, delete; amounts are exact."""
    body = {
        "project_id": "p",
        "period_start": "2024-03-01T00:00:00Z",
        "period_end": "2024-03-31T23:59:59Z",
        "amount": 150.10,
        "status": "pending",
    }
    made = world.send("POST", "/billing-records", json=body)

    assert made.status_code == 201
    path = f"/billing-records/{made.json()['id']}"
    assert exact(made)["amount"] == Decimal("150.1")
    assert world.send("PATCH", path, json={"status": "paid"}).json()["status"] == "paid"
    listed = world.send("GET", "/billing-records", params={"project_id": "p"}).json()
    assert [each["status"] for each in listed] == ["paid"]
    assert world.send("GET", path, key=None).json() == listed[0]
    assert world.send("DELETE", path).json() == {"success": True}
    assert world.send("GET", path).status_code == 404
    lacking = {name: value for name, value in body.items() if name != "amount"}
    assert world.send("POST", "/billing-records", json=lacking).status_code == 422


def test_another_projects_money_is_not_seen(world: World) -> None:
    """Events, meters, records and settings of a tenant are its keys' alone."""
    mine, yours = world.key("mine"), world.key("proj_1")
    assert record(world, yours).status_code == 201
    body = {"period_start": "2024-03-01", "period_end": "2024-04-01", "amount": 1}
    made = world.send("POST", "/billing-records", json=body, key=yours).json()

    assert record(world, mine).status_code == 403
    for path in (
        "/api/meter/usage?project_id=proj_1&user_id=ann",
        "/api/meter/events?project_id=proj_1",
        "/api/meter/stats?project_id=proj_1",
        "/billing-records?project_id=proj_1",
    ):
        assert world.send("GET", path, key=mine).status_code == 403, path
    assert world.send("GET", f"/billing-records/{made['id']}", key=mine).status_code == 404
    assert world.send("GET", "/api/meter/events", key=mine).json() == []
    assert len(world.send("GET", "/api/meter/events", key=yours).json()) == 1
    assert exact(world.send("GET", "/api/meter/usage?user_id=ann", key=mine))["current_usage"] == 0
    assert world.send("GET", "/billing-records", key=mine).json() == []


def test_unknown_paths_and_methods_are_objects_too(world: World) -> None:
    """404 and 405 beneath the client's prefixes have a detail."""
    for method, path in (("GET", "/api/meter/nothing"), ("DELETE", "/api/meter/event"),
                         ("GET", "/api/v1/meter-types"), ("GET", "/api/v1/users/x")):  # fmt: skip
        answer = world.send(method, path)
        assert answer.status_code in {404, 405}, (method, path)
        assert isinstance(answer.json()["detail"], str)

"""AgentMeter 0.3.x: projects, meter types, events, and what they add up to."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from meterstream_services.keys.principal import Scope
from tests.unit.services.agentmeter.world import NOW, World, exact, made_world

if TYPE_CHECKING:
    from pathlib import Path


def meter_type(world: World, project: str, *, key: str | None = None, **more: Any) -> str:  # noqa: ANN401 - JSON may be anything
    """The id of a new meter type."""
    body = {"name": "calls", "project_id": project, **more}
    made = world.send("POST", "/api/v1/meter-types/", json=body, key=key)
    assert made.status_code == 201, made.text
    return str(made.json()["id"])


def record(world: World, kind: str, quantity: object = 1, **more: Any) -> Any:  # noqa: ANN401 - JSON may be anything
    """The answer to an event."""
    key = more.pop("key", None)
    body = {"meter_type_id": kind, "subject_id": "u1", "quantity": quantity, **more}
    return world.send("POST", "/api/v1/meter-events/", json=body, key=key)


def test_an_event_reaches_the_log_exactly(world: World) -> None:
    """Project, subject, quantity, time and metadata stand in the event; the answer is a 201."""
    kind = meter_type(world, "proj_1")

    answer = record(
        world,
        kind,
        0.1,
        timestamp="2026-05-01T10:00:00.000001",
        event_metadata={"model": "x", "n": 5, "deep": {"a": [1.50]}},
    )

    assert answer.status_code == 201
    [offer] = world.door.taken
    assert (offer.type, offer.tenant, offer.subject) == ("agentmeter.meter_event", "proj_1", "u1")
    assert offer.quantity == Decimal("0.1")
    assert offer.time == 1_777_629_600_000_001
    assert offer.attributes == {
        "meter_type": kind,
        "subject": "u1",
        "metadata.model": "x",
        "metadata.n": "5",
        "metadata.deep": '{"a": [1.5]}',
    }
    assert offer.key is None
    told = exact(answer)
    assert told["quantity"] == Decimal("0.1")
    assert told["timestamp"] == "2026-05-01T10:00:00.000001+00:00"


def test_a_quantity_of_too_many_digits_is_rounded_and_kept(world: World) -> None:
    """What no event can carry is rounded, and the attribute quantity_exact has all digits."""
    kind = meter_type(world, "p")

    assert record(world, kind, "0.000012345678901234567").status_code == 201

    [offer] = world.door.taken
    assert offer.quantity == Decimal("0.000012345678901235")
    assert (offer.attributes or {})["quantity_exact"] == "0.000012345678901234567"


@pytest.mark.parametrize("name", ["idempotency_key", "event_id", "request_id"])
def test_an_id_in_the_metadata_makes_a_repeat_known(world: World, name: str) -> None:
    """The same event twice counts once; without an id it counts twice."""
    kind = meter_type(world, "p")

    for _ in range(2):
        assert record(world, kind, 2, event_metadata={name: "r-1"}).status_code == 201
    assert len(world.door.taken) == 1

    for _ in range(2):
        assert record(world, kind, 2).status_code == 201
    assert len(world.door.taken) == 3


def test_a_request_id_is_of_its_meter_type(world: World) -> None:
    """One request may use two meters: its id is no repeat there."""
    first, second = meter_type(world, "p"), meter_type(world, "p")

    for kind in (first, second):
        assert record(world, kind, 2, event_metadata={"request_id": "r-1"}).status_code == 201

    assert len(world.door.taken) == 2


def test_an_id_for_another_event_is_a_conflict(world: World) -> None:
    """The header is an id too; with other content it is 409 and nothing is kept."""
    kind = meter_type(world, "p")
    body = {"meter_type_id": kind, "subject_id": "u", "quantity": 1}
    headers = {"idempotency-key": "k"}

    for quantity, status in ((1, 201), (1, 201), (2, 409)):
        answer = world.send(
            "POST", "/api/v1/meter-events/", json=body | {"quantity": quantity}, headers=headers
        )
        assert answer.status_code == status
    assert len(world.door.taken) == 1


def test_totals_of_any_time_are_exact(world: World) -> None:
    """Whole windows from figures, the rest from the log; both ends to the microsecond."""
    kind, other = meter_type(world, "p"), meter_type(world, "p")
    times = [
        "2026-05-01T10:00:00Z", "2026-05-01T10:07:30Z", "2026-05-01T10:20:00Z",
        "2026-05-01T11:59:59.999999Z", "2026-05-01T12:00:00Z",
    ]  # fmt: skip
    for number, time in enumerate(times):
        record(world, kind, f"0.{number + 1}", timestamp=time, subject_id=f"u{number % 2}")
    record(world, other, 100, timestamp=times[2])
    world.fold()

    def ask(**parameters: str) -> Any:  # noqa: ANN401 - JSON may be anything
        answer = world.send("GET", "/api/v1/meter-events/aggregates", params=parameters)
        assert answer.status_code == 200, answer.text
        return exact(answer)

    everything = ask(meter_type_id=kind)
    assert everything["total_quantity"] == Decimal("1.5")
    assert (everything["total_events"], everything["unique_subjects"]) == (5, 2)
    assert everything["first_event"] == "2026-05-01T10:00:00+00:00"
    assert everything["last_event"] == "2026-05-01T12:00:00+00:00"
    odd = ask(meter_type_id=kind, start_time=times[1], end_time=times[3])
    assert (odd["total_quantity"], odd["total_events"]) == (Decimal("0.5"), 2)
    assert odd["first_event"] == "2026-05-01T10:07:30+00:00"
    assert odd["last_event"] == "2026-05-01T10:20:00+00:00"
    tiny = ask(meter_type_id=kind, start_time=times[1], end_time="2026-05-01T10:08:00 00:00")
    assert (tiny["total_quantity"], tiny["unique_subjects"]) == (Decimal("0.2"), 1)
    of_one = ask(meter_type_id=kind, subject_id="u1")
    assert (of_one["total_quantity"], of_one["total_events"]) == (Decimal("0.6"), 2)
    assert ask(project_id="p")["total_quantity"] == Decimal("101.5")
    assert ask(project_id="nobody")["total_events"] == 0


def test_events_are_listed_the_latest_first(world: World) -> None:
    """Filtered by meter type, subject and time, with a limit."""
    kind, other = meter_type(world, "p"), meter_type(world, "p")
    for minute in range(5):
        record(world, kind, minute, timestamp=f"2026-05-01T10:0{minute}:00Z", subject_id="a")
    record(world, other, 9, timestamp="2026-05-01T10:09:00Z", event_metadata={"x": "y"})

    def ask(**parameters: str) -> list[Any]:
        answer = world.send("GET", "/api/v1/meter-events/", params=parameters)
        assert answer.status_code == 200, answer.text
        return list(answer.json())

    assert [each["quantity"] for each in ask(meter_type_id=kind, limit="2")] == [4, 3]
    assert [each["quantity"] for each in ask(project_id="p", subject_id="u1")] == [9]
    found = ask(meter_type_id=kind, start_time="2026-05-01T10:01:00Z", end_time="2026-05-01T10:03Z")
    assert [each["quantity"] for each in found] == [2, 1]
    assert ask(meter_type_id=other)[0]["event_metadata"] == {"x": "y"}


def test_without_a_log_lists_are_refused_and_totals_still_told(tmp_path: Path) -> None:
    """503 for what needs the log; whole windows are answered, their instants are not."""
    world = made_world(tmp_path, has_log=False)
    kind = meter_type(world, "p")
    record(world, kind, 3, timestamp="2026-05-01T10:00:00Z")
    world.fold()

    listed = world.send("GET", "/api/v1/meter-events/", params={"meter_type_id": kind})
    told = world.send(
        "GET", "/api/v1/meter-events/aggregates", params={"meter_type_id": kind}
    ).json()

    assert listed.status_code == 503
    assert "no broker" in listed.json()["detail"]
    assert (told["total_quantity"], told["first_event"]) == (3, None)


def test_an_inactive_type_takes_nothing(world: World) -> None:
    """422 with a sentence, until it is activated again."""
    kind = meter_type(world, "p")

    world.send("PATCH", f"/api/v1/meter-types/{kind}", json={"is_active": False})
    assert record(world, kind).status_code == 422
    world.send("PATCH", f"/api/v1/meter-types/{kind}", json={"is_active": True})
    assert record(world, kind).status_code == 201


def test_while_the_log_is_away_a_client_hears_503(world: World) -> None:
    """With Retry-After, as a JSON object with a detail."""
    kind = meter_type(world, "p")
    world.door.away = True

    answer = record(world, kind)

    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert "again later" in answer.json()["detail"]


def test_meter_types_are_kept_changed_and_deleted(world: World) -> None:
    """The four calls of the client, on the paths with their slashes."""
    kind = meter_type(world, "p", unit="call", description="two\nlines")

    found = world.send("GET", f"/api/v1/meter-types/{kind}").json()
    assert (found["unit"], found["aggregation_method"], found["is_active"]) == ("call", "sum", True)
    assert found["created_at"].startswith("2026-05-28T20:26:40")
    changed = world.send("PATCH", f"/api/v1/meter-types/{kind}", json={"name": "new"}).json()
    assert (changed["name"], changed["unit"]) == ("new", "call")
    listed = world.send("GET", "/api/v1/meter-types/", params={"project_id": "p"}).json()
    assert [each["id"] for each in listed] == [kind]
    assert world.send("DELETE", f"/api/v1/meter-types/{kind}").status_code == 200
    assert world.send("GET", f"/api/v1/meter-types/{kind}").status_code == 404
    assert world.send("GET", "/api/v1/meter-types/").json() == []


def test_a_key_sees_its_own_tenants_only(world: World) -> None:
    """Another project's types, events and totals are not there; naming it is 403."""
    mine, yours = world.key("mine"), world.key("yours")
    kind = meter_type(world, "yours", key=yours)
    assert record(world, kind, 7, key=yours).status_code == 201
    world.fold()

    assert record(world, kind, 1, key=mine).status_code == 404
    for path in (f"/api/v1/meter-types/{kind}", f"/api/v1/meter-events/?meter_type_id={kind}"):
        assert world.send("GET", path, key=mine).status_code == 404
    totals = "/api/v1/meter-events/aggregates"
    assert world.send("GET", totals, key=mine).json()["total_events"] == 0
    assert world.send("GET", f"{totals}?project_id=yours", key=mine).status_code == 403
    assert world.send("GET", f"{totals}?project_id=yours", key=yours).json()["total_events"] == 1
    assert world.send("GET", "/api/v1/meter-types/", key=mine).json() == []
    assert len(world.send("GET", "/api/v1/meter-types/", key=yours).json()) == 1
    foreign = world.send(
        "POST", "/api/v1/meter-types/", json={"name": "x", "project_id": "yours"}, key=mine
    )
    assert foreign.status_code == 403
    assert "not for the tenant" in foreign.json()["detail"]


def test_scopes_and_missing_keys_are_answered_as_objects(world: World) -> None:
    """401, 403 and 404 on the client's paths have a detail."""
    reader = world.key("p", scopes=[Scope.READ])

    for answer, status in (
        (world.send("GET", "/api/v1/projects/"), 401),
        (world.send("GET", "/api/v1/projects/", key="wrong"), 401),
        (world.send("POST", "/api/v1/projects/", json={"name": "x"}, key=reader), 403),
        (world.send("GET", "/api/v1/projects/nothing", key=reader), 404),
    ):
        assert answer.status_code == status
        assert isinstance(answer.json()["detail"], str)


def test_a_project_of_a_bound_key_is_its_tenant(world: World) -> None:
    """It has the tenant's id, is made once, and told again for the same words."""
    key = world.key("acme")

    first = world.send("POST", "/api/v1/projects/", json={"name": "A"}, key=key)
    again = world.send("POST", "/api/v1/projects/", json={"name": "A"}, key=key)
    other = world.send("POST", "/api/v1/projects/", json={"name": "B"}, key=key)
    foreign = world.send("POST", "/api/v1/projects/", json={"name": "B", "id": "x"}, key=key)

    assert (first.status_code, first.json()["id"]) == (201, "acme")
    assert (again.status_code, again.json()) == (201, first.json())
    assert (other.status_code, foreign.status_code) == (409, 403)
    shown = world.send("GET", "/projects", key=key).json()
    assert [each["name"] for each in shown] == ["A"]


def test_projects_of_a_key_for_all_get_ids(world: World) -> None:
    """New ones each time, but under one Idempotency-Key; the bound key sees its own of them."""
    everybody = world.key()

    made = [
        world.send("POST", "/projects", json={"name": "A"}, key=everybody, headers=headers).json()
        for headers in ({}, {}, {"idempotency-key": "k"}, {"idempotency-key": "k"})
    ]

    assert len({each["id"] for each in made}) == 3
    own = world.key(made[0]["id"])
    assert world.send("GET", "/api/v1/projects/", key=own).json() == [made[0]]
    assert world.send("GET", f"/projects/{made[1]['id']}", key=own).status_code == 404
    assert world.send("DELETE", f"/projects/{made[0]['id']}", key=own).json() == {"success": True}
    assert len(world.send("GET", "/projects", key=everybody).json()) == 2


def test_without_a_project_a_key_has_one_of_its_own(world: World) -> None:
    """A request that names none speaks for the key; with nothing shown it is refused."""
    anonymous = world.send("POST", "/api/v1/meter-types/", json={"name": "x"})
    assert anonymous.status_code == 422
    shown = {"authorization": "Bearer any-secret"}
    made = world.send("POST", "/api/v1/meter-types/", json={"name": "x"}, headers=shown)
    assert made.json()["project_id"].startswith("agentmeter-")
    assert world.time == [NOW]


def test_health_is_what_the_vendors_answer(world: World) -> None:
    """All fields of the vendors' servers, without any key."""
    world.key("x")

    answer = world.send("GET", "/health")

    assert answer.status_code == 200
    assert answer.json().keys() == {
        "status", "timestamp", "supabase", "environment", "uptime_seconds",
    }  # fmt: skip

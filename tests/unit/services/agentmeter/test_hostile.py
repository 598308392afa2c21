"""Anything at all on the clients' paths: never a 500, never another tenant."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.services.agentmeter.world import World, made_world

SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(max_size=20),
    st.sampled_from(["mine", "yours", "", "a/../b", "2026-05-01", "x" * 300, "NaN", "1e9999"]),
)  # fmt: skip
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)
FIELDS = (
    "id", "name", "description", "project_id", "user_id", "agent_id", "amount", "unit_price",
    "api_calls", "tokens_in", "total_cost", "timestamp", "metadata", "event_type", "payment_type",
    "threshold_amount", "meter_type_id", "subject_id", "quantity", "event_metadata", "timezone",
    "enforce_threshold", "is_active", "period_start", "period_end", "status", "unit",
)  # fmt: skip
BODIES = st.one_of(
    st.dictionaries(st.sampled_from(FIELDS), VALUES, max_size=8).map(
        lambda value: json.dumps(value).encode()
    ),
    VALUES.map(lambda value: json.dumps(value).encode()),
    st.binary(max_size=40),
    st.sampled_from([
        b'{"quantity": 1e999999, "meter_type_id": "x"}', b'{"amount": 1e999999}',
        b'{"a": ' * 3000, b"[" * 50_000, b'{"amount": ' + b"9" * 5000 + b"}", b'{"x": "\xff"}',
        b'{"project_id": "\\ud800"}', b'{"amount": -0.0, "user_id": "u"}', b"null", b"",
        b'{"id": "\\u0000", "name": "x"}',
    ]),
)  # fmt: skip
PATHS = (
    "/api/v1/projects/", "/api/v1/projects/x", "/projects", "/projects/yours",
    "/api/v1/meter-types/", "/api/v1/meter-types/x", "/api/v1/meter-events/",
    "/api/v1/meter-events/aggregates",
    "/api/v1/users/u/meter", "/api/v1/users/u/meter/increment", "/api/v1/users/u%00/meter/reset",
    "/api/meter", "/api/meter/event", "/api/meter/events", "/api/meter/stats", "/api/meter/usage",
    "/api/meter/increment", "/api/meter/reset", "/billing-records", "/billing-records/x",
    "/api/v1/meter-types/%F0%9F%98%80%2e%2e", "/projects/..%2Fyours",
)  # fmt: skip
QUERIES = st.dictionaries(
    st.sampled_from((
        "project_id", "user_id", "meter_type_id", "subject_id", "start_time", "end_time",
        "start_date", "end_date", "limit", "timeframe", "agent_id", "event_type",
    )),
    st.text(max_size=20) | st.sampled_from(
        ["yours", "2026-05-01", "0", "-1", "99999999999 days", "x" * 2000]
    ),
    max_size=4,
)  # fmt: skip


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> tuple[World, str, str]:
    """A world with something of ``yours`` in it, and keys of two tenants."""
    world = made_world(Path(tmp_path_factory.mktemp("hostile")))
    mine, yours = world.key("mine"), world.key("yours")
    body = {"id": "secret-id", "user_id": "secret-user", "unit_price": 42.42, "api_calls": 1}
    assert world.send("POST", "/api/meter/event", json=body, key=yours).status_code == 201
    named = {"name": "secret-name"}
    assert world.send("POST", "/projects", json=named, key=yours).status_code == 201
    assert world.send("POST", "/api/v1/meter-types/", json=named, key=yours).status_code == 201
    return world, mine, yours


@settings(max_examples=200)
@given(
    st.sampled_from(("GET", "POST", "PUT", "PATCH", "DELETE")),
    st.sampled_from(PATHS),
    QUERIES,
    BODIES,
)
def test_anything_is_answered_in_shape_and_of_the_own_tenant(
    hostile: tuple[World, str, str], method: str, path: str, query: dict[str, str], body: bytes
) -> None:
    """Whatever is sent, the answer is no 5xx, JSON, and has nothing of somebody else."""
    world, mine, _ = hostile
    before = len(world.door.taken)

    answer = world.send(method, path, params=query, content=body, key=mine)

    assert answer.status_code < 500, answer.text
    told: Any = answer.json()
    if answer.status_code >= 400:
        assert isinstance(told["detail"], str)
    assert "secret" not in answer.text
    assert {offer.tenant for offer in world.door.taken[before:]} <= {"mine"}


@pytest.mark.parametrize(
    "path",
    [
        "/api/v1/meter-events/aggregates?subject_id=", "/api/v1/meter-events/?subject_id=",
        "/api/meter/stats?agent_id=", "/api/meter/stats?timeframe=", "/api/meter/usage?user_id=",
        "/api/meter/events?agent_id=", "/api/meter/events?event_type=", "/projects/",
        "/api/v1/meter-events/?meter_type_id=", "/billing-records/", "/api/v1/meter-types/",
    ],
)  # fmt: skip
def test_texts_that_are_too_long_are_refused(hostile: tuple[World, str, str], path: str) -> None:
    """A sentence about the field, or nothing of that name."""
    world, mine, _ = hostile

    answer = world.send("GET", path + "x" * 5000, key=mine)

    assert answer.status_code in {200, 404, 422}
    assert answer.status_code != 200 or answer.json() == []

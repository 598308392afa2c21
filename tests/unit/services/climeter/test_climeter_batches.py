"""`POST /v1/events/batch`: what CLIMeter's client sends is counted, or told; never thrown away."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meterstream_services.clients.partly_kept import PartlyKept
from meterstream_services.gateway.port import Patience
from meterstream_services.keys.principal import ANYBODY, Scope
from tests.unit.services.clients.world import NOW, SOMEBODY, ClientWorld, bound_to, micros

if TYPE_CHECKING:
    from pathlib import Path

PATH = "/v1/events/batch"
TENANT = f"climeter-{SOMEBODY.digest}"
CALL: dict[str, Any] = {
    "command": "search_code",
    "status": "success",
    "tool_slug": "my-tool",
    "metadata": {},
    "timestamp": "2026-11-21T01:13:39Z",
}


@pytest.fixture
def world(tmp_path: Path) -> ClientWorld:
    """The application with the catalogue of CLIMeter, asked with some key."""
    return ClientWorld("climeter", tmp_path)


def _send(world: ClientWorld, *events: object) -> dict[str, Any]:
    answer = world.send("POST", PATH, content=json.dumps({"events": events}).encode())
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def test_a_call_is_an_event_of_the_keys_tenant(world: ClientWorld) -> None:
    """As decision 23 has it; a key of one tenant meters for that."""
    _send(world, CALL | {"metadata": {"source": "cli", "n": 2, "x": [1, 2.5]}})
    world.principal = bound_to("acme")
    _send(world, CALL)

    first, second = world.door.taken
    assert (first.type, first.tenant, first.quantity, first.key) == (
        "climeter.call",
        TENANT,
        1,
        None,
    )
    assert first.time == 1795223619_000000
    assert first.attributes == {
        "tool": "my-tool",
        "command": "search_code",
        "status": "success",
        "metadata.source": "cli",
        "metadata.n": "2",
        "metadata.x": "[1, 2.5]",
    }
    assert second.tenant == "acme"
    assert set(world.door.patience) == {Patience.LOG_OR_SPOOL}


def test_old_clients_and_empty_times_are_read(world: ClientWorld) -> None:
    """``event_name`` and no status; no time, and one that lies far ahead, is the arrival's."""
    _send(
        world,
        {"tool_slug": "", "event_name": "ocr", "price_usd": 0.1, "timestamp": ""},
        CALL | {"timestamp": "2026-11-21T01:13:39"},
        CALL | {"timestamp": "2126-11-21T01:13:39Z"},
        CALL | {"metadata": None, "tool_slug": 7, "status": 0},
    )

    first, local, ahead, odd = world.door.taken
    assert first.attributes == {"tool": "ocr", "command": "ocr", "status": "success"}
    assert first.time is not None
    assert local.time == 1795223619_000000
    assert ahead.time is not None
    assert ahead.time < micros(NOW) + 10 * 365 * 86_400 * 1_000_000
    assert odd.attributes == {"tool": "search_code", "command": "search_code", "status": "success"}


def test_equal_calls_are_different_calls(world: ClientWorld) -> None:
    """Two processes send the same bytes legitimately, so equal content means nothing."""
    _send(world, CALL, CALL)
    _send(world, CALL, CALL)

    assert len(world.door.taken) == 4


def test_ids_in_metadata_are_keys(world: ClientWorld) -> None:
    """A key or an event's id is one event; a request's id is one event for each of its calls."""
    by_key = CALL | {"metadata": {"idempotency_key": "k-1", "event_id": "e-1"}}
    by_event = CALL | {"metadata": {"event_id": "e-2"}}
    by_request = CALL | {"metadata": {"request_id": "r-1"}}
    batch = [by_key, by_event, by_request, by_request | {"command": "read"}]

    first, again = _send(world, *batch), _send(world, *batch)

    assert (first["accepted"], again["accepted"], again["duplicates"]) == (4, 0, 4)
    keys = [offer.key for offer in world.door.taken]
    assert keys[:2] == ["k-1", "e-2"]
    assert len(set(keys)) == 4
    conflict = _send(world, by_key | {"command": "other"}, CALL)
    assert (conflict["accepted"], conflict["rejected"]) == (1, 1)


_LONG = "x" * 300


@pytest.mark.parametrize(
    ("metadata", "key"),
    [
        ({f"k{number}": number for number in range(40)} | {"idempotency_key": "last"}, "last"),
        ({f"k{number}": "x" * 1000 for number in range(13)} | {"event_id": "heavy"}, "heavy"),
        ({"idempotency_key": 17}, "17"),
        ({"idempotency_key": 1.50}, "1.5"),
        ({"idempotency_key": _LONG}, f"sha256:{hashlib.sha256(_LONG.encode()).hexdigest()}"),
        ({"event_id": "a\nb"}, f"sha256:{hashlib.sha256(b'a' + bytes([10]) + b'b').hexdigest()}"),
        ({"idempotency_key": "", "event_id": "second"}, "second"),
        ({"idempotency_key": None, "event_id": ["no", "id"]}, None),
    ],
)
def test_an_id_is_found_wherever_it_stands(
    world: ClientWorld, metadata: dict[str, Any], key: str | None
) -> None:
    """Behind more than is kept, as a number, longer than a key may be: equal ids count once."""
    for _ in range(2):
        _send(world, CALL | {"metadata": metadata})

    assert [offer.key for offer in world.door.taken] == ([key] if key else [None, None])


def test_long_ids_that_begin_alike_are_different_ones(world: ClientWorld) -> None:
    """Nothing of them is cut off; a request's id as little."""
    for name in ("idempotency_key", "request_id"):
        _send(world, *(CALL | {"metadata": {name: _LONG + end}} for end in ("a", "b", "a")))

    assert len(world.door.taken) == 4


def test_a_bad_event_spoils_no_other(world: ClientWorld) -> None:
    """It is told by its place, and counted; the diagnostic one is ignored."""
    answer = _send(
        world,
        CALL,
        7,
        {"metadata": {}},
        CALL | {"timestamp": "soon"},
        CALL | {"timestamp": 5},
        CALL | {"tool_slug": "_diagnostic", "timestamp": ""},
        CALL,
    )

    assert (answer["accepted"], answer["rejected"], answer["ignored"]) == (2, 4, 1)
    assert [error["index"] for error in answer["errors"]] == [1, 2, 3, 4]
    assert "meterstream_climeter_events_refused_total 4.0" in world.get("/metrics").text
    assert len(world.door.taken) == 2


def test_what_only_python_calls_json_is_read(world: ClientWorld) -> None:
    """NaN, lone surrogates and deep metadata come from the client's own encoder."""
    deep: Any = "x"
    for _ in range(900):
        deep = [deep]
    metadata: list[Any] = [{"a": float("nan")}, {"b": "\ud800"}, {"c": deep}]
    told = [CALL | {"metadata": each} for each in metadata]

    answer = _send(world, *told, CALL)

    assert answer["accepted"] + answer["rejected"] == 4
    assert answer["accepted"] >= 3
    assert {"metadata.a": "NaN", "metadata.b": "?"}.items() <= {
        name: text for offer in world.door.taken for name, text in (offer.attributes or {}).items()
    }.items()


@pytest.mark.parametrize(
    "body", [b"", b"no", b"[]", b"{}", b'{"events": {}}', b"\xff", b"[" * 5000]
)
def test_what_is_no_batch_at_all_is_400(world: ClientWorld, body: bytes) -> None:
    """There is nothing in it to keep; the answer is JSON with ``error``."""
    answer = world.send("POST", PATH, content=body)

    assert answer.status_code == 400
    assert answer.json()["error"] == "bad_request"


def test_overload_is_503_and_what_was_kept_is_not_counted_again(world: ClientWorld) -> None:
    """The client sends the same bytes again; each of its events counts once in the end."""
    batch = [CALL | {"command": f"c{number}"} for number in range(5)]
    body = json.dumps({"events": batch}).encode()
    for room in (2, 1, 0):
        world.door.room = room
        answer = world.send("POST", PATH, content=body)
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    world.door.room = None

    assert world.send("POST", PATH, content=body).json()["accepted"] == 5
    assert [(offer.attributes or {})["command"] for offer in world.door.taken] == [
        f"c{number}" for number in range(5)
    ]
    assert world.send("POST", PATH, content=body).json()["accepted"] == 5
    assert len(world.door.taken) == 10


def test_equal_batches_of_two_clients_add_up_under_overload(world: ClientWorld) -> None:
    """Two that were refused together are remembered apart, and come to twice the events."""
    kept = PartlyKept()
    kept.note(b"same", [0, 1, 2])
    kept.note(b"same", [0])
    kept.note(b"other", [])

    assert {kept.take(b"same"), kept.take(b"same")} == {frozenset({0, 1, 2}), frozenset({0})}
    assert (kept.take(b"same"), kept.take(b"other")) == (frozenset(), frozenset())


def test_the_key_says_who_pays(world: ClientWorld) -> None:
    """Without one it is 401; one of several tenants says none; one that only reads may not."""
    answers: list[int] = []
    for principal in (
        ANYBODY,
        bound_to("a", "b"),
        bound_to("a", scopes=[Scope.READ]),
    ):
        world.principal = principal
        answers.append(world.post(PATH, {"events": [CALL]}).status_code)

    assert answers == [401, 403, 403]
    assert not world.door.taken


SINGLE: dict[str, Any] = {
    "tool_id": "tool-1",
    "duration_ms": 12.5,
    "success": False,
    "metadata": {"model": "x"},
    "timestamp": "2026-11-21T11:59:59Z",
    "idempotency_key": "once",
}


def test_the_documented_single_event(world: ClientWorld) -> None:
    """``POST /v1/events`` with a ``tool_id``: one event, once under its key."""
    first, again = world.post("/v1/events", SINGLE), world.post("/v1/events", SINGLE)

    assert (first.status_code, again.status_code) == (201, 201)
    assert first.json() == {
        "event_id": "once",
        "tool_id": "tool-1",
        "status": "recorded",
        "timestamp": "2026-11-21T11:59:59Z",
    }
    [offer] = world.door.taken
    assert offer.attributes == {
        "tool": "tool-1",
        "command": "call",
        "status": "error",
        "metadata.model": "x",
        "duration_ms": "12.5",
    }


def test_single_events_in_the_future_happen_now_and_old_ones_are_refused(
    world: ClientWorld,
) -> None:
    """As it is documented: clamped, and 422 beyond 24 hours."""
    ahead = world.post("/v1/events", SINGLE | {"timestamp": "2026-11-21T12:00:09Z"})
    old = world.post("/v1/events", SINGLE | {"timestamp": "2026-11-20T11:59:59Z"})

    assert (ahead.status_code, ahead.json()["timestamp"]) == (201, "2026-11-21T12:00:00Z")
    assert old.status_code == 422
    assert "24 hours" in old.json()["message"]


@pytest.mark.parametrize(
    "change",
    [
        {"metadata": {str(number): 1 for number in range(11)}},
        {"metadata": {"a": "x" * 257}},
        {"metadata": []},
        {"success": "yes"},
        {"duration_ms": -1},
        {"duration_ms": "1"},
        {"timestamp": "soon"},
        {"idempotency_key": ""},
        {"idempotency_key": 5},
        {"event_name": 5},
    ],
)
def test_a_wrong_single_event_is_422(world: ClientWorld, change: dict[str, Any]) -> None:
    """In the client's shape, and nothing is kept."""
    answer = world.post("/v1/events", SINGLE | change)

    assert (answer.status_code, answer.json()["error"]) == (422, "unprocessable_entity")
    assert not world.door.taken


_SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12)
_VALUES = st.recursive(
    _SCALARS | st.sampled_from(["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=8,
)
_NAMES = st.sampled_from(
    [
        *("command", "event_name", "tool_slug", "tool_id", "status", "metadata", "timestamp"),
        *("success", "duration_ms", "idempotency_key", "id", "amount", "balance", "price"),
        *("free_calls", "checkout_url"),
    ]
)
_OBJECTS = st.dictionaries(_NAMES, _VALUES, max_size=6)


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory: pytest.TempPathFactory) -> ClientWorld:
    """One world for all examples."""
    return ClientWorld("climeter", tmp_path_factory.mktemp("fuzz"))


@settings(max_examples=50)
@given(events=st.lists(_OBJECTS | _VALUES, max_size=3), body=_OBJECTS)
def test_no_body_makes_a_500_or_another_tenants_event(
    fuzzed: ClientWorld, events: list[object], body: dict[str, object]
) -> None:
    """A batch is 200 whatever is in it; everything else is answered, in JSON."""
    some = [{**CALL, **each} if isinstance(each, dict) else each for each in events]
    assert _send(fuzzed, *some)["rejected"] <= len(some)
    for method, path, sent in (
        ("POST", "/v1/events", {**SINGLE, **body}),
        ("POST", "/v1/consumer/call", body),
        ("PUT", "/v1/clients/climeter/tools/t", body),
        ("PUT", "/v1/clients/climeter/wallets/w", body),
        ("POST", "/v1/clients/climeter/wallets/w/topups", body),
    ):
        answer = fuzzed.send(
            method,
            path,
            content=json.dumps(sent).encode(),
            headers={"content-type": "application/json"},
        )
        assert answer.status_code in {200, 201, 400, 402, 409, 422}, answer.text
        assert isinstance(answer.json(), dict)
    assert {offer.tenant for offer in fuzzed.door.taken} <= {TENANT}

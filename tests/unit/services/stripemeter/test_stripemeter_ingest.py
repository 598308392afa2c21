"""`POST /v1/events/ingest`: what the SDKs of StripeMeter send becomes events, each for itself."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from meterstream_services.gateway.port import Patience
from tests.unit.services.clients.world import ClientWorld, bound_to

if TYPE_CHECKING:
    from pathlib import Path

PATH = "/v1/events/ingest"
SNAKE: dict[str, Any] = {
    "tenant_id": "9b1deb4d",
    "metric": "api_calls",
    "customer_ref": "cus_1",
    "quantity": 100.0,
    "ts": "2026-11-21T01:16:23.935843Z",
    "meta": {"region": "us-east-1", "n": 1.5, "deep": {"a": [0.1]}},
    "idempotency_key": "evt_48d571818b17ee59",
    "source": "sdk",
}
CAMEL: dict[str, Any] = {
    "tenantId": "9b1deb4d",
    "metric": "storage_gb",
    "customerRef": "cus_1",
    "resourceId": "disk-1",
    "quantity": 2.5,
    "ts": "2026-11-21T01:16:23.935Z",
    "idempotencyKey": "evt_2",
}


@pytest.fixture
def world(tmp_path: Path) -> ClientWorld:
    """The application with the catalogue of StripeMeter."""
    return ClientWorld("stripemeter", tmp_path)


def _send(world: ClientWorld, *events: object, **headers: str) -> tuple[int, dict[str, Any]]:
    answer = world.post(PATH, {"events": events}, headers=headers)
    return answer.status_code, answer.json()


def test_what_the_python_sdk_sends_is_an_event_with_its_key(world: ClientWorld) -> None:
    """Its snake_case is read, and the event is what decision 23 says."""
    status, answer = _send(world, SNAKE)

    assert (status, answer["accepted"], answer["duplicates"]) == (200, 1, 0)
    assert answer["results"] == [{"idempotencyKey": "evt_48d571818b17ee59", "status": "accepted"}]
    assert "errors" not in answer
    [offer] = world.door.taken
    assert (offer.type, offer.tenant, offer.quantity) == ("stripemeter.usage", "cus_1", 100)
    assert offer.time == 1795223783_935843
    assert offer.key == "evt_48d571818b17ee59"
    assert offer.attributes == {
        "account": "9b1deb4d",
        "metric": "api_calls",
        "meta.region": "us-east-1",
        "meta.n": "1.5",
        "meta.deep": '{"a": [0.1]}',
    }


def test_camel_case_is_the_same(world: ClientWorld) -> None:
    """Resources are subjects, quantities keep their digits."""
    assert _send(world, CAMEL)[0] == 200
    [offer] = world.door.taken
    assert (offer.subject, offer.quantity, offer.key) == ("disk-1", Decimal("2.5"), "evt_2")


def test_a_repeat_is_a_duplicate_and_other_content_under_a_key_is_told(world: ClientWorld) -> None:
    """A client that never got its answer sends the same again, and counts once."""
    _send(world, SNAKE)

    status, answer = _send(world, SNAKE, CAMEL, CAMEL | {"quantity": 3})

    assert (status, answer["accepted"], answer["duplicates"]) == (200, 1, 1)
    assert [result["status"] for result in answer["results"]] == ["duplicate", "accepted", "error"]
    assert [error["index"] for error in answer["errors"]] == [2]
    assert _send(world, CAMEL | {"quantity": 3})[0] == 409
    assert len(world.door.taken) == 2


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"quantity": 0}, "quantity"),
        ({"quantity": -1}, "quantity"),
        ({"quantity": "5"}, "quantity"),
        ({"quantity": True}, "quantity"),
        ({"quantity": None}, "quantity"),
        ({"metric": ""}, "metric"),
        ({"metric": "m" * 101}, "metric"),
        ({"customerRef": "c" * 256}, "customerRef"),
        ({"tenantId": None}, "tenantId"),
        ({"ts": "2026-11-21T13:00:01Z"}, "ts"),
        ({"ts": "soon"}, "ts"),
        ({"ts": 5}, "ts"),
        ({"meta": []}, "meta"),
        ({"meta": {"a": "x" * 4100}}, "meta"),
        ({"source": "magic"}, "source"),
        ({"source": []}, "source"),
        ({"resourceId": 7}, "resource_id"),
        ({"idempotencyKey": ""}, "idempotency_key"),
    ],
)
def test_a_wrong_event_is_told_and_keeps_no_other_from_being_taken(
    world: ClientWorld, change: dict[str, Any], field: str
) -> None:
    """Alone it is 400, beside a good one it is an error of the answer."""
    alone_status, alone = _send(world, CAMEL | change)
    status, answer = _send(world, CAMEL | change, SNAKE)

    assert (alone_status, alone["accepted"]) == (400, 0)
    assert alone["error"] == alone["message"]
    assert field in alone["errors"][0]["error"]
    assert (status, answer["accepted"]) == (200, 1)
    assert answer["errors"][0]["index"] == 0
    assert [offer.key for offer in world.door.taken] == ["evt_48d571818b17ee59"]


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"events":[]}', b'{"events":{}}', b"\xff"])
def test_a_body_that_is_no_batch_is_refused_whole(world: ClientWorld, body: bytes) -> None:
    """With the vendor's own names of the message."""
    answer = world.send("POST", PATH, content=body)

    assert answer.status_code == 400
    assert set(answer.json()) == {"error", "message"}


def test_a_thousand_events_are_taken_and_one_more_are_not(world: ClientWorld) -> None:
    """The vendor's bound."""
    events = [{**CAMEL, "idempotencyKey": f"k{number}", "ts": None} for number in range(1001)]

    assert _send(world, *events)[0] == 400
    assert _send(world, *events[:1000])[1]["accepted"] == 1000


def test_the_header_gives_each_event_a_key_of_its_own(world: ClientWorld) -> None:
    """Not the same to all of them; with it, times are the door's, and a repeat is one."""
    plain = {name: CAMEL[name] for name in ("tenantId", "metric", "customerRef", "quantity")}

    first = _send(world, plain, plain, SNAKE, **{"Idempotency-Key": "retry-1"})[1]
    again = _send(world, plain, plain, SNAKE, **{"Idempotency-Key": "retry-1"})[1]

    assert [each["idempotencyKey"] for each in first["results"]] == [
        "retry-1:0",
        "retry-1:1",
        "evt_48d571818b17ee59",
    ]
    assert (first["accepted"], again["accepted"], again["duplicates"]) == (3, 0, 3)
    assert _send(world, plain, **{"Idempotency-Key": "x" * 201})[0] == 400


def test_without_a_key_the_time_makes_one_and_without_both_the_spool_counts(
    world: ClientWorld,
) -> None:
    """The same call at the same time is the same event; one without a time cannot be repeated."""
    timed = {name: value for name, value in CAMEL.items() if name != "idempotencyKey"}
    plain = {name: value for name, value in timed.items() if name != "ts"}

    _send(world, timed)
    answer = _send(world, timed, timed | {"quantity": 4})[1]
    _send(world, plain)
    _send(world, plain)

    assert (answer["accepted"], answer["duplicates"]) == (1, 1)
    assert len(world.door.taken) == 4
    assert world.door.patience[1:] == [Patience.LOG, Patience.LOG_OR_SPOOL, Patience.LOG_OR_SPOOL]


def test_while_the_log_is_away_nothing_is_promised(world: ClientWorld) -> None:
    """503, with the time to come again; the SDK repeats it under the same keys."""
    world.door.room = 1

    answer = world.post(PATH, {"events": [SNAKE, CAMEL]})

    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "1"
    world.door.room = None
    assert _send(world, SNAKE, CAMEL)[1]["duplicates"] == 1
    assert len(world.door.taken) == 2


def test_a_key_bound_to_customers_meters_no_others(world: ClientWorld) -> None:
    """Beside its own they are errors; alone they are 403."""
    world.principal = bound_to("cus_1")
    foreign = CAMEL | {"customerRef": "cus_2"}

    status, answer = _send(world, SNAKE, foreign)

    assert (status, answer["accepted"], answer["errors"][0]["index"]) == (200, 1, 1)
    assert _send(world, foreign)[0] == 403
    assert {offer.tenant for offer in world.door.taken} == {"cus_1"}

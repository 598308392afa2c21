"""POST /v1/events in native JSON: what is taken, what is refused, and what is answered."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from meterstream_schemas.events import EventKind
from meterstream_services.gateway.port import Offer, Patience
from meterstream_services.http.app import create_app
from meterstream_services.http.settings import Settings

if TYPE_CHECKING:
    from pathlib import Path

    from tests.unit.services.ingest.conftest import Gate

WHOLE: dict[str, Any] = {
    "type": "api.request",
    "tenant": "acme",
    "quantity": "2.50",
    "time": "2026-11-21T10:00:00.25+02:00",
    "session": "s1",
    "subject": "u42",
    "attributes": {"route": "/pay", "bytes": 12, "ratio": 0.1, "cached": True, "none": None},
    "key": "k1",
    "kind": "usage",
}


def test_every_member_arrives_as_it_was_sent(gate: Gate) -> None:
    """A whole event is offered with exact texts, and its place is answered with 201."""
    answer = gate.post(WHOLE)

    assert (answer.status_code, answer.json()) == (
        201,
        {"status": "accepted", "partition": 0, "offset": 0},
    )
    assert gate.door.taken == [
        Offer(
            "api.request",
            "acme",
            "2.50",
            1_795_248_000_250_000,
            EventKind.USAGE,
            "s1",
            "u42",
            {"route": "/pay", "bytes": "12", "ratio": "0.1", "cached": "true"},
            "k1",
        )
    ]


@pytest.mark.parametrize(
    ("text", "quantity"),
    [("3", 3), ("0.1", Decimal("0.1")), ("1e3", Decimal("1e3")), ('"1.50"', "1.50"), ("-4", -4)],
)
def test_quantities_keep_their_digits(gate: Gate, text: str, quantity: object) -> None:
    """A number, a number with a fraction, or decimal text: no digit passes through a float."""
    answer = gate.post(
        content=f'{{"type": "t", "tenant": "a", "quantity": {text}}}'.encode(),
        headers={"content-type": "application/json"},
    )

    assert answer.status_code == 201
    taken = gate.door.taken[0].quantity
    assert (taken, type(taken)) == (quantity, type(quantity))


@pytest.mark.parametrize(
    ("time", "micros"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("1970-01-01t00:00:01.123456789z", 1_123_456),
        ("1970-01-01 01:00+01:00", 0),
        ("1970-01-01T00:00:00,5-0130", 5_400_500_000),
        (7, 7),
    ],
)
def test_times(gate: Gate, time: object, micros: int) -> None:
    """ISO 8601 with an offset, cut to microseconds, or integer microseconds."""
    assert gate.post({"type": "t", "tenant": "a", "time": time}).status_code == 201
    assert gate.door.taken[0].time == micros


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"type": None}, "type"),
        ({"type": ""}, "type"),
        ({"type": 7}, "type"),
        ({"tenant": None}, "tenant"),
        ({"tenant": ["acme"]}, "tenant"),
        ({"tenant": "a\x00b"}, "tenant"),
        ({"tenant": "t" * 129}, "tenant"),
        ({"quantity": None}, "quantity"),
        ({"quantity": True}, "quantity"),
        ({"quantity": "1,5"}, "quantity"),
        ({"quantity": "1e99"}, "quantity"),
        ({"quantity": [1]}, "quantity"),
        ({"time": "2026-11-21T10:00:00"}, "time"),
        ({"time": "2026-13-21T10:00:00Z"}, "time"),
        ({"time": "0001-01-01T00:00:00+10:00"}, "time"),
        ({"time": "1969-12-31T23:59:59Z"}, "time"),
        ({"time": 1.5}, "time"),
        ({"time": True}, "time"),
        ({"session": 5}, "session"),
        ({"subject": {}}, "subject"),
        ({"key": 5}, "key"),
        ({"key": "k" * 257}, "key"),
        ({"attributes": []}, "attributes"),
        ({"attributes": {"a": {}}}, "attributes.a"),
        ({"attributes": {"": "x"}}, "attributes"),
        ({"attributes": {"a": "x" * 1025}}, "attributes.a"),
        ({"attributes": {str(n): "" for n in range(33)}}, "attributes"),
        ({"kind": "MARK"}, "kind"),
        ({"kind": ["usage"]}, "kind"),
        ({"kind": "session_start", "session": None, "subject": None}, "session"),
        ({"kind": "session_end"}, "quantity"),
        ({"kind": "session_end", "quantity": [0]}, "quantity"),
        ({"kind": "void", "key": None}, "key"),
        ({"kind": "void", "time": None}, "time"),
        ({"tennant": "acme"}, "tennant"),
    ],
)
def test_what_is_refused_names_its_field(gate: Gate, change: dict[str, Any], field: str) -> None:
    """A wrong member is 422 with the field and a reason, and nothing is kept."""
    answer = gate.post(WHOLE | change)

    assert answer.status_code == 422, answer.text
    (flaw,) = answer.json()["errors"]
    assert flaw["field"] == field
    assert flaw["reason"]
    assert gate.door.taken == []


def test_the_members_that_are_not_known_are_named(gate: Gate) -> None:
    """Misspelt members are refused in one sentence with their names and the known ones."""
    answer = gate.post(WHOLE | {"tennant": "x", "Quantity": 2})

    assert "'Quantity', 'tennant'" in answer.json()["detail"]
    assert "attributes" in answer.json()["detail"]


@pytest.mark.parametrize("kind", ["session_start", "session_heartbeat", "session_end"])
def test_boundaries_of_sessions(gate: Gate, kind: str) -> None:
    """A boundary has a session or a subject, and the quantity 0 that the SDK gives it."""
    answer = gate.post({"type": "agent.run", "tenant": "a", "subject": "u", "kind": kind})

    assert answer.status_code == 201
    assert gate.door.taken[0].kind is EventKind[kind.upper()]
    assert gate.door.taken[0].quantity == 0


def test_a_void_repeats_its_event(gate: Gate) -> None:
    """A void with key and time is offered as such."""
    assert gate.post(WHOLE | {"kind": "void"}).status_code == 201
    assert gate.door.taken[0].kind is EventKind.VOID


def test_the_same_key_again(gate: Gate) -> None:
    """The same content is a duplicate with 200 and the first place; other content is 409."""
    gate.post(WHOLE)

    again = gate.post(WHOLE)
    other = gate.post(WHOLE | {"quantity": 9})

    assert (again.status_code, again.json()) == (
        200,
        {"status": "duplicate", "partition": 0, "offset": 0},
    )
    assert (other.status_code, other.json()["type"]) == (
        409,
        "urn:meterstream:problem:key-conflict",
    )
    assert len(gate.door.taken) == 1


def test_the_header_is_the_key_of_an_event_without_one(gate: Gate) -> None:
    """Idempotency-Key makes a repeat a duplicate, and does not displace an event's own key."""
    headers = {"idempotency-key": "h1"}

    statuses = [
        gate.post({"type": "t", "tenant": "a"}, headers=headers).status_code for _ in range(2)
    ]
    gate.post({"type": "t", "tenant": "a", "key": "own"}, headers=headers)

    assert statuses == [201, 200]
    assert [offer.key for offer in gate.door.taken] == ["h1", "own"]


@pytest.mark.parametrize("key", ["", "k" * 241, "ö", "a\tb"])
def test_a_header_that_can_be_no_key(gate: Gate, key: str) -> None:
    """An empty, long or unprintable Idempotency-Key is refused before anything is taken."""
    answer = gate.post(WHOLE, headers=[("idempotency-key", key.encode("latin-1"))])

    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "Idempotency-Key")
    assert gate.door.taken == []


def test_a_key_of_one_tenant_speaks_for_it(gate: Gate) -> None:
    """Without a tenant the key's only one is meant; another one is 403 and nothing is kept."""
    gate.bind("acme")

    own = gate.post({"type": "t"})
    foreign = gate.post({"type": "t", "tenant": "other"})

    assert own.status_code == 201
    assert (foreign.status_code, foreign.json()["type"]) == (
        403,
        "urn:meterstream:problem:foreign-tenant",
    )
    assert [offer.tenant for offer in gate.door.taken] == ["acme"]


def test_a_key_of_several_tenants_has_to_be_told(gate: Gate) -> None:
    """With two tenants none is meant by itself."""
    gate.bind("acme", "umbrella")

    assert gate.post({"type": "t"}).json()["errors"][0]["field"] == "tenant"
    assert gate.post({"type": "t", "tenant": "umbrella"}).status_code == 201


def test_nothing_is_promised_while_the_log_is_away(gate: Gate) -> None:
    """What the door cannot answer for is 503 with Retry-After."""
    gate.door.away = True

    answer = gate.post(WHOLE)

    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")


def test_an_event_without_a_key_may_wait_in_the_spool(gate: Gate) -> None:
    """Who could not repeat it without counting it twice is told 202 once the spool has it."""
    gate.door.log_is_away = True

    answer = gate.post({"type": "t", "tenant": "a"})

    assert (answer.status_code, answer.json()) == (202, {"status": "spooled"})
    assert gate.door.patience == [Patience.LOG_OR_SPOOL]


def test_who_asks_for_a_receipt_gets_a_key(gate: Gate) -> None:
    """With Prefer: respond-async the spool's word is enough, and the receipt is the event's key."""
    prefer = {"prefer": "handling=lenient, respond-async"}

    named = gate.post(WHOLE, headers=prefer)
    made = gate.post({"type": "t", "tenant": "a"}, headers=prefer)

    assert (named.status_code, named.json()) == (202, {"status": "spooled", "receipt": "k1"})
    assert named.headers["preference-applied"] == "respond-async"
    assert made.json()["receipt"] == gate.door.taken[1].key
    assert gate.door.patience == [Patience.SPOOL] * 2


def test_without_a_door_nothing_is_taken(gate: Gate) -> None:
    """Where no broker is named, events are 503 with a sentence that says so."""
    parts = gate.app.state.parts
    gate.app.state.parts = type(parts)(parts.open_store, parts.directory, parts.now, parts.metrics)

    answer = gate.post(WHOLE)

    assert (answer.status_code, answer.json()["type"]) == (
        503,
        "urn:meterstream:problem:no-broker",
    )


def test_the_route_is_counted_and_described(tmp_path: Path) -> None:
    """In the whole application the route has its name in the metrics, and a description."""
    app = create_app(Settings(tmp_path / "store.sqlite3", tmp_path / "accounts.sqlite3"))

    async def ask() -> str:
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            assert (await client.post("/v1/events", json=WHOLE)).status_code == 503
            return (await client.get("/metrics")).text

    told = asyncio.run(ask())

    assert 'requests_total{method="POST",route="/v1/events",status="503"} 1.0' in told
    assert "requestBody" in app.openapi()["paths"]["/v1/events"]["post"]

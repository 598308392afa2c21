"""Records of meter-lib: what becomes of them, and what is answered."""

from __future__ import annotations

import asyncio
import json
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from fastapi import FastAPI, Request
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.responses import Response

from meterstream_schemas.errors import InvalidEvent
from meterstream_schemas.events import EventKind
from meterstream_services.clients.meter_lib.legacy import record_legacy
from meterstream_services.clients.meter_lib.reading import offers_of
from meterstream_services.gateway.port import Fate, Offer, Patience, Ruling
from meterstream_services.http.guarding import principal_of
from tests.unit.services.agentmeter.world import NOW, World, made_world

if TYPE_CHECKING:
    from collections.abc import Sequence

START, END = 1_759_791_552_000, 1_779_799_552_000
KAFKA = {"content-type": "application/vnd.kafka.json.v2+json"}
PAGES = {
    "meter_id": "document.basic.page",
    "customer_id": "acme",
    "total_usage": 24,
    "event_time": START,
    "metadata": {"batch_id": "b-9"},
}
CHAT = {"ai_event": True, "meter_id": "chat.on.time_hours", "customer_id": "acme", "metadata": {}}


def post(world: World, *values: Any, key: str | None = None) -> httpx.Response:  # noqa: ANN401 - JSON may be anything
    """The answer to a request with these records."""
    body = json.dumps({"records": [{"value": value} for value in values]})
    return world.send("POST", "/topics/usage-events", content=body, headers=KAFKA, key=key)


def test_an_amount_is_an_event_of_its_meter(world: World) -> None:
    """Meter, customer, amount and metadata; the answer is what Kafka's REST proxy says."""
    answer = post(world, PAGES)

    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/vnd.kafka.v2+json"
    assert answer.json() == {
        "offsets": [{"partition": 0, "offset": 0, "error_code": None, "error": None}],
        "key_schema_id": None,
        "value_schema_id": None,
    }
    [offer] = world.door.taken
    assert offer == Offer(
        "document.basic.page", "acme", 24, START * 1000, attributes={"batch_id": "b-9"}
    )


@pytest.mark.parametrize(
    ("total", "quantity"),
    [(1.5, "1.5"), (0.1, "0.1"), (-3, "-3"), ("2.50", "2.5"), (0, "0"), (10**18, str(10**18))],
)
def test_amounts_are_exact(world: World, total: object, quantity: str) -> None:
    """A number means the digits it is written with."""
    assert post(world, PAGES | {"total_usage": total}).status_code == 200
    assert Decimal(world.door.taken[0].quantity) == Decimal(quantity)


@pytest.mark.parametrize(
    "change",
    [
        {"total_usage": "x"}, {"total_usage": None}, {"total_usage": True}, {"total_usage": [1]},
        {"total_usage": 10**30}, {"total_usage": {}}, {"meter_id": ""}, {"meter_id": 5},
        {"customer_id": ""}, {"customer_id": None}, {"customer_id": ["a"]}, {"metadata": []},
        {"event_time": "soon"}, {"event_time": -1}, {"event_time": 10**30}, {"event_time": True},
        {"customer_id": "a\nb"},
    ],
)  # fmt: skip
def test_what_cannot_be_counted_is_no_success(world: World, change: dict[str, Any]) -> None:
    """The client looks at the status only: one bad record makes it 422, and nothing is kept."""
    answer = post(world, PAGES, PAGES | change)

    assert answer.status_code == 422
    assert answer.json()["error_code"] == 422
    assert world.door.taken == []


def test_boundaries_are_a_sessions(world: World) -> None:
    """By their id, or without one by the device that the metadata has, else by the tenant."""
    named = CHAT | {"metadata": {"session_id": "s1"}}
    post(world, named | {"start_time": START})
    post(world, named | {"end_time": END})
    post(world, CHAT | {"start_time": START})
    post(world, CHAT | {"end_time": END, "metadata": {"device_id": "d1"}})

    kinds = [(offer.kind, offer.session, offer.subject) for offer in world.door.taken]
    assert kinds == [
        (EventKind.SESSION_START, "s1", None),
        (EventKind.SESSION_END, "s1", None),
        (EventKind.SESSION_START, None, "acme"),
        (EventKind.SESSION_END, None, "d1"),
    ]
    assert [offer.time for offer in world.door.taken[:2]] == [START * 1000, END * 1000]


def test_both_ends_at_once_are_a_session_by_itself(world: World) -> None:
    """Told again it is the same session; other times are another one."""
    for end in (END, END, END + 1):
        assert post(world, CHAT | {"start_time": START, "end_time": end}).status_code == 200

    sessions = [offer.session for offer in world.door.taken]
    assert sessions[0] == sessions[1] == sessions[2] == sessions[3]
    assert len(set(sessions)) == 2
    assert None not in sessions


@pytest.mark.parametrize(
    "change", [{}, {"start_time": None}, {"start_time": END, "end_time": START}, {"start_time": ""}]
)
def test_boundaries_that_make_no_session_are_no_success(
    world: World, change: dict[str, Any]
) -> None:
    """Neither time, or the end first: 422."""
    assert post(world, CHAT | change).status_code == 422
    assert world.door.taken == []


def test_a_key_makes_a_repeat_known(world: World) -> None:
    """metadata.idempotency_key: of an amount as it is, of a session's ends each its own."""
    keyed = {"metadata": {"idempotency_key": "k1"}}
    for _ in range(2):
        assert post(world, PAGES | keyed).status_code == 200
        both = {"start_time": START, "end_time": END, "metadata": {"idempotency_key": "k2"}}
        assert post(world, CHAT | both).status_code == 200
    assert [offer.key for offer in world.door.taken] == ["k1", "k2:start", "k2:end"]
    assert post(world, PAGES | keyed | {"total_usage": 1}).status_code == 409


def test_times_as_old_versions_write_them(world: World) -> None:
    """ISO 8601, milliseconds with a fraction, or none: then it is now."""
    post(world, CHAT | {"start_time": "2025-10-06T22:59:12+00:00"})
    post(world, CHAT | {"start_time": "2025-10-06T22:59:12"})
    post(world, CHAT | {"start_time": 1759791552000.5})
    post(world, {name: value for name, value in PAGES.items() if name != "event_time"})

    times = [offer.time or 0 for offer in world.door.taken]
    assert times[:3] == [START * 1000, START * 1000, START * 1000 + 500]
    assert times[3] > NOW


class HalfDoor:
    """A door that takes the first offer and has no answer for the second."""

    def __init__(self) -> None:
        self.patience: list[Patience] = []

    async def take(self, offers: Sequence[Offer], patience: Patience = Patience.LOG) -> list[Fate]:
        """See `Door`."""
        self.patience.append(patience)
        return [Fate(Ruling.ACCEPTED, 0, 0), Fate(Ruling.UNAVAILABLE)][: len(offers)]

    def retry_after_seconds(self) -> int:
        """See `Door`."""
        return 7

    async def close(self) -> None:
        """See `Door`."""


def test_half_a_session_is_no_success(world: World) -> None:
    """Where only one end is kept the answer is 503; told again it is the same session."""
    door = HalfDoor()
    parts = world.app.state.parts
    object.__setattr__(parts, "door", door)

    answer = post(world, CHAT | {"start_time": START, "end_time": END})
    post(world, PAGES | {"metadata": {"idempotency_key": "k"}})

    assert (answer.status_code, answer.headers["retry-after"]) == (503, "7")
    assert door.patience == [Patience.LOG_OR_SPOOL, Patience.LOG]


@pytest.mark.parametrize(
    "body",
    [b"{}", b"[]", b'{"records": []}', b'{"records": 5}', b'{"records": [5]}', b"{",
     b'{"records": [{"value": 5}]}', b'{"records": [{}]}', b""],
)  # fmt: skip
def test_what_is_no_request_is_refused(world: World, body: bytes) -> None:
    """400 or 422, in the proxy's shape."""
    answer = world.send("POST", "/topics/usage-events", content=body)

    assert answer.status_code in {400, 422}
    assert answer.json()["error_code"] == answer.status_code


def test_other_topics_are_not_there(world: World) -> None:
    """Nobody writes into other topics of the cluster this way."""
    answer = world.send("POST", "/topics/meterstream.events", json={"records": [{"value": PAGES}]})

    assert answer.status_code == 404
    assert world.door.taken == []


def test_an_event_without_its_wrapping_is_taken(world: World) -> None:
    """As it may stand bare."""
    assert world.send("POST", "/topics/usage-events", json=PAGES).status_code == 200
    assert len(world.door.taken) == 1


def test_the_oldest_version_is_taken(world: World) -> None:
    """0.0.3: one event, its tenant and device in headers."""
    app = FastAPI()

    @app.post("/api/v1/events")
    async def dispatch(request: Request) -> Response:
        parts = world.app.state.parts
        return await record_legacy(request, parts, principal_of(request), await request.json())

    def send(body: Any) -> httpx.Response:  # noqa: ANN401 - JSON may be anything
        async def ask() -> httpx.Response:
            transport = httpx.ASGITransport(app=app)
            headers = {"x-tenant-id": "acme", "x-device-id": "d1"}
            async with httpx.AsyncClient(transport=transport, base_url="http://t") as client:
                return await client.post("/api/v1/events", json=body, headers=headers)

        return asyncio.run(ask())

    assert send({"meter_id": "page.processed.basic", "total_usage": 3}).status_code == 200
    assert send({"meter_id": "page.processed.basic", "total_usage": "x"}).status_code == 422
    assert send({"meter_id": "a", "total_usage": 1, "customer_id": "other"}).status_code == 200
    told = [(offer.tenant, offer.subject, offer.quantity) for offer in world.door.taken]
    assert told == [("acme", "d1", 3), ("other", "d1", 1)]


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.decimals(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)
NAMES = ("meter_id", "total_usage", "event_time", "start_time", "end_time", "metadata", "ai_event")


@given(st.dictionaries(st.sampled_from(NAMES), VALUES))
def test_any_value_is_read_or_refused(value: dict[str, Any]) -> None:
    """Nothing but offers for the one tenant, or a sentence, comes of whatever is sent."""
    try:
        offers = offers_of(value, "acme")
    except InvalidEvent:
        return
    assert {offer.tenant for offer in offers} == {"acme"}
    assert 1 <= len(offers) <= 2


@pytest.fixture(scope="module")
def bound(tmp_path_factory: pytest.TempPathFactory) -> tuple[World, str]:
    """A world with a key of one tenant."""
    world = made_world(Path(tmp_path_factory.mktemp("bound")))
    return world, world.key("mine")


@settings(max_examples=100)
@given(st.lists(st.dictionaries(st.sampled_from((*NAMES, "customer_id")), VALUES), max_size=3))
def test_any_request_is_answered_and_stays_with_its_tenant(
    bound: tuple[World, str], values: list[dict[str, Any]]
) -> None:
    """No 5xx, and never an event of a tenant that the key is not for."""
    world, key = bound
    body = json.dumps({"records": [{"value": value} for value in values]}, default=float)

    answer = world.send("POST", "/topics/usage-events", content=body, headers=KAFKA, key=key)

    assert answer.status_code < 500
    assert {offer.tenant for offer in world.door.taken} <= {"mine"}

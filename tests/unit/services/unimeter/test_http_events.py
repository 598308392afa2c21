"""The array that Unimeter's server takes over HTTP, and the options of its ports."""

from __future__ import annotations

import asyncio
import json
import re
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request

from meterstream_services.cli.failures import CommandError
from meterstream_services.cli.serve_options import unimeter_port
from meterstream_services.clients.book import MemoryBook
from meterstream_services.clients.unimeter import wire, wire_metrics
from meterstream_services.clients.unimeter.http_events import record_array
from meterstream_services.gateway.memory import MemoryDoor
from meterstream_services.http.guarding import SCOPE_NAME
from meterstream_services.http.metrics import HttpMetrics
from meterstream_services.http.parts import Parts
from meterstream_services.http.rates import RATES_NAME, Rates
from meterstream_services.http.settings import UnimeterPort
from meterstream_services.keys.principal import ANYBODY, Principal, Rate, Scope
from tests.unit.services.unimeter.world import World, raw, response

if TYPE_CHECKING:
    from collections.abc import Sequence

EVENT: dict[str, Any] = {"account_id": 42, "metric_code": "api_calls", "value": 1}
REQUEST = Request({"type": "http", "method": "POST", "path": "/v1/events", "headers": []})


def bound_to(*tenants: str, scope: Scope = Scope.INGEST) -> Principal:
    """The principal of a key for these tenants."""
    return Principal("key", frozenset({scope}), frozenset(tenants))


def send(
    body: Sequence[object], principal: Principal = ANYBODY, door: MemoryDoor | None = None
) -> tuple[int, dict[str, Any]]:
    """Status and content of the answer."""
    metrics = HttpMetrics()
    parts: Any = Parts(
        open_store=NotImplemented, directory=NotImplemented, now=lambda: 0, metrics=metrics,
        door=door, book=MemoryBook(),
    )  # fmt: skip
    answer = asyncio.run(record_array(REQUEST, parts, principal, list(body)))
    return answer.status_code, json.loads(bytes(answer.body))


def test_an_array_means_what_a_frame_means() -> None:
    """Accounts are tenants; a key of one tenant makes them its subjects; the mode is ignored."""
    door = MemoryDoor()
    event = EVENT | {"delivery_mode": "sync", "properties": {"a": "b"}, "timestamp": 10**18}

    assert send([event, event], door=door) == (200, {"ok": True, "count": 2})
    assert send([EVENT], bound_to("acme"), door) == (200, {"ok": True, "count": 1})

    assert [offer.tenant for offer in door.taken] == ["42", "42", "acme"]
    assert (door.taken[2].subject, door.taken[2].type) == ("42", "unimeter.account_event")
    assert door.taken[0].time == 10**15
    assert len({offer.key for offer in door.taken[:2]}) == 2


@pytest.mark.parametrize(
    ("principal", "expected"),
    [
        (bound_to("41", "42"), 200),
        (bound_to("41", "43"), 403),
        (bound_to("42", scope=Scope.READ), 403),
    ],
)
def test_a_key_speaks_for_its_tenants_only(principal: Principal, expected: int) -> None:
    """An account that a key of several tenants is not for is refused, and nothing is taken."""
    door = MemoryDoor()

    assert send([EVENT], principal, door)[0] == expected
    assert len(door.taken) == (1 if expected == 200 else 0)


@pytest.mark.parametrize(
    "wrong",
    [
        {"value": 1.5}, {"value": -1}, {"value": True}, {"value": 2**64}, {"account_id": "42"},
        {"account_id": None}, {"metric_code": ""}, {"metric_code": "x" * 64}, {"metric_code": 1},
        {"timestamp": 2**63}, {"operation_type": "drop"}, {"operation_type": [1]},
        {"properties": [1]}, {"properties": {"a": 1}}, {"properties": {"a": "x" * 64}},
        {"more": 1},
    ],
)  # fmt: skip
def test_a_wrong_item_is_told_and_nothing_is_kept(wrong: dict[str, Any]) -> None:
    """400 with the item's number and field."""
    door = MemoryDoor()

    status, told = send([EVENT, EVENT | wrong], door=door)

    assert (status, told["ok"], door.taken) == (400, False, [])
    assert "item 1" in told["error"]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)


@given(
    item=st.one_of(
        json_values,
        st.fixed_dictionaries(
            {"account_id": st.integers(), "metric_code": st.text(max_size=70)},
            optional={
                "value": json_values, "timestamp": json_values, "operation_type": json_values,
                "properties": json_values,
            },
        ),
    )
)  # fmt: skip
def test_no_item_makes_it_fail_otherwise(item: object) -> None:
    """Anything at all is recorded or refused."""
    status, told = send([item], door=MemoryDoor())

    assert (status, told["ok"]) in {(200, True), (400, False)}


def test_a_log_that_is_away_says_when_to_come_again() -> None:
    """503 without a door, or with one that takes nothing; 413 for too many."""
    away = MemoryDoor()
    away.away = True

    assert send([EVENT])[0] == send([EVENT], door=away)[0] == 503
    assert send([EVENT] * 1001, door=away)[0] == 413


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("127.0.0.1:7001", UnimeterPort("127.0.0.1", 7001)),
        ("acme=127.0.0.1:7001", UnimeterPort("127.0.0.1", 7001, "acme")),
        (
            "acme=0.0.0.0:7001,advertise=10.0.0.5:7001,layout=vendor",
            UnimeterPort("0.0.0.0", 7001, "acme", "10.0.0.5:7001", counted=True),
        ),
        (
            "zürich=[::1]:7001,events_per_second=5000",
            UnimeterPort("::1", 7001, "zürich", events_per_second=5000),
        ),
    ],
)
def test_ports_are_named_in_one_text(text: str, expected: UnimeterPort) -> None:
    """A tenant, an address, another to advertise, the layout of lists, and a rate."""
    assert unimeter_port(text) == expected


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("=127.0.0.1:1", "names no tenant before the =; write TENANT=HOST:PORT"),
        ("a\tb=127.0.0.1:1", "the tenant 'a\\tb' holds a control character; remove it"),
        (f"{'x' * 257}=127.0.0.1:1", "the tenant is 257 characters; at most"),
        ("127.0.0.1", "write HOST:PORT"),
        ("", "write HOST:PORT"),
        ("127.0.0.1:65536", "write HOST:PORT"),
        ("127.0.0.1:1,x", "'x' is not known; write advertise=HOST:PORT or layout=vendor or"),
        ("127.0.0.1:1,layout=python", "'layout=python' is not known"),
        ("127.0.0.1:1,layout=vendor,layout=vendor", "layout stands there twice; write it once"),
        ("127.0.0.1:1,advertise=meterstream.metering.svc:7001", "advertise an IPv4 address"),
        ("127.0.0.1:1,advertise=", "--unimeter advertise : is not an address"),
        ("127.0.0.1:1,advertise=h:0", "clients cannot connect to port 0"),
        ("127.0.0.1:1,events_per_second=", "is no rate; write a whole number, 1 to 1000000000"),
        ("127.0.0.1:1,events_per_second=0", "events_per_second=0 is no rate"),
        ("127.0.0.1:1,events_per_second=-1", "is no rate"),
        ("127.0.0.1:1,events_per_second=1.5", "is no rate"),
        ("127.0.0.1:1,events_per_second=1e9", "is no rate"),
        ("127.0.0.1:1,events_per_second=٣", "is no rate"),
        (f"127.0.0.1:1,events_per_second={'9' * 5000}", "is no rate"),
    ],
)
def test_a_wrong_port_is_refused_with_a_sentence(text: str, sentence: str) -> None:
    """What is wrong with it, and what to write."""
    with pytest.raises(CommandError, match=re.escape(sentence)):
        unimeter_port(text)


def test_the_vendors_layout_is_a_switch() -> None:
    """A port that is told so sends whole metrics behind their count."""
    world = World()

    async def program() -> bytes:
        async with world.serving() as [port]:
            reader, writer = await raw(port.address)
            metric = wire_metrics.MetricForm("m", 1, thresholds=(), cycle_day=1)
            writer.write(wire.encode_request(0x20, wire_metrics.encode_metric(metric), 1))
            await response(reader)
            writer.close()
        async with world.serving(counted=True) as [port]:
            reader, writer = await raw(port.address)
            writer.write(wire.encode_request(0x22, b"", 1))
            _, payload = await response(reader)
            writer.close()
            assert wire_metrics.decode_metric(payload[8:]) == metric
            return payload[:8]

    assert asyncio.run(program()) == bytes([1, *[0] * 7])


def test_an_array_is_charged_to_its_key() -> None:
    """A key that has used up its rate of events is told to wait, as on every other path."""
    rates, door = Rates(lambda: 0.0), MemoryDoor()
    who = Principal("key", frozenset({Scope.INGEST}), frozenset({"a"}), rate=Rate(None, 1))
    scope: dict[str, Any] = {"type": "http", "method": "POST", "path": "/v1/events"}
    scope |= {"headers": [], RATES_NAME: rates, SCOPE_NAME: who}
    parts: Any = Parts(
        open_store=NotImplemented, directory=NotImplemented, now=lambda: 0, metrics=HttpMetrics(),
        door=door, book=MemoryBook(),
    )  # fmt: skip

    def post() -> int:
        return asyncio.run(record_array(Request(scope), parts, who, [EVENT] * 5)).status_code

    assert [post(), post()] == [200, 429]
    assert len(door.taken) == 5

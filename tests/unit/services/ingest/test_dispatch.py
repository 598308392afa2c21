"""One path for three systems, and the rate of a key in front of all that it takes."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from meterstream_services.http.limits import BODY_BYTES_MAX
from meterstream_services.http.rates import Rates
from meterstream_services.keys.principal import Principal, Rate, Scope

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.unit.services.ingest.conftest import Gate

SLOW = Principal(
    "key", frozenset({Scope.INGEST}), frozenset({"acme"}), rate=Rate(events_per_second=10)
)
EVENT = {"type": "t", "tenant": "acme"}


@pytest.mark.parametrize(
    ("body", "event_type"),
    [
        ({"tool_id": "search", "duration_ms": 5, "success": True}, "climeter.call"),
        ({"tool_slug": "search", "event_name": "call", "metadata": {}}, "climeter.call"),
        ([{"account_id": 42, "metric_code": "api_calls", "value": 1}], "unimeter."),
        ({"type": "t"}, "t"),
        ([{"type": "t"}], "t"),
    ],
)
def test_the_shape_tells_whose_it_is(gate: Gate, body: object, event_type: str) -> None:
    """CLIMeter's object and Unimeter's array become their events, everything else ours."""
    gate.bind("acme")

    answer = gate.post(body)

    assert answer.status_code < 300, answer.text
    (offer,) = gate.door.taken
    assert offer.type.startswith(event_type)
    assert offer.tenant == "acme"


@pytest.mark.parametrize("path", ["/v1/events", "/api/v1/events"])
def test_a_key_has_a_rate(gate: Gate, path: str) -> None:
    """A key in debt is 429 with Retry-After on every way in, and nothing of it is taken."""
    gate.principal = SLOW
    cloud = EVENT | {"specversion": "1.0", "source": "s"}
    many = [cloud | {"id": str(number)} for number in range(100)]

    first = gate.send("POST", path, json=many)
    second = gate.send("POST", path, json=cloud | {"id": "last"})

    assert first.status_code in {200, 204}
    assert second.status_code == 429
    assert 7 <= int(second.headers["retry-after"]) <= 8
    assert len(gate.door.taken) == 100


def test_a_stream_is_slowed_and_then_ends(gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stream waits a little for its key's rate; where it would be long, its last line says so."""
    waited: list[float] = []
    clock = [0.0]

    async def sleep(seconds: float) -> None:
        waited.append(seconds)
        clock[0] += seconds

    monkeypatch.setattr("meterstream_services.http.ingest_taking.asyncio.sleep", sleep)
    gate.rates = Rates(lambda: clock[0])
    gate.principal = replace(SLOW, rate=Rate(events_per_second=400))
    lines = b'{"type": "t"}\n' * 2600

    answer = gate.post(content=lines, headers={"content-type": "application/x-ndjson"})

    assert answer.status_code == 200
    assert 0 < max(waited) <= 5
    assert answer.text.count("accepted") == len(gate.door.taken) == 2600

    gate.principal = SLOW
    gate.rates = Rates(lambda: clock[0])
    ended = gate.post(content=lines, headers={"content-type": "application/x-ndjson"})

    *told, last = ended.text.splitlines()
    assert len(told) == 500
    assert '"status": 429' in last
    assert '"after": 500' in last


def test_a_second_content_type_is_no_larger_limit(gate: Gate) -> None:
    """The first one counts, also where it is empty: who reads a body whole reads a mebibyte."""
    read: list[int] = []

    async def body() -> AsyncIterator[bytes]:
        for number in range(8):
            read.append(number)
            yield b" " * (BODY_BYTES_MAX // 2)

    headers = [("content-type", ""), ("content-type", "application/x-ndjson"), ("ce-id", "1")]

    assert gate.send("POST", "/v1/events", content=body(), headers=headers).status_code == 413
    assert len(read) < 8

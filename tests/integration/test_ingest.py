"""Events over HTTP in every format, through the real door: what is answered is what the log has."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections import Counter
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import zstandard
from cloudevents.core.bindings.http import to_binary_event, to_structured_event
from cloudevents.core.v1.event import CloudEvent

from meterstream_schemas.events import EventKind
from meterstream_services.http.app import create_app
from meterstream_services.http.settings import Gateway, Settings
from tests.integration.reading_topic import Placed, read_topic

if TYPE_CHECKING:
    from pathlib import Path

    from fastapi import FastAPI

    from tests.conftest import Broker

pytestmark = pytest.mark.integration

LINES = 1200
EVENT: dict[str, Any] = {
    "type": "api.request",
    "tenant": "acme",
    "quantity": "2.50",
    "time": "2026-11-21T10:00:00.25Z",
    "subject": "u42",
    "attributes": {"route": "/pay", "ratio": 0.125},
    "key": "k1",
}
PLACE = tuple[int, int]


@pytest.fixture
def app(broker: Broker, topic: str, tmp_path: Path) -> FastAPI:
    """The whole application with a door to a topic of its own."""
    gateway = Gateway(broker.bootstrap_servers, tmp_path / "spool", topic)
    return create_app(
        Settings(tmp_path / "store.sqlite3", tmp_path / "accounts.sqlite3", gateway=gateway)
    )


def cloud(event_id: str) -> CloudEvent:
    """An event of the public SDK."""
    attributes = {"type": "llm.completion", "source": "/chat", "id": event_id, "tenant": "umbrella"}
    return CloudEvent(attributes, {"usage": {"tokens": 12}})


async def send_everything(client: httpx.AsyncClient) -> list[dict[str, Any]]:
    """Every format once or more; what was answered about each event that the log should have."""

    async def post(status: int, path: str = "/v1/events", **options: Any) -> httpx.Response:  # noqa: ANN401 - httpx's own
        answer = await client.post(path, **options)
        assert answer.status_code == status, answer.text
        return answer

    told = [(await post(201, json=EVENT)).json()]
    again = (await post(200, json=EVENT)).json()
    assert again == told[0] | {"status": "duplicate"}
    await post(409, json=EVENT | {"quantity": 3})
    await post(422, json=EVENT | {"key": "k2", "quantity": "x"})
    told.append((await post(201, json=EVENT | {"kind": "void"})).json())

    batch = [{"type": "t", "tenant": f"t{n}", "key": f"b{n}"} for n in range(5)]
    batch[2]["tenant"] = ""
    packed = zstandard.compress(json.dumps({"events": batch}).encode())
    headers = {"content-type": "application/json", "content-encoding": "zstd"}
    results = (await post(200, content=packed, headers=headers)).json()["results"]
    assert [row["status"] for row in results] == ["accepted"] * 2 + ["refused"] + ["accepted"] * 2
    told += [row for row in results if row["status"] == "accepted"]

    lines = gzip.compress(b'{"type": "t", "tenant": "lines"}\n' * LINES)
    headers = {
        "content-type": "application/x-ndjson",
        "content-encoding": "gzip",
        "idempotency-key": "all",
    }
    first = (await post(200, content=lines, headers=headers)).text.splitlines()
    second = (await post(200, content=lines, headers=headers)).text.splitlines()
    assert {json.loads(line)["status"] for line in second} == {"duplicate"}
    told += [json.loads(line) for line in first]

    for message in (to_structured_event(cloud("1")), to_binary_event(cloud("2"))):
        answer = await post(201, content=message.body, headers=dict(message.headers))
        told.append(answer.json())
    receipt = await post(
        202, json={"type": "t", "tenant": "async"}, headers={"prefer": "respond-async"}
    )
    assert receipt.json()["receipt"]

    omitted = {"specversion": "1.0", "source": "om", "id": "1", "subject": "om", "type": "t"}
    for _ in range(2):
        await post(204, "/api/v1/events", json=omitted)
    return told


def test_every_format_reaches_the_log_once(app: FastAPI, broker: Broker, topic: str) -> None:
    """Accepted means at that very place; duplicates, conflicts and refusals leave nothing."""

    async def run() -> list[dict[str, Any]]:
        transport = httpx.ASGITransport(app=app)
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=transport, base_url="http://localhost") as client,
        ):
            return await send_everything(client)

    told = asyncio.run(run())

    records = [
        record
        for record in read_topic(broker.bootstrap_servers, topic)
        if record.event.kind is not EventKind.MARK
    ]
    places: dict[PLACE, Placed] = {(each.partition, each.offset): each for each in records}
    answered = [(row["partition"], row["offset"]) for row in told]
    assert len(set(answered)) == len(answered)
    assert set(answered) <= set(places)
    assert Counter(record.event.tenant for record in records) == {
        "acme": 2, "t0": 1, "t1": 1, "t3": 1, "t4": 1,
        "lines": LINES, "umbrella": 2, "async": 1, "om": 1,
    }  # fmt: skip
    event = places[answered[0]].event
    assert event[:9] == (
        EventKind.USAGE, "acme", "api.request", 1_795_255_200_250_000, 25, 1,
        None, "u42", {"route": "/pay", "ratio": "0.125"},
    )  # fmt: skip
    assert places[answered[1]].event.kind is EventKind.VOID
    assert {record.event.key for record in records if record.event.tenant == "umbrella"} == {
        "ce:5:/chat:1", "ce:5:/chat:2",
    }  # fmt: skip

"""Streams of lines: taken in groups while they arrive, and answered line by line."""

from __future__ import annotations

import asyncio
import gzip
import json
import tracemalloc
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from starlette.requests import Request

from meterstream_services.gateway.port import Fate, Offer, Patience, Ruling
from meterstream_services.http.ingest_stream import (
    LINE_BYTES_MAX,
    LINES_AT_ONCE,
    LINES_MAX,
    record_lines,
)
from meterstream_services.http.ingest_taking import Sender
from meterstream_services.http.limits import STREAM_BYTES_MAX
from meterstream_services.keys.principal import ANYBODY
from tests.unit.services.ingest.conftest import Door

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    import httpx
    from starlette.types import Message

    from tests.unit.services.ingest.conftest import Gate

LINE = b'{"type": "t", "tenant": "a"}\n'


def stream(gate: Gate, content: Any, **headers: str) -> httpx.Response:  # noqa: ANN401 - httpx's own
    """A request with these lines."""
    told = {"content-type": "application/x-ndjson"} | {
        name.replace("_", "-"): value for name, value in headers.items()
    }
    return gate.send("POST", "/v1/events", content=content, headers=told)


def rows(answer: httpx.Response) -> list[dict[str, Any]]:
    """The answer's lines."""
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/x-ndjson"
    return [json.loads(line) for line in answer.text.splitlines()]


@pytest.mark.parametrize("kind", ["application/jsonl", "application/x-ndjson; charset=utf-8"])
def test_each_line_is_answered(gate: Gate, kind: str) -> None:
    """Native lines, CloudEvents, blank and wrong ones; the last needs no end of line."""
    gate.bind("a")
    lines = [
        b'{"type": "t", "tenant": "a", "quantity": 1.5}',
        b"",
        b"{",
        b'{"specversion": "1.0", "type": "t", "source": "s", "id": "1"}\r',
        b'{"type": "t", "tenant": "b"}',
        b"x" * (LINE_BYTES_MAX + 1),
        b"\xff",
        b'{"type": "t"}',
    ]

    told = rows(stream(gate, b"\n".join(lines), content_type=kind))

    assert [row["status"] for row in told] == [
        "accepted", "refused", "accepted", "refused", "refused", "refused", "accepted",
    ]  # fmt: skip
    assert [row.get("field") for row in told] == [
        None, "event", None, "tenant", "event", "event", None,
    ]  # fmt: skip
    assert [str(offer.quantity) for offer in gate.door.taken] == ["1.5", "1", "1"]


def test_lines_arrive_in_any_pieces(gate: Gate) -> None:
    """A body of single bytes is the same as one in one piece."""

    async def pieces() -> AsyncIterator[bytes]:
        for at in range(len(LINE) * 3):
            yield (LINE * 3)[at : at + 1]

    assert [row["offset"] for row in rows(stream(gate, pieces()))] == [0, 1, 2]


def test_lines_are_taken_in_groups(gate: Gate) -> None:
    """The door sees a bounded number of them at once, and the answers stay in order."""
    count = LINES_AT_ONCE * 2 + 7

    told = rows(stream(gate, LINE * count))

    assert [row["offset"] for row in told] == list(range(count))
    assert len(gate.door.patience) == 3


def test_the_header_numbers_the_lines(gate: Gate) -> None:
    """Sent again under the same Idempotency-Key, every line is a duplicate."""
    count = LINES_AT_ONCE + 3

    first = rows(stream(gate, LINE * count, idempotency_key="h"))
    second = rows(stream(gate, LINE * count, idempotency_key="h"))

    assert {row["status"] for row in first} == {"accepted"}
    assert {row["status"] for row in second} == {"duplicate"}
    assert gate.door.taken[-1].key == f"h:{count - 1}"


class Swallowing(Door):
    """A door that keeps nothing, so that memory is the stream's own."""

    async def take(self, offers: Sequence[Offer], patience: Patience = Patience.LOG) -> list[Fate]:
        """Accept everything."""
        return [Fate(Ruling.ACCEPTED, 0, 0)] * len(offers)


def test_a_stream_is_larger_than_memory(gate: Gate) -> None:
    """Thirty mebibytes of lines are taken in a few, and answers wait on disk."""
    gate.app.state.parts = replace(gate.app.state.parts, door=Swallowing())
    long = json.dumps({"type": "t", "tenant": "a", "attributes": {"x": "y" * 900}})
    piece = (long + "\n").encode() * 64

    async def pieces() -> AsyncIterator[bytes]:
        for _ in range((30 << 20) // len(piece)):
            yield piece

    tracemalloc.start()
    try:
        answer = stream(gate, pieces())
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert answer.text.count("accepted") > 30_000
    assert peak < 12 << 20


def test_packed_lines(gate: Gate) -> None:
    """A packed stream is unpacked while it arrives."""
    told = rows(stream(gate, gzip.compress(LINE * 1200), content_encoding="gzip"))

    assert len(told) == 1200


def test_what_ends_a_stream_early_is_its_last_line(gate: Gate) -> None:
    """A body that is cut behind taken lines: their answers, then a problem that counts them."""
    many = "".join(
        json.dumps({"type": "t", "tenant": "a", "key": str(n)}) + "\n" for n in range(2000)
    )
    packed = gzip.compress(many.encode())

    *told, last = rows(stream(gate, packed[: len(packed) - 9], content_encoding="gzip"))

    assert [row["offset"] for row in told] == list(range(len(told)))
    assert (last["status"], last["after"]) == (400, len(told))
    assert len(gate.door.taken) == len(told)


def test_a_bomb_of_lines_is_stopped(gate: Gate) -> None:
    """More than the bytes or the lines of a stream end it with 413; nothing of it was an event."""
    for bomb in (b" " * (STREAM_BYTES_MAX + 1), b"\n" * (LINES_MAX + 1)):
        answer = stream(gate, gzip.compress(bomb, 1), content_encoding="gzip")

        assert (answer.status_code, gate.door.taken) == (413, [])


def test_only_streams_may_be_large(gate: Gate) -> None:
    """The larger bound is for content types of lines alone."""
    body = (LINE[:-1] + b" " * 1000 + b"\n") * 1100

    assert stream(gate, body, content_type="application/json").status_code == 413
    assert len(rows(stream(gate, body))) == 1100


def test_while_the_log_is_away_the_door_is_asked_once(gate: Gate) -> None:
    """A stream of which nothing is taken is 503, without waiting group by group."""
    gate.door.away = True

    answer = stream(gate, LINE * LINES_AT_ONCE * 4)

    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert len(gate.door.patience) == 1


def test_receipts_of_lines(gate: Gate) -> None:
    """With Prefer: respond-async each line has a receipt."""
    told = rows(stream(gate, LINE * 2, prefer="respond-async"))

    assert [row["receipt"] for row in told] == [offer.key for offer in gate.door.taken]


def test_an_empty_stream(gate: Gate) -> None:
    """No lines, no answers."""
    assert rows(stream(gate, b"\n \n")) == []


def test_a_client_that_goes_away(gate: Gate) -> None:
    """The lines that were complete are taken, the one that was cut is not; nobody is answered."""
    messages: list[Message] = [
        {"type": "http.request", "body": LINE + LINE + LINE[:9], "more_body": True},
        {"type": "http.disconnect"},
    ]
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "method": "POST",
        "path": "/v1/events",
        "raw_path": b"/v1/events",
        "query_string": b"",
        "root_path": "",
        "scheme": "http",
        "http_version": "1.1",
        "headers": [(b"host", b"localhost"), (b"content-type", b"application/x-ndjson")],
    }
    sent: list[Message] = []

    async def receive() -> Message:
        return messages.pop(0)

    async def send(message: Message) -> None:
        sent.append(message)

    asyncio.run(gate.app(scope, receive, send))

    assert len(gate.door.taken) == 2
    assert sent[0]["status"] == 400


def test_lines_that_wait_for_nothing_let_others_have_their_turn() -> None:
    """Thousands of refused or blank lines in one piece do not hold up the loop."""
    body = b"{}\n" * 5_000 + b"\n" * 5_000
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]
    turns = 0

    async def receive() -> Message:
        if not messages:
            await asyncio.sleep(60)
        return messages.pop()

    async def sent(_: Message) -> None:
        await asyncio.sleep(0)

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async def program() -> None:
        task = asyncio.create_task(others())
        scope = {"type": "http", "method": "POST", "path": "/v1/events", "headers": []}
        answer = await record_lines(Request(scope, receive), Door(), Sender(ANYBODY, None, False))
        await answer(scope, receive, sent)
        task.cancel()

    asyncio.run(program())

    assert turns >= 10_000 // LINES_AT_ONCE

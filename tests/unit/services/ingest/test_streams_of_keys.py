"""Streams whose key ends while they arrive."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest
from starlette.requests import Request

from meterstream_services.http.ingest_stream import LINES_AT_ONCE, record_lines
from meterstream_services.http.ingest_taking import Sender
from meterstream_services.http.problems import Problem
from meterstream_services.keys.principal import ANYBODY, Principal
from tests.unit.services.ingest.conftest import Door
from tests.unit.services.keys.making import Keyed

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.types import Message

LINES = b'{"type": "t", "tenant": "a"}\n' * LINES_AT_ONCE


def streamed(keyed: Keyed, who: Principal, door: Door, between: Callable[[], None]) -> list[Any]:
    """What is answered to two groups of lines, with something that happens between them."""
    groups = [LINES, LINES]

    async def receive() -> Message:
        if len(groups) == 1:
            between()
        return {"type": "http.request", "body": groups.pop(0), "more_body": bool(groups)}

    async def ask() -> bytes:
        request = Request({"type": "http", "method": "POST", "headers": []}, receive)
        response: Any = await record_lines(request, door, Sender(who), keyed.keys)
        return b"".join([piece async for piece in response.body_iterator])

    return [json.loads(line) for line in asyncio.run(ask()).splitlines()]


def known(keyed: Keyed, text: str) -> Principal:
    """Who has this key."""
    found = keyed.keys.principal(text)
    assert found is not None
    return found


@pytest.mark.parametrize("how", ["revoked", "expired"])
def test_a_stream_ends_with_its_key(how: str) -> None:
    """What came before is kept, and answered; of what comes after nothing is."""
    keyed, door = Keyed(), Door()
    expires = keyed.clock.micros() + 60_000_000
    text = keyed.make("ingest", tenants=["a"], expires=expires)
    who = known(keyed, text)

    def end() -> None:
        if how == "revoked":
            assert who.key is not None
            keyed.ring.revoke(who.key, keyed.clock.micros())
            keyed.clock.seconds += 2
        else:
            keyed.clock.seconds += 61

    told = streamed(keyed, who, door, end)

    assert len(door.taken) == LINES_AT_ONCE
    assert [row["status"] for row in told[:-1]] == ["accepted"] * LINES_AT_ONCE
    assert told[-1]["status"] == 401
    assert how in told[-1]["detail"]
    assert told[-1]["after"] == LINES_AT_ONCE


def test_a_stream_of_nobodys_ends_with_the_first_key() -> None:
    """Where no key was made everybody may send; from the first one on that is over."""
    keyed, door = Keyed(), Door()
    asyncio.run(keyed.keys.ready())

    def make() -> None:
        keyed.make("admin")
        keyed.clock.seconds += 2

    told = streamed(keyed, ANYBODY, door, make)

    assert len(door.taken) == LINES_AT_ONCE
    assert told[-1]["status"] == 401


def test_a_stream_whose_key_lives_is_taken_whole() -> None:
    """Looked at again and again, and nothing else happens."""
    keyed, door = Keyed(), Door()
    who = known(keyed, keyed.make("ingest", tenants=["a"]))

    def pass_time() -> None:
        keyed.clock.seconds += 5

    told = streamed(keyed, who, door, pass_time)

    assert [row["status"] for row in told] == ["accepted"] * (2 * LINES_AT_ONCE)


def test_a_stream_waits_for_keys_that_are_away() -> None:
    """Longer than keys go on without their database nothing is taken, and 503 says come again."""
    keyed, door = Keyed(), Door()
    who = known(keyed, keyed.make("ingest", tenants=["a"]))
    keyed.ring.is_away = True
    keyed.clock.seconds += 1_000

    with pytest.raises(Problem) as caught:
        streamed(keyed, who, door, lambda: None)

    assert caught.value.status_code == 503
    assert door.taken == []

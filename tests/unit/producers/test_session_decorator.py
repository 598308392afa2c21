"""A session as a decorator: one session for each call, of functions of every kind."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from meterstream_schemas.events import EventKind
from tests.unit.producers.reading import arrived

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from meterstream import Meter
    from meterstream.memory import MemoryTransport
    from tests.unit.producers.conftest import MakeMeter


@pytest.fixture
def meter(make_meter: MakeMeter) -> Meter:
    """A strict meter over ``transport``."""
    return make_meter(strict=True)


def boundaries(meter: Meter, transport: MemoryTransport) -> tuple[int, int, int]:
    """Starts, ends, and different sessions in the log."""
    assert meter.flush(5)
    events = arrived(transport)
    kinds = [event.kind for event in events]
    return (
        kinds.count(EventKind.SESSION_START),
        kinds.count(EventKind.SESSION_END),
        len({event.session for event in events}),
    )


def test_each_call_is_a_session(meter: Meter, transport: MemoryTransport) -> None:
    """Plain functions, methods and coroutine functions, also when they fail or recur."""

    class Service:
        @meter.session("run", tenant="t")
        def method(self, depth: int) -> int:
            return 1 + self.method(depth - 1) if depth else 0

    @meter.session("run", tenant="t")
    def fail() -> None:
        raise KeyError

    @meter.session("run", tenant="t")
    async def coroutine() -> str:
        return "done"

    assert Service().method(1) == 1
    with pytest.raises(KeyError):
        fail()
    assert asyncio.run(coroutine()) == "done"

    assert boundaries(meter, transport) == (4, 4, 4)
    assert meter.status().open_sessions == 0


def test_generators_are_sessions_until_they_end(meter: Meter, transport: MemoryTransport) -> None:
    """From their first step, to exhaustion or close."""

    @meter.session("run", tenant="t")
    def steps() -> Iterator[int]:
        yield 1

    @meter.session("run", tenant="t")
    async def later() -> AsyncIterator[int]:
        yield 1

    async def scenario() -> None:
        assert [item async for item in later()] == [1]
        closed: Any = later()
        await anext(closed)
        assert boundaries(meter, transport) == (3, 2, 3)
        await closed.aclose()

    generator = steps()
    assert boundaries(meter, transport) == (0, 0, 0)
    next(generator)
    assert boundaries(meter, transport) == (1, 0, 1)
    assert list(generator) == []
    asyncio.run(scenario())

    assert boundaries(meter, transport) == (3, 3, 3)


def test_the_context_is_that_of_the_call(meter: Meter, transport: MemoryTransport) -> None:
    """Not that of the decoration."""

    @meter.session("run")
    def run() -> None: ...

    with meter.context(tenant="t", subject="s", attributes={"a": "1"}):
        run()
    assert meter.flush(5)

    told = {(event.tenant, event.subject, event.attributes["a"]) for event in arrived(transport)}
    assert told == {("t", "s", "1")}

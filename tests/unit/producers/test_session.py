"""Sessions: their boundaries, signs of life, clocks and ownership."""

from __future__ import annotations

import asyncio
import gc
import time
from typing import TYPE_CHECKING

import pytest

from meterstream import InvalidEvent
from meterstream_schemas.events import EventKind
from tests.unit.producers.reading import arrived
from tests.waiting import eventually

if TYPE_CHECKING:
    from meterstream.memory import MemoryTransport
    from tests.unit.producers.conftest import MakeMeter


def kinds(transport: MemoryTransport) -> list[str]:
    """The kinds in the log, in order."""
    return [event.kind.value for event in arrived(transport)]


def test_a_with_block_is_a_session(make_meter: MakeMeter, transport: MemoryTransport) -> None:
    """Start and end carry one id, the same words, no quantity, and times in order."""
    meter = make_meter()
    before = time.time_ns() // 1000

    with meter.session(
        "agent.run", tenant="acme", subject="u42", attributes={"model": "m"}
    ) as session:
        assert session.heartbeat()

    assert meter.flush(10)
    assert kinds(transport) == ["SESSION_START", "SESSION_HEARTBEAT", "SESSION_END"]
    events = arrived(transport)
    for event in events:
        assert (event.session, event.subject, event.type) == (session.id, "u42", "agent.run")
        assert event.attributes == {"model": "m"}
        assert (event.quantity, event.scale) == (0, 0)
    assert len(session.id) == 32
    times = [event.time for event in events]
    assert times == sorted(times)
    assert before <= times[0]


def test_an_async_with_block_is_the_same(make_meter: MakeMeter, transport: MemoryTransport) -> None:
    """In an event loop nothing waits."""
    meter = make_meter()

    async def work() -> None:
        async with meter.session("agent.run", tenant="acme", session="s-1"):
            await asyncio.sleep(0)

    asyncio.run(work())
    assert meter.flush(10)
    assert [(event.kind, event.session) for event in arrived(transport)] == [
        (EventKind.SESSION_START, "s-1"),
        (EventKind.SESSION_END, "s-1"),
    ]


def test_a_block_that_raises_ends_its_session(
    make_meter: MakeMeter, transport: MemoryTransport
) -> None:
    """The host's exception goes on its way, and the session is over."""
    meter = make_meter()

    with pytest.raises(KeyError), meter.session("agent.run", tenant="acme"):
        raise KeyError

    assert meter.flush(10)
    assert kinds(transport) == ["SESSION_START", "SESSION_END"]


def test_boundaries_by_hand(make_meter: MakeMeter, transport: MemoryTransport) -> None:
    """Start, sign of life and end may come from anywhere, with times and keys of their own."""
    meter = make_meter()

    assert meter.session_start("run", tenant="t", session="s", time=1, key="k1")
    assert meter.session_heartbeat("run", tenant="t", session="s", time=2)
    assert meter.session_end("run", tenant="t", session="s", time=3, attributes={"a": "b"})

    assert meter.flush(10)
    assert [(e.kind, e.time, e.key, e.attributes) for e in arrived(transport)] == [
        (EventKind.SESSION_START, 1, "k1", {}),
        (EventKind.SESSION_HEARTBEAT, 2, None, {}),
        (EventKind.SESSION_END, 3, None, {"a": "b"}),
    ]


def test_open_sessions_give_signs_of_life_by_themselves(
    make_meter: MakeMeter, transport: MemoryTransport
) -> None:
    """The background thread sends them at intervals, and none after the end."""
    meter = make_meter(heartbeat_seconds=0.03)
    session = meter.session("run", tenant="t").start()
    assert meter.status().open_sessions == 1

    eventually(lambda: kinds(transport).count("SESSION_HEARTBEAT") >= 3)
    session.end()
    assert meter.flush(10)
    assert meter.status().open_sessions == 0
    assert kinds(transport)[-1] == "SESSION_END"


def test_a_session_nobody_holds_falls_silent(make_meter: MakeMeter) -> None:
    """A leaked session is not kept alive for ever: the aggregator will time it out."""
    meter = make_meter(heartbeat_seconds=0.03)
    meter.session("run", tenant="t").start()
    gc.collect()

    assert meter.status().open_sessions == 0


def test_a_session_says_each_thing_once(make_meter: MakeMeter, transport: MemoryTransport) -> None:
    """Starting and ending again do nothing, nor does a sign of life outside."""
    meter = make_meter()
    session = meter.session("run", tenant="t")

    assert session.end() is False
    assert session.heartbeat() is False
    session.start()
    session.start()
    assert session.end() is True
    assert session.end() is False
    assert session.heartbeat() is False
    session.start()

    assert meter.flush(10)
    assert kinds(transport) == ["SESSION_START", "SESSION_END"]


def test_a_clock_that_jumps_changes_no_duration(
    make_meter: MakeMeter, transport: MemoryTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An hour back in the middle of a session of 90 seconds leaves 90 seconds."""
    meter = make_meter()
    session = meter.session("run", tenant="t")
    monkeypatch.setattr(time, "time_ns", lambda: 10**18)
    monkeypatch.setattr(time, "monotonic_ns", lambda: 5 * 10**9)
    session.start()
    monkeypatch.setattr(time, "time_ns", lambda: 10**18 - 3600 * 10**9)
    monkeypatch.setattr(time, "monotonic_ns", lambda: 95 * 10**9)
    session.end()

    monkeypatch.undo()
    assert meter.flush(10)
    start, end = arrived(transport)
    assert end.time - start.time == 90_000_000


def test_wrong_arguments_of_a_session_raise_in_strict_only(make_meter: MakeMeter) -> None:
    """By default the block runs all the same; in strict it does not begin."""
    lenient, strict = make_meter(), make_meter(strict=True)

    with lenient.session("run", tenant=""):
        ran = True
    assert ran
    assert lenient.status().open_sessions == 0
    assert lenient.status().dropped == {"invalid": 2}

    with pytest.raises(InvalidEvent, match="tenant: is empty"), strict.session("run", tenant=""):
        raise AssertionError("must not run")

"""A Unimeter port's places and its rate: who makes room, and who is told to come again."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING

import pytest
import unimeter

from meterstream_services.clients.unimeter import server, wire
from meterstream_services.clients.unimeter.pacing import Paced, events_of
from meterstream_services.clients.unimeter.wire import EventRow, Op, Status
from tests.unit.services.unimeter.test_server import ended, run
from tests.unit.services.unimeter.world import World, raw, response

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from meterstream_services.clients.unimeter.server import Port

ROW = (EventRow(b"calls".ljust(64, b"\0"), 42, 0, 1, 0, 0), dict[str, str]())
LIST = wire.encode_request(Op.METRIC_LIST, b"", 1)


class Client:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def ask(self, frame: bytes = LIST) -> Status:
        """The status of the answer."""
        self.writer.write(frame)
        header, _ = await response(self.reader)
        return Status(header.status)

    async def is_closed(self) -> bool:
        """Whether the other side has ended it. Waits for that."""
        try:
            return await self.reader.read(1) == b""
        except ConnectionError:
            return True
        finally:
            self.writer.close()
            with suppress(ConnectionError):
                await self.writer.wait_closed()


@asynccontextmanager
async def connected(port: Port, count: int) -> AsyncGenerator[list[Client]]:
    """So many connections that were answered once, in their order."""
    clients = [Client(*await raw(port.address)) for _ in range(count)]
    try:
        for client in clients:
            assert await client.ask() is Status.OK
        yield clients
    finally:
        for client in clients:
            client.writer.close()


@pytest.fixture(autouse=True)
def _few_places(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "CONNECTIONS_MAX", 3)
    monkeypatch.setattr(server, "DISPLACED_SECONDS", 0.0)


def test_the_one_idle_longest_makes_room() -> None:
    """Who has asked since keeps its place; the new one is answered."""
    world = World()

    async def program() -> None:
        async with world.serving() as [port], connected(port, 3) as [first, second, third]:
            assert await first.ask() is Status.OK
            newcomer = Client(*await raw(port.address))
            assert await newcomer.ask() is Status.OK
            assert await second.is_closed()
            await ended(port, "displaced")
            assert [await each.ask() for each in (first, third, newcomer)] == [Status.OK] * 3
            assert port.ended == {"displaced": 1}
            newcomer.writer.close()

    run(program())


def test_many_newcomers_displace_one_each() -> None:
    """A port that was filled by clients that do nothing serves as many others."""
    world = World()

    async def program() -> None:
        async with world.serving() as [port], connected(port, 3) as old, connected(port, 3) as new:
            assert [await each.is_closed() for each in old] == [True] * 3
            assert [await each.ask() for each in new] == [Status.OK] * 3

    run(program())


def test_who_is_pushed_alerts_keeps_its_place() -> None:
    """A subscriber says nothing for hours, and is no idle client."""
    world = World()
    enable = wire.encode_request(Op.ALERT_PUSH_ENABLE, b"", 2)

    async def program() -> None:
        async with world.serving() as [port], connected(port, 3) as [first, second, third]:
            for each in (first, second, third):
                assert await each.ask(enable) is Status.OK
            newcomer = Client(*await raw(port.address))
            assert await newcomer.is_closed()
            assert port.ended == {"too_many": 1}
            assert await first.ask() is Status.OK

    run(program())


def test_who_is_in_a_frame_or_waits_for_an_answer_keeps_its_place() -> None:
    """Neither is between frames with nothing under way."""
    world = World()
    ingest = wire.encode_request(Op.INGEST_SYNC, wire.encode_events([ROW]), 3)

    async def program() -> None:
        gate = asyncio.Event()
        take = world.door.take

        async def slow(*arguments: object, **named: object) -> object:
            await gate.wait()
            return await take(*arguments, **named)  # type: ignore[arg-type]  # passed on

        world.door.take = slow  # type: ignore[method-assign,assignment]  # a log that is slow
        async with world.serving() as [port], connected(port, 3) as [inside, waiting, idle]:
            inside.writer.write(ingest[:-10])
            waiting.writer.write(ingest)
            # Answered on connections that were made before: both frames were read by then.
            await inside.writer.drain()
            assert await idle.ask() is Status.OK
            newcomer = Client(*await raw(port.address))
            assert await newcomer.ask() is Status.OK
            assert await idle.is_closed()
            gate.set()
            inside.writer.write(ingest[-10:])
            told = [await response(each.reader) for each in (inside, waiting)]
            assert {header.status for header, _ in told} == {Status.UNKNOWN_METRIC}
            newcomer.writer.close()

    run(program())
    assert len(world.door.taken) == 2


def test_who_comes_and_goes_drives_nobody_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that was idle for a moment only keeps its place, and the new one is turned away."""
    monkeypatch.setattr(server, "DISPLACED_SECONDS", 3600.0)
    world = World()

    async def program() -> None:
        async with world.serving() as [port], connected(port, 3) as clients:
            assert await Client(*await raw(port.address)).is_closed()
            assert [await each.ask() for each in clients] == [Status.OK] * 3
            assert port.ended == {"too_many": 1}

    run(program())


def test_more_than_the_rate_comes_again() -> None:
    """BACKPRESSURE, counted, and nothing of the frame is taken; other ports have their own rate."""
    world = World()
    frame = wire.encode_request(Op.INGEST_SYNC, wire.encode_events([ROW] * 50), 1)

    async def program() -> None:
        async with (
            world.serving("acme", "bolt", events_per_second=1) as [port, other],
            connected(port, 1) as [client],
            connected(other, 1) as [neighbour],
        ):
            assert await client.ask(frame) is Status.UNKNOWN_METRIC
            assert await client.ask(frame) is Status.BACKPRESSURE
            assert await client.ask() is Status.OK
            assert await neighbour.ask(frame) is Status.UNKNOWN_METRIC

    run(program())
    assert [offer.tenant for offer in world.door.taken] == ["acme"] * 50 + ["bolt"] * 50


def test_the_published_client_loses_nothing_to_the_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    """It hears `BackpressureError`, and the same events are taken once time has passed."""
    now = 0.0
    monkeypatch.setattr(server, "Paced", partial(Paced, clock=lambda: now))
    world = World()
    events = [unimeter.Event(42, "calls", 1) for _ in range(30)]

    async def program() -> None:
        nonlocal now
        async with (
            world.serving(events_per_second=10) as [port],
            unimeter.AsyncClient([port.address]) as client,
        ):
            for turn in range(1, 5):
                assert (await client.ingest(events)).n_stored == 30
                for _ in range(2):
                    with pytest.raises(unimeter.BackpressureError):
                        await client.ingest(events)
                assert len(world.door.taken) == 30 * turn
                now += 10

    run(program())


def test_a_frame_is_charged_for_what_it_has_bytes_for() -> None:
    """A count of four billion in a few bytes uses up no rate; a count of none charges nothing."""
    honest = wire.encode_events([ROW] * 7)

    assert events_of(honest) == 7
    assert events_of(b"\xff" * 4 + honest[4:]) == 7
    assert events_of(b"\xff" * 7) == events_of(b"") == events_of(bytes(8)) == 0

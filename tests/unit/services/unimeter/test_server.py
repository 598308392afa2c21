"""Unimeter's ports under clients that send anything, read nothing, or are too many."""

from __future__ import annotations

import asyncio
import struct
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meterstream_services.clients.unimeter import connection as connections
from meterstream_services.clients.unimeter import server, wire
from meterstream_services.clients.unimeter.connection import Room
from meterstream_services.clients.unimeter.server import Port
from meterstream_services.clients.unimeter.wire import EventRow, Op, Status
from meterstream_services.http.settings import UnimeterPort
from tests.unit.services.unimeter.world import World, raw, response

if TYPE_CHECKING:
    from collections.abc import Coroutine

STATUSES = {int(status) for status in Status}
EVENTS = wire.encode_events([(EventRow(b"calls".ljust(64, b"\0"), 42, 0, 1, 0, 0), {})])


def run(coroutine: Coroutine[Any, Any, Any]) -> Any:  # noqa: ANN401 - whatever it returns
    """What a coroutine returns, or a failure where it hangs."""

    async def bounded() -> object:
        async with asyncio.timeout(30):
            return await coroutine

    return asyncio.run(bounded())


async def ended(port: Port, reason: str) -> None:
    """Wait until a connection ended for a reason."""
    for _ in range(2_000):
        if port.ended[reason]:
            return
        await asyncio.sleep(0.01)
    raise AssertionError(f"no connection ended as {reason}: {port.ended}")


async def ask(address: str, content: bytes) -> tuple[list[tuple[int, int, int]], bool]:
    """(status, id, payload bytes) of all answers to some bytes, and whether the end was clean."""
    reader, writer = await raw(address)
    writer.write(content)
    writer.write_eof()
    found: list[tuple[int, int, int]] = []
    try:
        while True:
            header, payload = await response(reader)
            found.append((header.status, header.request_id, len(payload)))
    except asyncio.IncompleteReadError as problem:
        return found, not problem.partial
    finally:
        writer.close()


@pytest.mark.parametrize(
    "head",
    [
        b"GET / HTTP/1.1\r\n",
        struct.pack("<IBBHII", wire.MAGIC, 2, 0, 0xFFFF, 0, 7),
        struct.pack("<IBBHII", wire.MAGIC, 1, 0, 0xFFFF, 2**32 - 1, 7),
        struct.pack("<IBBHII", wire.MAGIC, 1, 0x30, 0xFFFF, 0, 0),
    ],
    ids=["http", "version", "oversized", "id of pushes"],
)
def test_what_is_no_frame_of_ours_ends_the_connection(head: bytes) -> None:
    """ERR, and nothing behind it is believed."""
    world = World()

    async def program() -> None:
        async with world.serving() as [port]:
            good = wire.encode_request(Op.METRIC_LIST, b"", 9)
            found, clean = await ask(port.address, good + head + b"x" * 100_000 + good)
            assert [status for status, _, _ in found] == [Status.OK, Status.ERR]
            assert clean
            assert port.ended["refused"] == 1

    run(program())


@pytest.mark.parametrize("op", [0x11, 0x35, 0x40, 0x42, 0xFF])
def test_an_op_that_nobody_knows_is_an_error(op: int) -> None:
    """ERR under its id, and the connection goes on."""
    world = World()

    async def program() -> None:
        async with world.serving() as [port]:
            frames = wire.encode_request(op, b"abc", 3) + wire.encode_request(0x22, b"", 4)
            assert await ask(port.address, frames) == ([(2, 3, 0), (0, 4, 0)], True)

    run(program())


@pytest.mark.parametrize("op", [op for op in Op if op not in {Op.METRIC_LIST, Op.ALERT_PUSH}])
def test_a_wrong_payload_is_answered_under_its_id(op: Op) -> None:
    """Whatever the op, bytes that it cannot carry never end the connection."""
    world = World()

    async def program() -> None:
        async with world.serving() as [port]:
            frames = wire.encode_request(op, b"\xff" * 70, 3) + wire.encode_request(0x22, b"", 4)
            found, clean = await ask(port.address, frames)
            assert sorted(request_id for _, request_id, _ in found) == [3, 4]
            assert {status for status, _, _ in found} <= STATUSES
            assert clean

    run(program())


def test_many_requests_are_answered_by_their_ids() -> None:
    """Hundreds at once on one connection, of several kinds, each under its own id."""
    world = World()

    async def program() -> None:
        async with world.serving() as [port]:
            ops = [(0x00, EVENTS), (0x10, b""), (0x22, b""), (0x01, EVENTS)] * 60
            frames = [wire.encode_request(*op, n) for n, op in enumerate(ops, 1)]
            found, clean = await ask(port.address, b"".join(frames))
            assert sorted(request_id for _, request_id, _ in found) == list(range(1, 241))
            assert {status for status, _, _ in found} == {Status.OK, Status.UNKNOWN_METRIC}
            assert clean

    run(program())
    assert len(world.door.taken) == 120


@settings(max_examples=30)
@given(
    parts=st.lists(
        st.one_of(
            st.binary(max_size=60),
            st.builds(
                wire.encode_request,
                st.integers(0, 255),
                st.one_of(st.binary(max_size=200), st.just(EVENTS)),
                st.integers(0, 2**32 - 1),
            ),
        ),
        max_size=6,
    ),
    cut=st.integers(0, 400),
)
def test_no_bytes_hang_or_break_a_connection(parts: list[bytes], cut: int) -> None:
    """Whole frames, cut ones and rubbish: known statuses, whole answers, and an end."""
    world = World()
    content = b"".join(parts)

    async def program() -> None:
        with pytest.MonkeyPatch.context() as hurried:
            hurried.setattr(connections, "LINGER_SECONDS", 0.05)
            async with world.serving() as [port]:
                found, clean = await ask(port.address, content[: len(content) - cut])
                assert {status for status, _, _ in found} <= STATUSES
                assert clean

    run(program())


def test_a_frame_that_does_not_come_to_its_end_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    """The header promises more than arrives in time; so does a connection that says nothing."""
    monkeypatch.setattr(connections, "FRAME_SECONDS", 0.05)
    monkeypatch.setattr(connections, "IDLE_SECONDS", 0.05)
    world = World()

    async def program() -> None:
        async with world.serving() as [port]:
            for content, reason in ((EVENTS_CUT, "slow"), (b"", "idle")):
                reader, writer = await raw(port.address)
                writer.write(content)
                assert await reader.read() == b""
                writer.close()
                assert port.ended[reason] == 1

    run(program())


EVENTS_CUT = wire.encode_request(0, EVENTS, 1)[:-10]


def test_a_client_that_reads_nothing_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    """Answers that nobody takes are not gathered in memory."""
    monkeypatch.setattr(connections, "WRITE_SECONDS", 0.1)
    world = World()

    async def program() -> None:
        async with world.serving() as [port]:
            reader, writer = await raw(port.address)
            reader._limit = 1  # type: ignore[attr-defined]  # asyncio's own: read nothing ahead
            request = wire.encode_request(0x10, b"", 1)
            writer.write(request * 10_000)
            await ended(port, "unread")
            writer.close()

    run(program())


def test_connections_beyond_the_bound_are_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that are there go on; one more is closed at once, and fits when one has left."""
    monkeypatch.setattr(server, "CONNECTIONS_MAX", 2)
    world = World()

    async def program() -> None:
        async with world.serving() as [port]:
            pairs = [await raw(port.address) for _ in range(2)]
            for _, writer in pairs:
                writer.write(wire.encode_request(0x22, b"", 1))
            for reader, _ in pairs:
                await response(reader)
            reader, writer = await raw(port.address)
            with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
                await response(reader)
            writer.close()
            pairs[0][1].close()
            await ended(port, "closed")
            assert await ask(port.address, wire.encode_request(0x22, b"", 1)) == ([(0, 1, 0)], True)
            pairs[1][1].close()

    run(program())


def test_frames_that_never_come_keep_nobody_waiting() -> None:
    """Clients that announce the largest frames and send nothing hold up no small one."""
    world = World()
    head = wire.encode_request(Op.INGEST_SYNC, b"", 1)[:8]
    liar = head + struct.pack("<II", connections.FRAME_BYTES_MAX, 1)

    async def program() -> None:
        async with world.serving() as [port]:
            liars = [await raw(port.address) for _ in range(20)]
            for _, writer in liars:
                writer.write(liar)
                await writer.drain()
            async with asyncio.timeout(connections.FRAME_SECONDS / 2):
                found, _ = await ask(port.address, wire.encode_request(Op.INGEST_SYNC, EVENTS, 5))
            assert [number for _, number, _ in found] == [5]
            for _, writer in liars:
                writer.close()
                await writer.wait_closed()

    run(program())
    assert server.CONNECTIONS_MAX * connections.SMALL_BYTES_MAX < server.SMALL_ROOM_BYTES


def test_the_map_leads_back_here() -> None:
    """The socket's own address, unless another is advertised; one that does not fit is refused."""
    world = World()

    async def program() -> None:
        async with world.serving() as [port]:
            reader, writer = await raw(port.address)
            writer.write(wire.encode_request(0x10, b"", 1))
            _, payload = await response(reader)
            writer.close()
            assert {leader for leader, _, _ in wire.decode_map(payload)} == {port.address}

    run(program())
    with pytest.raises(ValueError, match="does not fit"):
        Port(UnimeterPort("127.0.0.1", 0, None, "gateway.metering.svc:7001"), object())  # type: ignore[arg-type]  # not reached


def test_room_is_given_in_order() -> None:
    """Whoever asks first is first; one that gave up takes nothing."""

    async def program() -> list[str]:
        room, order = Room(10), list[str]()

        async def take(name: str, size: int) -> None:
            await room.take(size)
            order.append(name)

        await take("first", 8)
        tasks = [
            asyncio.create_task(take(*one)) for one in (("large", 9), ("gone", 5), ("small", 1))
        ]
        await asyncio.sleep(0)
        tasks[1].cancel()
        await asyncio.sleep(0)
        room.give(8)
        await asyncio.gather(tasks[0], tasks[2])
        return order

    assert run(program()) == ["first", "large", "small"]

"""One connection of a Unimeter client: frames in, answers out, bounds on both.

=====================  ===========================================================================
bound                  what happens there
=====================  ===========================================================================
`FRAME_BYTES_MAX`      ERR, and the connection ends: 43,690 events without properties
`FRAME_SECONDS`        a frame that takes longer from its header to its end: cut
`IDLE_SECONDS`         between frames: closed, unless alerts are pushed to it; sooner where the
                       port is full (`idle_since`)
`UNDER_WAY_MAX`        requests of a connection: further ones wait in the socket
`bytes under way`      of all connections of a port together (`Rooms`): likewise
`WRITE_SECONDS`        for a client to take an answer: cut; so is one that leaves
`WRITE_BYTES_MAX`      of pushed alerts unread
=====================  ===========================================================================

Requests are answered as they become ready, by their ids; questions of a connection one at a time.
After a frame that is none of the protocol's nothing behind it can be trusted: it is answered ERR,
what follows is read and dropped for `LINGER_SECONDS`, so that the answer arrives, and that is all.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Final, NamedTuple

from meterstream_services.clients.unimeter import wire
from meterstream_services.clients.unimeter.answers import Answer, Answers
from meterstream_services.clients.unimeter.wire import BadFrame, Op, RequestHeader, Status

FRAME_BYTES_MAX: Final = 4 << 20
SMALL_BYTES_MAX: Final = 128 << 10
"""Payloads up to this have room of their own: 1,300 events without properties."""
FRAME_SECONDS: Final = 20.0
IDLE_SECONDS: Final = 300.0
LINGER_SECONDS: Final = 1.0
UNDER_WAY_MAX: Final = 16
WRITE_SECONDS: Final = 20.0
WRITE_BYTES_MAX: Final = 1 << 20
_INGEST: Final = frozenset({int(Op.INGEST_ASYNC), int(Op.INGEST_SYNC)})


class Room:
    """Bytes that may be under way at once; whoever asks first is served first."""

    def __init__(self, size: int) -> None:
        self._free = size
        self._waiting: Final[deque[tuple[int, asyncio.Future[None]]]] = deque()

    async def take(self, size: int) -> None:
        """Wait until there is room for so many bytes, and take it."""
        if size <= self._free and not self._waiting:
            self._free -= size
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((size, turn))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.give(size)
            raise

    def give(self, size: int) -> None:
        """Give back what was taken."""
        self._free += size
        while self._waiting and (self._waiting[0][1].done() or self._waiting[0][0] <= self._free):
            wanted, turn = self._waiting.popleft()
            if not turn.done():
                self._free -= wanted
                turn.set_result(None)


class Rooms(NamedTuple):
    """Room for payloads, which each takes before it has arrived.

    So a client that announces what it does not send takes room away from the others. Small ones
    have their own: all connections together cannot fill it with what they only announce.
    """

    small: Room
    large: Room

    def of(self, size: int) -> Room:
        """The one for a payload of so many bytes."""
        return self.small if size <= SMALL_BYTES_MAX else self.large


class Connection:
    """One client. ``address`` is what it is told to connect to for every partition."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        answers: Answers,
        rooms: Rooms,
        ended: Callable[[str], None],
        *,
        ingest: Callable[[bytes], Awaitable[Answer]],
        address: str,
    ) -> None:
        self._reader: Final = reader
        self._writer: Final = writer
        self._answers: Final = answers
        self._ingest: Final = ingest
        self._rooms: Final = rooms
        self._ended: Final = ended
        self._address: Final = address
        self._under_way: Final = asyncio.Semaphore(UNDER_WAY_MAX)
        self._one_question: Final = asyncio.Lock()
        self._writing: Final = asyncio.Lock()
        self._tasks: Final[set[asyncio.Task[None]]] = set()
        self._reading: asyncio.Task[str] | None = None
        self._between = False
        self._quiet_since = 0.0
        self._displaced = False
        self._draining = False
        self.pushed_from: int | None = None
        """The first alert to push, once the client asked for them."""

    async def run(self) -> None:
        """Read frames and answer them until either side ends."""
        self._reading = asyncio.create_task(self._read())
        reason = "closed"
        try:
            await asyncio.wait([self._reading])
            reason = "displaced" if self._displaced else _reason(self._reading)
            if self._tasks:
                # What was taken is answered for, also where nobody listens any more.
                await asyncio.wait(self._tasks, timeout=WRITE_SECONDS)
        finally:
            self._ended(reason)
            self._reading.cancel()
            for task in self._tasks:
                task.cancel()
            self._writer.close()
            with contextlib.suppress(ConnectionError, OSError, TimeoutError):
                await asyncio.wait_for(self._writer.wait_closed(), WRITE_SECONDS)

    def push(self, frame: bytes) -> None:
        """Send an alert; a client that does not read is cut."""
        transport = self._writer.transport
        if transport.get_write_buffer_size() > WRITE_BYTES_MAX:
            self._ended("unread")
            self.cut()
        elif not transport.is_closing():
            self._writer.write(frame)

    def drain(self) -> None:
        """Read no further frame; what is under way is answered."""
        self._draining = True
        if self._between and self._reading is not None:
            self._reading.cancel()

    @property
    def idle_since(self) -> float | None:
        """Since when it is of no use to its client, by the loop's clock; None while it is."""
        is_idle = self._between and not self._tasks and self.pushed_from is None
        return self._quiet_since if is_idle and not self._draining else None

    def displace(self) -> None:
        """End it for one that needs its place."""
        self._displaced = True
        self.drain()

    def cut(self) -> None:
        """End it at once."""
        self._writer.transport.abort()

    async def _read(self) -> str:
        """Frames, one after the other; why there will be no more."""
        reader = self._reader
        while not self._draining:
            self._between, self._quiet_since = True, asyncio.get_running_loop().time()
            try:
                async with asyncio.timeout(IDLE_SECONDS):
                    head = await reader.readexactly(wire.REQUEST_BYTES)
            except TimeoutError:
                if self._tasks or self.pushed_from is not None:
                    continue
                return "idle"
            finally:
                self._between = False
            try:
                header = _checked(head)
            except BadFrame:
                await self._refuse(head)
                return "refused"
            await self._under_way.acquire()
            room = self._rooms.of(header.payload_bytes)
            await room.take(header.payload_bytes)
            try:
                async with asyncio.timeout(FRAME_SECONDS):
                    payload = await reader.readexactly(header.payload_bytes)
            except BaseException:
                room.give(header.payload_bytes)
                raise
            task = asyncio.create_task(self._serve(header, payload))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return "drained"

    async def _serve(self, header: RequestHeader, payload: bytes) -> None:
        """Answer one request."""
        try:
            if header.op in _INGEST:
                answer = await self._ingest(payload)
                await self._send(header.request_id, answer)
                return
            async with self._one_question:
                await self._send(header.request_id, await self._answer(header.op, payload))
        except (ConnectionError, OSError):
            pass  # The reader sees it too, and ends.
        finally:
            self._rooms.of(header.payload_bytes).give(header.payload_bytes)
            self._under_way.release()
            self._quiet_since = asyncio.get_running_loop().time()

    async def _answer(self, op: int, payload: bytes) -> Answer:
        match op:
            case Op.GET_PARTITION_MAP:
                return Answer(Status.OK, wire.encode_map(self._address))
            case Op.ALERT_PUSH_ENABLE:
                return await self._enable()
            case _:
                return await self._answers.question(op, payload)

    async def _enable(self) -> Answer:
        """Push what is reached from now on; what was before is for ALERTS_LIST."""
        if self.pushed_from is None:
            transport = self._writer.get_extra_info("socket")
            if transport is not None:
                transport.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            answer = await self._answers.question(Op.ALERTS_LIST, bytes(16))
            if answer.status is not Status.OK:
                return Answer(answer.status)
            self.pushed_from = self._answers.alerts.log.end
        return Answer(Status.OK)

    async def _send(self, request_id: int, answer: Answer) -> None:
        """Write a response, and wait until the client took enough of what was written."""
        async with self._writing:
            self._writer.write(wire.encode_response(answer.status, request_id, answer.payload))
            try:
                async with asyncio.timeout(WRITE_SECONDS):
                    await self._writer.drain()
            except TimeoutError:
                self._ended("unread")
                self.cut()

    async def _refuse(self, head: bytes) -> None:
        """Say ERR to what cannot be understood, and let it arrive."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=WRITE_SECONDS)
        request_id = int.from_bytes(head[12:16], "little") or 1
        await self._send(request_id, Answer(Status.ERR))
        if self._writer.can_write_eof():
            self._writer.write_eof()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LINGER_SECONDS):
                while await self._reader.read(65_536):
                    pass


def _reason(reading: asyncio.Task[str]) -> str:
    """Why nothing more is read of a connection."""
    if reading.cancelled():
        return "drained"
    problem = reading.exception()
    match problem:
        case None:
            return reading.result()
        case TimeoutError():
            return "slow"
        case asyncio.IncompleteReadError() | OSError():
            return "closed"
        case _:
            raise problem


def _checked(head: bytes) -> RequestHeader:
    """A header that may be read on behind. Raises `BadFrame`."""
    header = wire.decode_request(head)
    if header.payload_bytes > FRAME_BYTES_MAX:
        raise BadFrame(f"a frame of {header.payload_bytes} bytes, at most {FRAME_BYTES_MAX}")
    if header.request_id == 0:
        raise BadFrame("request id 0 is that of pushes")
    return header

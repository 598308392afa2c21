"""A small, fast client for the door's measurements: prepared bytes over raw sockets, one process.

Closed: so many connections, each with so many requests ahead of answers, as fast as they come back.
Open: requests begin at a steady rate, whatever is still under way; what each waited for is counted
from the moment at which it was due, so that a stall shows.
"""

from __future__ import annotations

import asyncio
import struct
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, NamedTuple

Frames = Callable[[bytearray], Iterator[tuple[int, bytes]]]
"""Takes whole answers off the front of a buffer: status and content of each."""

LOST: Final = -1
"""The status of a request whose connection went away first."""
_END: Final = b"\r\n\r\n"
_LENGTH: Final = b"content-length: "
_RESPONSE: Final = struct.Struct("<B3xII")


class Outcome(NamedTuple):
    """What a run of requests came to. Latencies are in milliseconds."""

    seconds: float
    statuses: dict[int, int]
    milliseconds: list[float]

    def figures(self, per_request: int = 1) -> dict[str, Any]:
        """Rates and percentiles; ``per_request`` is how many events one carries."""
        ordered = sorted(self.milliseconds)
        last = len(ordered) - 1
        return {
            "requests": len(ordered),
            "seconds": round(self.seconds, 3),
            "requests_per_second": round(len(ordered) / self.seconds, 1),
            "events_per_second": round(len(ordered) * per_request / self.seconds),
            "milliseconds": {
                name: round(ordered[round(last * part)], 3)
                for name, part in (("p50", 0.5), ("p99", 0.99), ("max", 1.0))
            },
            "statuses": self.statuses,
        }


def http_answers(buffer: bytearray) -> Iterator[tuple[int, bytes]]:
    """Answers of HTTP/1.1 with a length, or without a body."""
    while (end := buffer.find(_END)) >= 0:
        head = bytes(buffer[:end]).lower()
        at = head.find(_LENGTH)
        length = int(head[at + len(_LENGTH) :].split(b"\r", 1)[0]) if at >= 0 else 0
        whole = end + len(_END) + length
        if len(buffer) < whole:
            return
        content = bytes(buffer[end + len(_END) : whole])
        del buffer[:whole]
        yield int(head[9:12]), content


def unimeter_answers(buffer: bytearray) -> Iterator[tuple[int, bytes]]:
    """Responses of Unimeter's protocol."""
    while len(buffer) >= _RESPONSE.size:
        status, _, size = _RESPONSE.unpack_from(buffer)
        whole = _RESPONSE.size + size
        if len(buffer) < whole:
            return
        content = bytes(buffer[_RESPONSE.size : whole])
        del buffer[:whole]
        yield status, content


class _Line(asyncio.Protocol):
    """One connection: writes what it is given, and tells of each answer in its order."""

    def __init__(self, frames: Frames, answered: Callable[[_Line, int, float], None]) -> None:
        self._frames, self._answered = frames, answered
        self._buffer = bytearray()
        self.due: deque[float] = deque()
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # of a stream
        self.transport = transport

    def send(self, request: bytes, due: float) -> None:
        self.due.append(due)
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        for status, _ in self._frames(self._buffer):
            self._answered(self, status, self.due.popleft())

    def connection_lost(self, exc: Exception | None) -> None:
        del exc  # What was under way is lost, for whatever reason.
        while self.due:
            self._answered(self, LOST, self.due.popleft())


class _Run:
    """Requests that go out and come back on some connections."""

    def __init__(self, requests: Sequence[bytes]) -> None:
        self.waiting = deque(requests)
        self.left = len(requests)
        self.statuses: Counter[int] = Counter()
        self.milliseconds: list[float] = []
        self.done = asyncio.get_running_loop().create_future()

    def answered(self, status: int, due: float) -> None:
        self.statuses[status] += 1
        self.milliseconds.append((time.perf_counter() - due) * 1000)
        self.left -= 1
        if self.left == 0 and not self.done.done():
            self.done.set_result(None)

    def next(self, line: _Line) -> None:
        if self.waiting:
            line.send(self.waiting.popleft(), time.perf_counter())


async def closed(
    address: tuple[str, int],
    requests: Sequence[bytes],
    *,
    connections: int,
    ahead: int,
    frames: Frames = http_answers,
) -> Outcome:
    """All requests, as fast as answers come. What a lost connection owes has status `LOST`."""
    run = _Run(requests)

    def answered(line: _Line, status: int, due: float) -> None:
        run.answered(status, due)
        run.next(line)

    lines = await _connect(address, connections, frames, answered)
    begun = time.perf_counter()
    for _ in range(ahead):
        for line in lines:
            run.next(line)
    await run.done
    seconds = time.perf_counter() - begun
    _close(lines)
    return Outcome(seconds, dict(run.statuses), run.milliseconds)


async def steady(
    address: tuple[str, int], requests: Sequence[bytes], *, connections: int, per_second: float
) -> Outcome:
    """Requests at a steady rate, each on a connection that has nothing under way, when there is."""
    run = _Run(requests)
    free: deque[_Line] = deque()
    due_ones: deque[tuple[bytes, float]] = deque()

    def answered(line: _Line, status: int, due: float) -> None:
        run.answered(status, due)
        if due_ones:
            line.send(*due_ones.popleft())
        else:
            free.append(line)

    lines = await _connect(address, connections, http_answers, answered)
    free.extend(lines)
    begun = time.perf_counter()
    for number, request in enumerate(requests):
        due = begun + number / per_second
        if (wait := due - time.perf_counter()) > 0:
            await asyncio.sleep(wait)
        if free:
            free.popleft().send(request, due)
        else:
            due_ones.append((request, due))
    await run.done
    seconds = time.perf_counter() - begun
    _close(lines)
    return Outcome(seconds, dict(run.statuses), run.milliseconds)


async def _connect(
    address: tuple[str, int],
    connections: int,
    frames: Frames,
    answered: Callable[[_Line, int, float], None],
) -> list[_Line]:
    loop = asyncio.get_running_loop()
    return [
        (await loop.create_connection(lambda: _Line(frames, answered), *address))[1]
        for _ in range(connections)
    ]


def _close(lines: Sequence[_Line]) -> None:
    for line in lines:
        line.transport.close()

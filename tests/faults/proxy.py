"""A network between two, that can be cut, slowed and broken: a TCP proxy on 127.0.0.1.

Bytes go through as they come. `cut` lets nothing pass, in one direction or both, as a cable that is
pulled does: connections stay, and new ones are accepted and hear nothing. `refuse` ends what is
connected and lets nobody connect, as a machine that is gone. `reset` ends what is connected, by
RST. `slow` delays everything that comes from now on. `heal` ends all of these, and resets what was
cut: nobody knows what was lost meanwhile. All calls are safe from any thread.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Final, Self

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

_CHUNK: Final = 65_536
_LINGER_NOT: Final = struct.pack("ii", 1, 0)


class Proxy:
    """One proxy: from ``port`` on this machine to ``target``, also there. Use as a context."""

    def __init__(self, target: int, port: int = 0) -> None:
        self.target: Final = target
        self.port = port
        self.connections = 0
        """How many were accepted in all."""
        self._loop: Final = asyncio.new_event_loop()
        self._thread: Final = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._open: Final[set[asyncio.StreamWriter]] = set()
        self._tasks: Final[set[asyncio.Task[None]]] = set()
        self._server: asyncio.Server | None = None
        self._passing = {"up": asyncio.Event(), "down": asyncio.Event()}
        self._delay_seconds = 0.0
        self._refusing = False

    def __enter__(self) -> Self:
        self._thread.start()
        self._run(self._begin)
        return self

    def __exit__(self, *_: object) -> None:
        self._run(self._end)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def cut(self, *directions: str) -> None:
        """Let nothing pass: ``up`` to the target, ``down`` from it; both where none is named."""
        for direction in directions or ("up", "down"):
            self._loop.call_soon_threadsafe(self._passing[direction].clear)

    def slow(self, seconds: float) -> None:
        """Delay each piece that comes by so much."""
        self._delay_seconds = seconds

    def reset(self) -> None:
        """End all connections by RST, in the middle of whatever they say."""
        self._run(self._reset)

    def refuse(self) -> None:
        """End all connections, and end new ones at once."""
        self._refusing = True
        self._run(self._reset)

    def heal(self) -> None:
        """Let everything pass again. What was cut is reset."""
        was_cut = not all(event.is_set() for event in self._passing.values())
        self._delay_seconds, self._refusing = 0.0, False
        if was_cut:
            self._run(self._reset)
        for event in self._passing.values():
            self._loop.call_soon_threadsafe(event.set)

    def _run(self, function: Callable[[], object]) -> None:
        async def called() -> None:
            found = function()
            if asyncio.iscoroutine(found):
                await found

        done: Future[None] = asyncio.run_coroutine_threadsafe(called(), self._loop)
        done.result(10)

    async def _begin(self) -> None:
        for event in self._passing.values():
            event.set()
        self._server = await asyncio.start_server(self._accepted, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _end(self) -> None:
        if self._server is not None:
            self._server.close()
        self._reset()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _reset(self) -> None:
        for writer in self._open:
            _reset(writer)
        self._open.clear()

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        if self._refusing:
            _reset(writer)
            return
        try:
            there = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            _reset(writer)
            return
        self._open.update((writer, there[1]))
        for direction, source, sink in (("up", reader, there[1]), ("down", there[0], writer)):
            task = asyncio.create_task(self._pump(direction, source, sink))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _pump(
        self, direction: str, source: asyncio.StreamReader, sink: asyncio.StreamWriter
    ) -> None:
        try:
            while piece := await source.read(_CHUNK):
                if self._delay_seconds:
                    await asyncio.sleep(self._delay_seconds)
                await self._passing[direction].wait()
                sink.write(piece)
                await sink.drain()
        except OSError:
            _reset(sink)
        finally:
            self._open.discard(sink)
            sink.close()


def _reset(writer: asyncio.StreamWriter) -> None:
    """End a connection by RST rather than in order."""
    given = writer.get_extra_info("socket")
    if given is not None:
        with suppress(OSError):  # Gone already.
            given.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT)
    writer.transport.abort()

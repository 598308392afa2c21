"""The bodies of CLIMeter's batches, which may be larger than other bodies.

The published client sends 50 events at once with metadata of any size, and deletes what is answered
4xx. So the front leaves the size of such a body to this module: it is taken up to
`BATCH_BYTES_MAX`, and whatever is beyond is 503, which the client keeps and sends again.

Memory stays bounded: what goes beyond the usual size has one room for all requests, only one such
body is parsed at a time, and it may hold only so many values, since a value of three bytes in JSON
is an object of sixty in memory.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, TypeVar

from meterstream_services.http.limits import BODY_BYTES_MAX
from meterstream_services.http.threads import Work, in_thread

if TYPE_CHECKING:
    from collections.abc import Generator

    from fastapi import Request

_R = TypeVar("_R")

BATCH_BYTES_MAX: Final = 16 << 20
"""Of one batch: 50 events, the client's whole batch, with 335 kB of metadata each."""
ROOM_BYTES: Final = 64 << 20
"""Of all bodies beyond the usual size that are held at a time."""
VALUES_MAX: Final = 200_000
"""Of one such body; 50 events with 4,000 values each."""
_one_by_one: Final = ThreadPoolExecutor(1, thread_name_prefix="climeter-large")


class TooLarge(Exception):
    """A batch is beyond what is taken; its message is a sentence about it."""


class NoRoom(Exception):
    """Too many large batches are under way at this moment."""


class Room:
    """How much large batches hold together. For one thread."""

    def __init__(self, most: int = ROOM_BYTES) -> None:
        self._left = most

    @contextmanager
    def held(self) -> Generator[Callable[[int], None]]:
        """A call that takes so many bytes more, and raises `NoRoom`; all are given back at last."""
        taken = 0

        def take(size: int) -> None:
            nonlocal taken
            if size > self._left:
                raise NoRoom
            self._left -= size
            taken += size

        try:
            yield take
        finally:
            self._left += taken


async def read_whole(request: Request, take: Callable[[int], None]) -> bytes:
    """The body of a batch. Raises `TooLarge`, and `NoRoom` through ``take``."""
    announced = request.headers.get("content-length", "")
    if announced.isdigit() and int(announced[:20]) > BATCH_BYTES_MAX:
        raise TooLarge(_too_large())
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > BATCH_BYTES_MAX:
            raise TooLarge(_too_large())
        beyond = min(len(chunk), size - BODY_BYTES_MAX)
        if beyond > 0:
            take(beyond)
        chunks.append(chunk)
    return b"".join(chunks)


async def parsed(body: bytes, parse: Callable[[bytes], _R]) -> _R:
    """What ``parse`` makes of a body, in a thread; large ones one by one. Raises `TooLarge`."""
    if len(body) <= BODY_BYTES_MAX:
        return await in_thread(Work.TAKING, parse, body)

    def counted() -> _R:
        if has_too_many_values(body):
            raise TooLarge(f"the batch holds more than {VALUES_MAX} values; send less at once")
        return parse(body)

    return await asyncio.get_running_loop().run_in_executor(_one_by_one, counted)


def has_too_many_values(body: bytes, most: int = VALUES_MAX) -> bool:
    """Whether a JSON text may have more than so many values, found without reading it."""
    plain = body.replace(b"\\\\", b"").replace(b'\\"', b"")
    if plain.count(b'"') > 4 * most:
        return True
    between = b"".join(plain.split(b'"')[::2])
    # Commas and beginnings of containers: never fewer than the values but one.
    return between.count(b",") + between.count(b"[") + between.count(b"{") > most


def _too_large() -> str:
    return f"the batch is larger than {BATCH_BYTES_MAX} bytes; send less at once"

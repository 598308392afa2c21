"""Calls that killed processes left open are ended while the service runs, whoever asks or not.

A charge is no hold that expires: its event is offered again and counts, or is refused and the money
comes back. So what a wallet holds is right at any moment; what waits for a sweep is the event.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Final

from fastapi import FastAPI

from meterstream_services.clients.book import BookUnavailable
from meterstream_services.clients.climeter.consumer import STALE_SECONDS, sweep
from meterstream_services.http.parts import Parts

SWEEP_SECONDS: Final = STALE_SECONDS
"""From one sweep to the next, at least: a call is ended when it is twice as old at most."""
SHARE: Final = 20
"""Of many wallets a sweep takes longer; at most one part in so many of the time goes to it."""
_log: Final = logging.getLogger("meterstream.http")


@asynccontextmanager
async def sweeping(app: FastAPI) -> AsyncGenerator[None]:
    """Sweep while the application runs, if it takes events. A sweep under way is waited for."""
    parts: Parts = app.state.parts
    if parts.door is None:
        yield
        return
    ending = asyncio.Event()
    task = asyncio.create_task(_again_and_again(parts, ending))
    try:
        yield
    finally:
        ending.set()
        await task


async def _again_and_again(parts: Parts, ending: asyncio.Event) -> None:
    pause: float = SWEEP_SECONDS
    while True:
        try:
            async with asyncio.timeout(pause):
                await ending.wait()
            return
        except TimeoutError:
            began = time.monotonic()
        try:
            await sweep(parts, ending)
        except BookUnavailable as problem:
            _log.warning("open CLIMeter calls are not settled: %s", problem)
        pause = max(SWEEP_SECONDS, SHARE * (time.monotonic() - began))

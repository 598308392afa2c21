"""How far workers are: so that a question knows what its own port took before.

A port notes where the last event of each tenant lies. A question waits until workers have counted
that, at most `FOLD_SECONDS`; then it answers what there is. Nobody asks the store while nobody
waits, and all who wait share one look at it every `LOOK_SECONDS`.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from meterstream_aggregator.errors import AggregatorError
from meterstream_services.gateway.port import Fate

FOLD_SECONDS: Final = 10.0
LOOK_SECONDS: Final = 0.03
NOTED_MAX: Final = 100_000
"""Tenants whose last event is known; beyond it all are forgotten, and questions do not wait."""

Positions = Mapping[int, int]
"""The next offset that is not counted yet, by partition."""


class Folded:
    """Of one event loop. ``look`` reads the store's positions."""

    def __init__(self, look: Callable[[], Awaitable[Positions]]) -> None:
        self._look: Final = look
        self.last: dict[str, Fate] = {}
        """Where the last event of a tenant lies; to be written by who takes events."""
        self._positions: Positions = {}
        self._looked: asyncio.Event | None = None
        self._task: asyncio.Task[None] | None = None
        self._waiters = 0

    def forget_some(self) -> None:
        """Keep memory bounded; to be called now and then."""
        if len(self.last) > NOTED_MAX:
            self.last = {}

    async def wait(self, tenant: str) -> bool:
        """Wait until the tenant's last event is counted. False when it took too long."""
        fate = self.last.get(tenant)
        if fate is None or self._has(fate):
            return True
        deadline = time.monotonic() + FOLD_SECONDS
        self._waiters += 1
        try:
            while time.monotonic() < deadline:
                if self._task is None or self._task.done():
                    self._looked = asyncio.Event()
                    self._task = asyncio.create_task(self._watch())
                assert self._looked is not None
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._looked.wait(), 1.0)
                if self._has(fate):
                    return True
            # Workers are away: the next question must not wait as long for the same.
            if self.last.get(tenant) is fate:
                del self.last[tenant]
            return False
        finally:
            self._waiters -= 1

    async def close(self) -> None:
        """Look no more."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    def _has(self, fate: Fate) -> bool:
        if fate.partition is None or fate.offset is None:
            return True
        return self._positions.get(fate.partition, 0) > fate.offset

    async def _watch(self) -> None:
        while self._waiters:
            try:
                self._positions = await self._look()
            except AggregatorError:
                # No store, or not now: those who wait look again until they give up.
                await asyncio.sleep(LOOK_SECONDS * 10)
            looked, self._looked = self._looked, asyncio.Event()
            if looked is not None:
                looked.set()
            await asyncio.sleep(LOOK_SECONDS)

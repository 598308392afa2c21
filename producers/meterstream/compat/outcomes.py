"""Waiting for the outcome of one event among all that a meter sends."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from concurrent.futures import Future, InvalidStateError
from concurrent.futures import TimeoutError as NoOutcome
from contextlib import suppress
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from meterstream.status import Outcome

WAITING_MAX: Final = 10_000
"""Calls that wait for an outcome at one time; beyond it events are recorded without waiting."""


class Sent(NamedTuple):
    """Where in the log an event is."""

    partition: int
    offset: int


class Waiting:
    """Who waits for the outcome of which event, by tenant and key. Safe from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._by_event: dict[tuple[str, str], deque[Future[Outcome]]] = {}
        self._count = 0

    def join(self, tenant: str, key: str) -> Future[Outcome] | None:
        """Something to wait with; None while too many wait already."""
        with self._lock:
            if self._count >= WAITING_MAX:
                return None
            self._count += 1
            future: Future[Outcome] = Future()
            self._by_event.setdefault((tenant, key), deque()).append(future)
            return future

    def leave(self, tenant: str, key: str, future: Future[Outcome]) -> None:
        """Wait no longer. Does nothing once the outcome came."""
        with self._lock:
            waiting = self._by_event.get((tenant, key))
            if waiting is None or future not in waiting:
                return
            waiting.remove(future)
            self._count -= 1
            if not waiting:
                del self._by_event[tenant, key]

    def tell(self, outcome: Outcome) -> None:
        """Called by a meter's background thread with every outcome."""
        if outcome.key is None:
            return
        with self._lock:
            waiting = self._by_event.get((outcome.tenant, outcome.key))
            if waiting is None:
                return
            future = waiting.popleft()
            self._count -= 1
            if not waiting:
                del self._by_event[outcome.tenant, outcome.key]
        with suppress(InvalidStateError):  # Cancelled by an event loop at this very moment.
            future.set_result(outcome)


class Pending:
    """An event that was recorded and has perhaps no outcome yet. To be waited for once."""

    def __init__(
        self, waiting: Waiting, tenant: str, key: str, future: Future[Outcome] | None
    ) -> None:
        self.key: Final = key
        self._waiting: Final = waiting
        self._tenant: Final = tenant
        self._future: Final = future

    @property
    def done(self) -> bool:
        """There is an outcome, so that `wait` would not wait."""
        return self._future is not None and self._future.done()

    @property
    def refused(self) -> bool:
        """The broker refused the event for good: it is not in the log and never will be."""
        future = self._future
        if future is None or not future.done() or future.cancelled():
            return False
        return future.result().offset is None

    def forget(self) -> None:
        """Wait no more."""
        if self._future is not None:
            self._waiting.leave(self._tenant, self.key, self._future)

    def wait(self, timeout: float) -> Sent | None:
        """Where the event is in the log. None: refused by the broker, or no outcome in time.

        In the second case it is still on its way and may arrive later.
        """
        if self._future is None:
            return None
        try:
            return _sent(self._future.result(max(0.0, timeout)))
        except NoOutcome:
            return None
        finally:
            self._waiting.leave(self._tenant, self.key, self._future)

    async def wait_async(self, timeout: float) -> Sent | None:  # noqa: ASYNC109 - as `wait`
        """The same without blocking the event loop."""
        if self._future is None:
            return None
        try:
            wrapped = asyncio.wrap_future(self._future)
            return _sent(await asyncio.wait_for(wrapped, max(0.0, timeout)))
        except TimeoutError:
            return None
        finally:
            self._waiting.leave(self._tenant, self.key, self._future)


def _sent(outcome: Outcome) -> Sent | None:
    return None if outcome.offset is None else Sent(outcome.partition, outcome.offset)

"""StripeMeter's documented calls: ``from meterstream.compat.stripemeter import StripeMeterClient``.

Each event becomes one of type ``stripemeter.usage`` with the attributes ``account`` (the client's
``tenant_id``), ``metric`` and ``meta.<name>``; its tenant is the customer, its subject the
resource, its key the idempotency key (see `meterstream.compat.stripemeter_events`). Calls are
answered when the event is in the log. ``api_url`` and ``api_key`` lead nowhere and are not kept.
"""

from __future__ import annotations

import asyncio
import os
import time as clock
from typing import TYPE_CHECKING, Final, Self, TypeAlias

from meterstream.compat import wiring
from meterstream.compat.forks import ForkLock
from meterstream.compat.stripemeter_batch import Batch
from meterstream.compat.stripemeter_events import RecentKeys
from meterstream.compat.stripemeter_questions import declare_price, projection_of, usage_of
from meterstream.compat.stripemeter_values import (
    Alert,
    EventProblem,
    Freshness,
    IngestResponse,
    LineItem,
    MetricUsage,
    Period,
    ProjectionResponse,
    StripeMeterError,
    UsageResponse,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import date, datetime
    from decimal import Decimal
    from types import TracebackType

__all__ = [
    "Alert",
    "AsyncStripeMeterClient",
    "AsyncStripemeterClient",
    "EventProblem",
    "Freshness",
    "IngestResponse",
    "LineItem",
    "MetricUsage",
    "Period",
    "ProjectionResponse",
    "StripeMeterClient",
    "StripeMeterError",
    "StripemeterClient",
    "StripemeterError",
    "UsageResponse",
    "declare_price",
]

BATCH_MAX: Final = 1_000
"""Events of one ``track_batch``, as the published server has it."""
TIMEOUT_SECONDS: Final = 10.0
Quantity: TypeAlias = "int | float | Decimal | str"


class _Client:
    """What both clients share: who asks, what was sent of late, what `buffer` holds."""

    def __init__(  # noqa: PLR0917 - by position, as the published package has it
        self,
        api_url: str = "",  # noqa: ARG002 - leads nowhere: events go where METERSTREAM_* says
        tenant_id: str = "",
        api_key: str | None = None,  # noqa: ARG002 - is not kept
        timeout: float = TIMEOUT_SECONDS,
        retry_attempts: int = 3,  # noqa: ARG002 - a meter sends again until there is an outcome
        batch_size: int = 100,
    ) -> None:
        self._account: Final = tenant_id
        self._timeout: Final = timeout
        self._batch_size: Final = max(1, batch_size)
        self._sent: Final = RecentKeys()
        self._lock: Final = ForkLock()
        self._buffered = self._batch()
        self._process = os.getpid()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self._account!r}>"

    def _batch(self) -> Batch:
        return Batch(self._account, self._sent)

    def _begin(self, events: Sequence[object]) -> Batch:
        if len(events) > BATCH_MAX:
            raise StripeMeterError(f"{len(events)} events in one batch; at most {BATCH_MAX}", 400)
        batch = self._batch()
        batch.take(events)
        return batch

    def _buffer(self, event: Mapping[str, object]) -> None:
        with self._lock:
            self._begin_again_after_fork()
            self._buffered.add(0, event)
            self._buffered.watch_at_most(self._batch_size)

    def _take_buffer(self) -> Batch:
        with self._lock:
            self._begin_again_after_fork()
            batch, self._buffered = self._buffered, self._batch()
        return batch

    def _begin_again_after_fork(self) -> None:
        """What the parent buffered is the parent's to send and to wait for."""
        if self._process != os.getpid():
            self._process, self._buffered = os.getpid(), self._batch()

    def _flush_meter(self, timeout: float) -> bool:
        target = wiring.try_meter()
        return target is not None and target.flush(timeout)


class StripeMeterClient(_Client):
    """The documented client. Calls block, at most ``timeout`` seconds; `buffer` does not.

    Safe from any thread. It stays usable after `close`, which only flushes.
    """

    def track(
        self,
        metric: str,
        customer_ref: str,
        quantity: Quantity,
        *,
        meta: Mapping[str, object] | None = None,
        resource_id: str | None = None,
        ts: datetime | str | None = None,
        idempotency_key: str | None = None,
    ) -> IngestResponse:
        """Record one event and wait until it is in the log. Raises `StripeMeterError`."""
        event = _event(metric, customer_ref, quantity, meta, resource_id, ts, idempotency_key)
        return self._settled(self._begin([event]), single=True)

    def track_batch(self, events: Sequence[Mapping[str, object]]) -> IngestResponse:
        """Record many events and wait until they are in the log.

        A wrong one is told in ``errors`` and does not keep the others. Raises `StripeMeterError`
        where the whole batch failed.
        """
        return self._settled(self._begin(events), single=False)

    def buffer(
        self,
        metric: str,
        customer_ref: str,
        quantity: Quantity,
        *,
        meta: Mapping[str, object] | None = None,
        resource_id: str | None = None,
        ts: datetime | str | None = None,
        idempotency_key: str | None = None,
    ) -> None:
        """Record one event without waiting: it leaves at once, in the background.

        Raises `StripeMeterError` for wrong arguments.
        """
        self._buffer(_event(metric, customer_ref, quantity, meta, resource_id, ts, idempotency_key))

    def flush(self) -> IngestResponse:
        """Wait for what `buffer` recorded since the last flush. ``await`` works on it as well."""
        batch, deadline = self._take_buffer(), clock.monotonic() + self._timeout
        settled = self._flush_meter(self._timeout)
        batch.settle_unwatched(arrived=settled)
        for begun in batch.begun:
            batch.settle(begun, begun.pending.wait(deadline - clock.monotonic()))
        return batch.answer(single=False)

    def get_usage(self, customer_ref: str) -> UsageResponse:
        """A customer's usage in the present month, UTC. Raises `StripeMeterError`."""
        return usage_of(self._account, customer_ref)

    def get_projection(
        self,
        customer_ref: str,
        period_start: date | str | None = None,
        period_end: date | str | None = None,
    ) -> ProjectionResponse:
        """What a customer's usage costs so far. Raises `StripeMeterError`."""
        return projection_of(self._account, customer_ref, period_start, period_end)

    def close(self) -> None:
        """Flush. Raises `StripeMeterError` when that is not confirmed in time."""
        self.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _settled(self, batch: Batch, *, single: bool) -> IngestResponse:
        deadline = clock.monotonic() + self._timeout
        for begun in batch.begun:
            batch.settle(begun, begun.pending.wait(deadline - clock.monotonic()))
        return batch.answer(single=single)


class AsyncStripeMeterClient(_Client):
    """The same for event loops: every call is awaited, and none blocks the loop."""

    async def track(
        self,
        metric: str,
        customer_ref: str,
        quantity: Quantity,
        *,
        meta: Mapping[str, object] | None = None,
        resource_id: str | None = None,
        ts: datetime | str | None = None,
        idempotency_key: str | None = None,
    ) -> IngestResponse:
        """As `StripeMeterClient.track`."""
        event = _event(metric, customer_ref, quantity, meta, resource_id, ts, idempotency_key)
        return await self._settled(self._begin([event]), single=True)

    async def track_batch(self, events: Sequence[Mapping[str, object]]) -> IngestResponse:
        """As `StripeMeterClient.track_batch`."""
        return await self._settled(self._begin(events), single=False)

    async def buffer(
        self,
        metric: str,
        customer_ref: str,
        quantity: Quantity,
        *,
        meta: Mapping[str, object] | None = None,
        resource_id: str | None = None,
        ts: datetime | str | None = None,
        idempotency_key: str | None = None,
    ) -> None:
        """As `StripeMeterClient.buffer`."""
        self._buffer(_event(metric, customer_ref, quantity, meta, resource_id, ts, idempotency_key))

    async def flush(self) -> IngestResponse:
        """As `StripeMeterClient.flush`."""
        batch, deadline = self._take_buffer(), clock.monotonic() + self._timeout
        settled = await asyncio.to_thread(self._flush_meter, self._timeout)
        batch.settle_unwatched(arrived=settled)
        for begun in batch.begun:
            batch.settle(begun, await begun.pending.wait_async(deadline - clock.monotonic()))
        return batch.answer(single=False)

    async def get_usage(self, customer_ref: str) -> UsageResponse:
        """As `StripeMeterClient.get_usage`."""
        return await asyncio.to_thread(usage_of, self._account, customer_ref)

    async def get_projection(
        self,
        customer_ref: str,
        period_start: date | str | None = None,
        period_end: date | str | None = None,
    ) -> ProjectionResponse:
        """As `StripeMeterClient.get_projection`."""
        return await asyncio.to_thread(
            projection_of, self._account, customer_ref, period_start, period_end
        )

    async def close(self) -> None:
        """As `StripeMeterClient.close`."""
        await self.flush()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def _settled(self, batch: Batch, *, single: bool) -> IngestResponse:
        deadline = clock.monotonic() + self._timeout
        for begun in batch.begun:
            batch.settle(begun, await begun.pending.wait_async(deadline - clock.monotonic()))
        return batch.answer(single=single)


def _event(  # noqa: PLR0917 - what the calls above have, passed on
    metric: str,
    customer_ref: str,
    quantity: Quantity,
    meta: Mapping[str, object] | None,
    resource_id: str | None,
    ts: datetime | str | None,
    idempotency_key: str | None,
) -> dict[str, object]:
    return {
        "metric": metric,
        "customer_ref": customer_ref,
        "quantity": quantity,
        "meta": meta,
        "resource_id": resource_id,
        "ts": ts,
        "idempotency_key": idempotency_key,
    }


StripemeterClient = StripeMeterClient
AsyncStripemeterClient = AsyncStripeMeterClient
StripemeterError = StripeMeterError
"""The package's own spellings, which differ from its document's."""

"""The documented calls of Unimeter's Python client, delivered through this SDK.

Seeds are taken and not used: events go where ``METERSTREAM_*`` says, questions to the usage API,
and what `Metrics` defines is kept by the definitions port. See the guide "Coming from Unimeter".
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Self
from weakref import WeakKeyDictionary

from meterstream.compat import unimeter_queries as queries
from meterstream.compat import wiring
from meterstream.compat.unimeter_catalogue import (
    EVENT_TYPE,
    KIND,
    attributes_of,
    from_definition,
    to_definition,
)
from meterstream.compat.unimeter_periods import (
    CYCLE_DAY_MAX,
    current_billing_period,
    current_month,
    last_billing_period,
    last_month,
    last_week_utc,
    period_of,
    this_week_utc,
    today_utc,
    yesterday_utc,
)
from meterstream.compat.unimeter_values import (
    AggType,
    AggValue,
    AlertRecord,
    AlertThreshold,
    AlreadyExistsError,
    BackpressureError,
    ConnectionError,  # noqa: A004 - the name that the package exports
    DeliveryMode,
    DimensionFilter,
    Event,
    IngestResult,
    MetricSchema,
    NotFoundError,
    OperationType,
    Period,
    PeriodType,
    ServerError,
    UnimeterError,
    UsageResult,
    scale,
    unscale,
)
from meterstream.errors import BufferFull, MeterError
from meterstream.intake import microseconds_of
from meterstream_schemas.errors import InvalidEvent
from meterstream_schemas.events import QUANTITY_MAX, QUANTITY_MIN

if TYPE_CHECKING:
    from types import TracebackType

__all__ = [
    "AggType", "AggValue", "AlertRecord", "AlertThreshold", "AlreadyExistsError", "AsyncClient",
    "BackpressureError", "ConnectionError", "DeliveryMode", "DimensionFilter", "Event",
    "IngestResult", "MetricSchema", "NotFoundError", "OperationType", "Period", "PeriodType",
    "ServerError", "UnimeterError", "UsageResult", "current_billing_period", "current_month",
    "last_billing_period", "last_month", "last_week_utc", "scale", "this_week_utc", "today_utc",
    "unscale", "yesterday_utc",
]  # fmt: skip

INGEST_SECONDS: Final = 30.0
"""How long `AsyncClient.ingest` waits until its events are in the log."""
SCHEMAS_SECONDS: Final = 2.0
"""For how long a client takes metrics as it read them."""
_TOGETHER: Final = 2_000
"""Events of one batch that wait for the log at a time."""


class Metrics:
    """Metrics, kept by the definitions port. What one client defines, others see within seconds."""

    def __init__(self) -> None:
        self._read: dict[str, MetricSchema] = {}
        self._until = 0.0

    async def create(self, schema: MetricSchema) -> None:
        """Define a metric, in place of an earlier one of its code. Raises `ServerError`."""
        if not schema.code:
            raise ServerError("code: is empty; name the metric")
        if not 1 <= schema.billing_cycle_day <= CYCLE_DAY_MAX:
            raise ServerError(
                f"billing_cycle_day: {schema.billing_cycle_day} is not in every month; pass 1 to 28"
            )
        self._until = 0.0
        try:
            told = to_definition(schema)
        except (ValueError, TypeError, AttributeError) as problem:
            raise ServerError(f"metric {schema.code!r:.80}: {problem}") from problem
        await _kept(wiring.definitions().put, KIND, schema.code, told)

    async def update(self, schema: MetricSchema) -> None:
        """The same as `create`."""
        await self.create(schema)

    async def list(self) -> list[MetricSchema]:
        """All metrics, in the order in which they were defined."""
        self._until = 0.0
        return list((await self.known()).values())

    async def delete(self, code: str) -> None:
        """Forget a metric, if there is one. Its events stay, and so do its figures."""
        self._until = 0.0
        await _kept(wiring.definitions().remove, KIND, code)

    async def known(self) -> Mapping[str, MetricSchema]:
        """Metrics by code, not older than `SCHEMAS_SECONDS`."""
        now = time.monotonic()
        if now >= self._until:
            told = await _kept(wiring.definitions().all, KIND)
            self._read = {code: from_definition(code, one) for code, one in told.items()}
            self._until = now + SCHEMAS_SECONDS
        return self._read


class AsyncClient:
    """Unimeter's client. Of one event loop; connections are made when they are needed."""

    def __init__(self, seeds: Sequence[str] = ()) -> None:
        self.metrics: Final = Metrics()
        self._seeds: Final = tuple(seeds)
        self._fresh: Final = queries.Freshness()
        self._unsettled: Final[WeakKeyDictionary[Event, tuple[str, int]]] = WeakKeyDictionary()
        """Key and time of events whose batch failed: they must count once when they come again."""

    async def connect(self) -> None:
        """Does nothing: the first event or question connects."""

    async def close(self) -> None:
        """Does nothing: every call has waited for its own outcome."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def ingest(
        self,
        events: Sequence[Event],
        *,
        delivery: DeliveryMode = DeliveryMode.ASYNC,  # noqa: ARG002 - both wait for the log
    ) -> IngestResult:
        """Record events and wait until all are in the log, replicated as the topic says.

        Nothing is recorded where an event is wrong. After an error the very same `Event` objects
        may be ingested again: what had been recorded of them counts once. Raises
        `BackpressureError` where the buffer is full, else `ServerError`.
        """
        known = await self.metrics.known()
        records = [self._record(event, known) for event in events]
        deadline = time.monotonic() + INGEST_SECONDS
        last = None
        try:
            for first in range(0, len(records), _TOGETHER):
                for sent in await _delivered(records[first : first + _TOGETHER], deadline):
                    self._fresh.note(sent)
                    last = sent
        except BaseException:
            for event, record in zip(events, records, strict=True):
                self._unsettled[event] = record["key"], record["time"]
            raise
        for event in events:
            self._unsettled.pop(event, None)
        return IngestResult(len(records), 0, 0 if last is None else last.offset)

    async def query(
        self,
        account_id: int | str,
        metric_code: str,
        period: Period,
        *,
        filters: Mapping[str, str] | None = None,
    ) -> UsageResult:
        """The figure of an account and metric in a period; of events with all of ``filters``.

        Knows what this client ingested before. Raises `ServerError` and `ConnectionError`.
        """
        schema = (await self.metrics.known()).get(metric_code)
        await self._fresh.wait()
        value = await queries.figure(str(account_id), metric_code, schema, period, filters or {})
        return UsageResult(value, period.start, period.end)

    async def query_realtime(self, account_id: int | str, metric_code: str) -> AggValue:
        """The figure of the metric's present period."""
        schema = (await self.metrics.known()).get(metric_code)
        kind, day = PeriodType.FIXED, 1
        if schema is not None:
            kind, day = schema.period_type, schema.billing_cycle_day
        return (await self.query(account_id, metric_code, period_of(kind, day))).value

    async def list_alerts(
        self, account_id: int | str = 0, since_offset: int = 0
    ) -> list[AlertRecord]:
        """Thresholds reached in the present period, of one account or of all (0).

        Needs workers with the catalogue of `meterstream catalogue unimeter --definitions FILE`.
        """
        schemas = list((await self.metrics.known()).values())
        await self._fresh.wait()
        return await queries.alerts(str(account_id or ""), schemas, since_offset)

    def _record(self, event: Event, known: Mapping[str, MetricSchema]) -> dict[str, Any]:
        """The arguments of `wiring.begin` for an event. Raises `ServerError`."""
        if not event.metric_code:
            raise ServerError("metric_code: is empty; name the metric")
        schema = known.get(event.metric_code)
        properties = {str(name): str(value) for name, value in event.properties.items()}
        attributes, is_unique = attributes_of(
            schema,
            event.metric_code,
            properties,
            value=event.value,
            operation=event.operation_type,
        )
        quantity = 1 if is_unique else _amount(event.value)
        key, at = self._unsettled.get(event, (os.urandom(16).hex(), time.time_ns() // 1000))
        if event.timestamp is not None:
            try:
                at = microseconds_of(event.timestamp)
            except InvalidEvent as problem:
                raise ServerError(f"timestamp: {problem}") from problem
        return {
            "tenant": str(event.account_id),
            "quantity": quantity,
            "time": at,
            "attributes": attributes,
            "key": key,
        }


async def _delivered(records: Sequence[dict[str, Any]], deadline: float) -> list[wiring.Sent]:
    """Record and wait for all of it. Raises `BackpressureError` and `ServerError`."""
    pending: list[wiring.Pending] = []
    refusal: UnimeterError | None = None
    try:
        before = wiring.meter().status().dropped
    except MeterError as problem:
        raise ServerError(str(problem)) from problem
    for record in records:
        try:
            taken = wiring.begin(EVENT_TYPE, **record)
        except BufferFull as problem:
            refusal = BackpressureError(str(problem))
            break
        except (MeterError, InvalidEvent) as problem:
            refusal = ServerError(str(problem))
            break
        if taken is None:
            refusal = _refusal(before)
            break
        pending.append(taken)
    sent = await asyncio.gather(*[one.wait_async(deadline - time.monotonic()) for one in pending])
    if refusal is not None:
        raise refusal
    arrived = [one for one in sent if one is not None]
    if len(arrived) < len(sent):
        raise ServerError(
            f"{len(sent) - len(arrived)} of {len(sent)} events are not in the log "
            f"({wiring.meter().status().last_error or 'no answer yet'}); ingest the same events "
            "again, what arrives meanwhile counts once"
        )
    return arrived


def _refusal(before: Mapping[str, int]) -> UnimeterError:
    """Why an event was not taken, by what the meter counted since."""
    status = wiring.meter().status()
    reasons = {name for name, count in status.dropped.items() if count > before.get(name, 0)}
    said = status.last_error or "the event was not taken"
    if reasons - {"invalid", "closed"}:
        return BackpressureError(said)
    return ServerError(said)


def _amount(value: object) -> int:
    if isinstance(value, int) and QUANTITY_MIN <= value <= QUANTITY_MAX:
        return int(value)
    raise ServerError(
        f"value: {value!r:.60} is no whole number of 64 bits; pass an int, scale(2.5) for 2.5"
    )


async def _kept(call: Any, *arguments: Any) -> Any:  # noqa: ANN401 - a method of the port
    """What the definitions port answers; it may block on a disk."""
    try:
        return await asyncio.to_thread(call, *arguments)
    except (MeterError, KeyError, TypeError, ValueError) as problem:
        raise ServerError(f"definitions cannot be read or kept: {problem}") from problem

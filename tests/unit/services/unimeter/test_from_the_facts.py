"""Answers of the port as bytes, read by what was written down of the wire, not by our own codec."""

from __future__ import annotations

import asyncio
import struct
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import pytest
from unimeter import (
    AggType,
    AlertThreshold,
    AsyncClient,
    DimensionFilter,
    Event,
    MetricSchema,
    Period,
    PeriodType,
)

from meterstream_services.clients.unimeter import alerts
from tests.unit.services.unimeter.world import NOW, World

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Coroutine

MAGIC: Final = 0xC0FFEE01
OK, DUPLICATE, ERR, UNKNOWN_METRIC = 0, 1, 2, 3
INGEST_ASYNC, INGEST_SYNC, METRIC_PUT, METRIC_DELETE = 0x00, 0x01, 0x20, 0x21
EVENTS_LIST: Final = 0x32
SECOND: Final = 10**9
NOW_NS: Final = NOW // 1_000_000 * SECOND
"""The present, in whole seconds."""
LOGGED: Final = struct.Struct("<QqQ64sQB7x")
"""A row of EVENTS_LIST: offset, time, account, code, value, operation."""


class Wire(NamedTuple):
    """A connection that speaks what is written down."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def ask(self, operation: int, payload: bytes, request: int = 7) -> tuple[int, bytes]:
        """The status and the payload that a request is answered with."""
        header = struct.pack("<IBBHII", MAGIC, 1, operation, 0xFFFF, len(payload), request)
        self.writer.write(header + payload)
        async with asyncio.timeout(10):
            status, answered, size = struct.unpack("<B3xII", await self.reader.readexactly(12))
            assert answered == request
            return status, await self.reader.readexactly(size)


@asynccontextmanager
async def connected(world: World) -> AsyncGenerator[tuple[Wire, AsyncClient]]:
    """A port without a tenant, over bytes and by the published client."""
    async with world.serving() as [port], AsyncClient([port.address]) as client:
        host, number = port.address.rsplit(":", 1)
        reader, writer = await asyncio.open_connection(host, int(number))
        try:
            yield Wire(reader, writer), client
        finally:
            writer.close()


def run(coroutine: Coroutine[Any, Any, None]) -> None:
    """A program to its end."""
    asyncio.run(coroutine)


def frame(*events: tuple[str, int, int, int, int]) -> bytes:
    """An ingest payload, without properties: code, account, time (ns), value, operation."""
    rows = b"".join(
        struct.pack("<64sQqQBB6x", code.encode(), account, at, value, operation, 0)
        for code, account, at, value, operation in events
    )
    return struct.pack("<II", len(events), 0) + rows


def metric(code: str, aggregation: int, *, period: int = 0, day: int = 1) -> bytes:
    """A METRIC_PUT payload without filters and thresholds."""
    base = struct.pack("<64sBBBx64s", code.encode(), aggregation, 0, 0, b"")
    return base + struct.pack("<B7x", 0) + struct.pack("<BB6x", period, day)


def test_listed_events_are_rows_of_104_bytes() -> None:
    """A count of eight bytes, then each event with its own account, time, value and operation."""
    told = [("calls", 42, NOW_NS - 9 * SECOND, 7, 0), ("seats", 42, NOW_NS - 8 * SECOND, 99, 2)]
    other = ("calls", 43, NOW_NS - 8 * SECOND, 1, 0)

    async def program() -> None:
        async with connected(World()) as (wire, client):
            await client.metrics.create(MetricSchema("calls", AggType.COUNT))
            await client.metrics.create(MetricSchema("seats", AggType.COUNT_UNIQUE))
            assert (await wire.ask(INGEST_SYNC, frame(*told, other)))[0] == OK

            span = struct.pack("<Qqq", 42, NOW_NS - 9 * SECOND, NOW_NS)
            status, payload = await wire.ask(EVENTS_LIST, span)

            assert status == OK
            assert struct.unpack_from("<II", payload) == (2, 0)
            assert len(payload) == 8 + 2 * 104
            rows = [LOGGED.unpack_from(payload, 8 + 104 * place) for place in range(2)]
            assert [
                (code.rstrip(b"\0").decode(), account, at, value, operation)
                for _, at, account, code, value, operation in rows
            ] == told
            assert len({row[0] for row in rows}) == 2
            # The end is not included, the beginning is.
            early = struct.pack("<Qqq", 42, NOW_NS - 9 * SECOND, NOW_NS - 8 * SECOND)
            assert struct.unpack_from("<I", (await wire.ask(EVENTS_LIST, early))[1]) == (1,)
            nobody = struct.pack("<Qqq", 44, 0, NOW_NS)
            assert await wire.ask(EVENTS_LIST, nobody) == (OK, struct.pack("<II", 0, 0))

    run(program())


@pytest.mark.parametrize("operation", [INGEST_ASYNC, INGEST_SYNC])
def test_a_frame_of_nothing_but_duplicates_is_status_one(operation: int) -> None:
    """With some that are new it is OK; unknown metrics are stored, and told by status three."""
    first, second = ("calls", 1, NOW_NS, 5, 0), ("calls", 1, NOW_NS, 6, 0)

    async def program() -> None:
        async with connected(World()) as (wire, client):
            await client.metrics.create(MetricSchema("calls", AggType.COUNT))
            answers = [
                await wire.ask(operation, frame(*rows))
                for rows in ((first,), (first,), (first, second), (first, second))
            ]
            statuses = [status for status, _ in answers]
            counts = [struct.unpack("<IIQ", payload)[:2] for _, payload in answers]
            assert statuses == [OK, DUPLICATE, OK, DUPLICATE]
            assert counts == [(1, 0), (0, 1), (1, 1), (0, 2)]
            status, payload = await wire.ask(operation, frame(("none", 1, NOW_NS, 1, 0)))
            assert (status, struct.unpack("<IIQ", payload)[0]) == (UNKNOWN_METRIC, 1)

    run(program())


@pytest.mark.parametrize(
    "payload",
    [metric("x", 5), metric("x", 9), metric("x", 255), metric("x", 0, period=4),
     metric("x", 0, period=7), metric("x", 0, period=1, day=29), metric("", 0)],
)  # fmt: skip
def test_a_metric_that_cannot_be_is_an_error_and_the_connection_goes_on(payload: bytes) -> None:
    """An aggregation, a period or a day that nobody knows: nothing is kept."""

    async def program() -> None:
        async with connected(World()) as (wire, client):
            assert await wire.ask(METRIC_PUT, payload) == (ERR, b"")
            assert await client.metrics.list() == []
            assert await wire.ask(METRIC_PUT, metric("x", 4, period=3)) == (OK, b"")
            assert [each.code for each in await client.metrics.list()] == ["x"]

    run(program())


def test_what_is_not_there_is_deleted_with_success() -> None:
    """Also what was deleted before; others stay."""

    async def program() -> None:
        async with connected(World()) as (wire, client):
            for code in ("stays", "goes"):
                await client.metrics.create(MetricSchema(code, AggType.SUM))
            for name in (b"never", b"goes", b"goes"):
                assert await wire.ask(METRIC_DELETE, name.ljust(64, b"\0")) == (OK, b"")
            assert [each.code for each in await client.metrics.list()] == ["stays"]

    run(program())


def test_account_zero_lists_the_alerts_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each account alone has its own; the offsets are those of one list."""
    monkeypatch.setattr(alerts, "LOOK_SECONDS", 0.0)

    async def program() -> None:
        async with connected(World()) as (_, client):
            soft = [AlertThreshold("soft", 2), AlertThreshold("hard", 3)]
            schema = MetricSchema("calls", AggType.COUNT, thresholds=soft)
            await client.metrics.create(schema)
            for account, times in ((42, 2), (43, 3), (44, 1)):
                await client.ingest([Event(account, "calls") for _ in range(times)])

            everybody = await client.list_alerts(0)

            assert sorted((each.account_id, each.threshold_code) for each in everybody) == [
                (42, "soft"), (43, "hard"), (43, "soft"),
            ]  # fmt: skip
            offsets = [each.log_offset for each in everybody]
            assert offsets == sorted(set(offsets))
            for account in (42, 43, 44):
                own = [each for each in everybody if each.account_id == account]
                assert await client.list_alerts(account) == own
            since = await client.list_alerts(0, since_offset=offsets[1])
            assert since == [each for each in everybody if each.log_offset >= offsets[1]]

    run(program())


def test_filters_are_compared_as_far_as_the_client_sends_them() -> None:
    """It cuts them after 31 bytes: what begins so fits, and shorter values are exact."""
    values = {"v" * 40: 1, "v" * 31 + "w": 10, "v" * 30: 100, "ü" * 20: 1_000, "ü" * 15: 10_000}
    period = Period(
        datetime.fromtimestamp(NOW / 1e6, UTC) - timedelta(days=1),
        datetime.fromtimestamp(NOW / 1e6, UTC) + timedelta(days=1),
    )

    async def program() -> None:
        async with connected(World()) as (_, client):
            filters = [DimensionFilter("k", [])]
            await client.metrics.create(MetricSchema("b", AggType.SUM, filters=filters))
            events = [
                Event(1, "b", value, properties={"k": name}) for name, value in values.items()
            ]
            await client.ingest(events)
            for asked, total in (
                ("v" * 40, 11), ("v" * 31, 11), ("v" * 63, 11), ("v" * 30, 100), ("v" * 29, 0),
            ):  # fmt: skip
                figure = await client.query(1, "b", period, filters={"k": asked})
                assert figure.value.sum == total, asked

    run(program())


def _begin(kind: PeriodType, now: datetime) -> datetime:
    """When the period of a kind that holds a time began, reckoned anew."""
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    match kind:
        case PeriodType.DAY:
            return midnight
        case PeriodType.WEEK:
            return midnight - timedelta(days=now.weekday())
        case PeriodType.CALENDAR:
            while midnight.day != 15:
                midnight -= timedelta(days=1)
            return midnight
        case _:
            days = (midnight - datetime(1970, 1, 1, tzinfo=UTC)).days
            return midnight - timedelta(days=days % 30)


@pytest.mark.parametrize("kind", list(PeriodType))
def test_realtime_is_of_the_metrics_own_period(kind: PeriodType) -> None:
    """From its very beginning until now; what was the second before belongs to the last one."""
    noon = datetime.fromtimestamp(NOW / 1e6, UTC).replace(
        hour=12, minute=0, second=0, microsecond=0
    ) - timedelta(days=1)
    world = World(time=int(noon.timestamp()) * 1_000_000)
    begin = _begin(kind, noon)

    async def program() -> None:
        async with connected(world) as (_, client):
            day = 15 if kind is PeriodType.CALENDAR else 1
            schema = MetricSchema("m", AggType.COUNT, period_type=kind, billing_cycle_day=day)
            await client.metrics.create(schema)
            before = begin - timedelta(seconds=1)
            times = [before, begin, begin + timedelta(hours=1), noon - timedelta(seconds=1)]
            stored = await client.ingest([Event(5, "m", 1, at) for at in times])
            assert stored.n_stored == 4
            assert (await client.query_realtime(5, "m")).count == 3
            assert (await client.query_realtime(6, "m")).count == 0

    run(program())

"""Unimeter's alerts over a gateway that is killed: listed afterwards, told once, by one offset."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from meterstream_services.catalogues import ready
from meterstream_services.clients.unimeter import wire, wire_metrics, wire_questions
from meterstream_services.clients.unimeter.wire import EventRow, Op, Status
from meterstream_services.listening import free_port
from tests.integration.counting import LONG, worker_settings
from tests.integration.serve_process import Serve
from tests.integration.worker_process import running_worker
from tests.unit.services.unimeter.world import raw

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

    from meterstream_services.clients.unimeter.wire_questions import AlertRow
    from tests.conftest import Broker

pytestmark = pytest.mark.integration

ACCOUNT = 42
SUM = 1
ALERT_BYTES = 136
"""Of a push; the rest names the node."""
METRIC = wire_metrics.MetricForm(
    "credits",
    SUM,
    thresholds=(
        wire_metrics.ThresholdForm("soft", 10, recurring=False),
        wire_metrics.ThresholdForm("hard", 20, recurring=False),
    ),
)


class Client:
    """One connection. ``pushed`` are the alerts that it was told of without asking."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.pushed: list[AlertRow] = []
        self._reader = reader
        self._writer = writer
        self._number = 0

    async def ask(self, op: Op, payload: bytes = b"") -> bytes:
        """The answer to a request; it must succeed."""
        self._number += 1
        self._writer.write(wire.encode_request(op, payload, self._number))
        while True:
            status, number, content = await self._next()
            if number == self._number:
                assert Status(status) in {Status.OK, Status.UNKNOWN_METRIC}
                return content

    async def ingest(self, value: int) -> None:
        """One event of the account."""
        row = EventRow(METRIC.code.encode().ljust(64, b"\0"), ACCOUNT, 0, value, 0, 0)
        await self.ask(Op.INGEST_SYNC, wire.encode_events([(row, {})]))

    async def listed(self) -> list[AlertRow]:
        """All alerts of the account."""
        answer = await self.ask(Op.ALERTS_LIST, wire_questions.encode_since(ACCOUNT, 0))
        return wire_questions.decode_alerts(answer)

    async def hears(self) -> AlertRow:
        """The next alert that is pushed."""
        known = len(self.pushed)
        while len(self.pushed) == known:
            await self._next()
        return self.pushed[-1]

    async def _next(self) -> tuple[int, int, bytes]:
        async with asyncio.timeout(LONG):
            head = await self._reader.readexactly(wire.RESPONSE_BYTES)
            status, number, size = wire.decode_response(head)
            content = await self._reader.readexactly(size)
        if number == 0:
            self.pushed += wire_questions.decode_alerts(content[:ALERT_BYTES])
        return status, number, content


@asynccontextmanager
async def client_of(address: str) -> AsyncGenerator[Client]:
    """A client that is connected inside the block."""
    reader, writer = await raw(address)
    try:
        yield Client(reader, writer)
    finally:
        writer.close()


async def reach_the_first(address: str) -> AlertRow:
    """A subscriber is told of the first threshold, and finds it in the list."""
    async with client_of(address) as client:
        await client.ask(Op.METRIC_PUT, wire_metrics.encode_metric(METRIC))
        await client.ask(Op.ALERT_PUSH_ENABLE)
        await client.ingest(12)
        told = await client.hears()
        assert await client.listed() == [told]
        return told


async def reach_the_second(address: str, first: AlertRow) -> None:
    """Behind the kill: the first is listed and not told again; the second goes to who asked."""
    async with client_of(address) as silent, client_of(address) as subscriber:
        assert await silent.listed() == [first]
        await subscriber.ask(Op.ALERT_PUSH_ENABLE)
        await silent.ingest(10)
        second = await subscriber.hears()
        assert (second.threshold, second.value, second.offset) == ("hard", 22, first.offset + 1)
        assert await silent.listed() == await subscriber.listed() == [first, second]
        assert (silent.pushed, subscriber.pushed) == ([], [second])


def test_alerts_over_a_kill(broker: Broker, topic: str, tmp_path: Path) -> None:
    """What was reached before SIGKILL is listed after it, and pushed to nobody a second time."""
    settings = replace(worker_settings(broker, topic, tmp_path), catalogue=ready()["unimeter"])
    address = f"127.0.0.1:{free_port('127.0.0.1')}"
    options = f"--unimeter=acme={address}"

    with (
        running_worker(settings),
        Serve(tmp_path, broker.bootstrap_servers, topic, options) as serve,
    ):
        first = asyncio.run(reach_the_first(address))
        assert (first.threshold, first.value, first.account) == ("soft", 12, ACCOUNT)
        serve.kill()
        serve.start()
        asyncio.run(reach_the_second(address, first))

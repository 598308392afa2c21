"""Records on their way through the gateway: each result at its record's place, doubt as doubt."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from meterstream.memory import MemoryTransport
from meterstream.transport import Failure
from meterstream_services.gateway import passing as module
from meterstream_services.gateway.passing import Busy, Passing, Record
from tests.unit.services.gateway.doors import LONG, SHORT, run, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@asynccontextmanager
async def opened(
    transport: MemoryTransport, *, patience_seconds: float = LONG
) -> AsyncIterator[Passing]:
    """Connected, if it can be."""
    passing = Passing(transport, patience_seconds=patience_seconds)
    passing.start()
    try:
        if transport.available:
            await until(lambda: passing.partitions is not None)
        yield passing
    finally:
        await passing.close()


def records(*numbers: int) -> list[Record]:
    """Records that differ."""
    return [Record(number % 4, b"tenant", b"record %d" % number) for number in numbers]


def test_each_result_is_at_its_records_place() -> None:
    """Many requests at once: offsets are those of the log, bytes and keys as they came."""

    async def check() -> None:
        transport = MemoryTransport()
        async with opened(transport) as passing:
            batches = [records(*range(at * 50, at * 50 + 50)) for at in range(20)]
            answers = await asyncio.gather(*(passing.send(batch) for batch in batches))

            for batch, results in zip(batches, answers, strict=True):
                for record, offset in zip(batch, results, strict=True):
                    assert isinstance(offset, int)
                    assert transport.log[record.partition][offset] == (record.key, record.value)

    run(check())


def test_refusals_and_doubt_are_told_apart() -> None:
    """For good, for now, and a success without a place, which is doubt."""
    fates: dict[bytes, Failure | str] = {
        b"record 1": Failure("never", permanent=True),
        b"record 2": Failure("not now", permanent=False),
        b"record 3": "lost_report",
    }

    async def check() -> None:
        transport = MemoryTransport()
        transport.misfortune = fates.get
        async with opened(transport) as passing:
            first, never, later, unclear = await passing.send(records(0, 1, 2, 3))

            assert first == 0
            assert never == Failure("never", permanent=True)
            assert later == Failure("not now", permanent=False)
            assert isinstance(unclear, Failure)
            assert not unclear.permanent

    run(check())


def test_a_broken_connection_is_doubt_and_is_made_anew() -> None:
    """All that was under way is in doubt; the next request goes through."""

    async def check() -> None:
        transport = MemoryTransport()
        transport.misfortune = lambda value: "break" if value == b"record 5" else None
        async with opened(transport) as passing:
            results = await passing.send(records(*range(10)))
            assert any(isinstance(result, Failure) for result in results)
            assert not any(isinstance(result, Failure) and result.permanent for result in results)

            await until(lambda: passing.partitions is not None)
            assert await passing.send(records(100)) == [len(transport.log[0]) - 1]
            assert transport.connections == 2

    run(check())


def test_what_the_log_does_not_answer_in_time_is_in_doubt() -> None:
    """A report that comes later is nobody's, and does no harm."""

    async def check() -> None:
        transport = MemoryTransport()
        async with opened(transport, patience_seconds=SHORT) as passing:
            transport.available = False
            results = await passing.send(records(1, 2))
            assert [type(result) for result in results] == [Failure, Failure]

            transport.available = True
            await until(lambda: sum(map(len, transport.log)) == 2)
            assert await passing.send(records(5)) == [1]

    run(check())


def test_nothing_is_sent_without_a_log_or_beyond_the_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """Away, too much under way, or closed: the caller hears that nothing was sent."""
    monkeypatch.setattr(module, "RECORDS_MAX", 10)

    async def check() -> None:
        transport = MemoryTransport()
        transport.available = False
        async with opened(transport) as passing:
            with pytest.raises(Busy, match="away"):
                await passing.send(records(1))
            transport.available = True
            await until(lambda: passing.partitions is not None)
            with pytest.raises(Busy, match="too many"):
                await passing.send(records(*range(11)))
        with pytest.raises(Busy):
            await passing.send(records(1))
        assert transport.log == [[], [], [], []]

    run(check())

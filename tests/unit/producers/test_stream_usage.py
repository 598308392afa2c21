"""`Meter.stream`: the usage that the chunks of a stream tell, recorded at its end."""

from __future__ import annotations

import asyncio
import gc
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from meterstream_schemas.quantity import to_decimal
from tests.unit.producers.reading import arrived

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from meterstream import Meter
    from meterstream.memory import MemoryTransport
    from tests.unit.producers.conftest import MakeMeter


@dataclass
class Chunk:
    """A piece of an answer; the last one tells the usage."""

    text: str
    tokens: int | None = None


CHUNKS = [Chunk("a", 1), Chunk("b", 5), Chunk("c")]


def tokens(chunk: Chunk) -> int | None:
    """What a chunk tells."""
    return chunk.tokens


def failing() -> Iterator[Chunk]:
    """A stream that tears."""
    yield CHUNKS[0]
    raise OSError("torn")


@pytest.fixture
def meter(make_meter: MakeMeter) -> Meter:
    """A strict meter over ``transport``."""
    return make_meter(strict=True)


def amounts(meter: Meter, transport: MemoryTransport) -> list[Decimal]:
    """What was recorded until now, in order: one tenant has one partition."""
    assert meter.flush(5)
    return [to_decimal(event.quantity, event.scale) for event in arrived(transport)]


def test_the_last_that_was_told_counts_or_the_sum(meter: Meter, transport: MemoryTransport) -> None:
    """Once, at the end."""
    last = meter.stream("llm", CHUNKS, tokens=tokens, tenant="t", attributes={"model": "m"})
    assert [next(last), next(last)] == CHUNKS[:2]
    assert amounts(meter, transport) == []
    assert list(last) == CHUNKS[2:]
    assert list(meter.stream("llm", CHUNKS, tokens=tokens, tenant="t", sum=True)) == CHUNKS
    fractions = meter.stream("llm", "ab", tokens=lambda _: Decimal("0.1"), tenant="t", sum=True)
    assert list(fractions) == ["a", "b"]

    assert amounts(meter, transport) == [5, 6, Decimal("0.2")]
    assert arrived(transport)[0].attributes == {"model": "m"}


def test_a_consumer_that_stops_early_is_charged(meter: Meter, transport: MemoryTransport) -> None:
    """For what was told until then: closed, left, or forgotten."""
    closed, left, forgotten = (
        meter.stream("llm", iter(CHUNKS), tokens=tokens, tenant="t") for _ in range(3)
    )
    for number, stream in enumerate((closed, left, forgotten)):
        next(stream)
        if number:
            next(stream)
    closed.close()
    with left:
        pass
    del forgotten, stream
    gc.collect()

    assert amounts(meter, transport) == [1, 5, 5]


def test_a_stream_that_tells_nothing_is_not_recorded(
    meter: Meter, transport: MemoryTransport
) -> None:
    """There is no amount to record."""
    assert list(meter.stream("llm", CHUNKS[2:], tokens=tokens, tenant="t")) == CHUNKS[2:]
    assert amounts(meter, transport) == []


def test_a_failing_stream_is_charged_unless_told_otherwise(
    meter: Meter, transport: MemoryTransport
) -> None:
    """The vendor charged for it, too."""
    with pytest.raises(OSError, match="torn"):
        list(meter.stream("llm", failing(), tokens=tokens, tenant="t"))
    with pytest.raises(OSError, match="torn"):
        list(meter.stream("llm", failing(), tokens=tokens, tenant="t", charge_failures=False))

    assert amounts(meter, transport) == [1]


def test_an_async_stream_is_recorded_in_the_context_it_was_begun_in(
    meter: Meter, transport: MemoryTransport
) -> None:
    """Wherever it ends."""

    async def chunks() -> AsyncIterator[Chunk]:
        for chunk in CHUNKS:
            await asyncio.sleep(0)
            yield chunk

    async def scenario() -> None:
        with meter.context(tenant="t", subject="s"):
            stream = meter.stream("llm", chunks(), tokens=tokens)
        assert [chunk async for chunk in stream] == CHUNKS

    asyncio.run(scenario())
    assert amounts(meter, transport) == [5]
    assert arrived(transport)[0].subject == "s"


def test_faults_of_the_function_are_counted(make_meter: MakeMeter) -> None:
    """The chunks come all the same; in strict they do not."""
    lenient, strict = make_meter(), make_meter(strict=True)

    def broken(_: object) -> Any:  # noqa: ANN401 - it never returns
        raise ZeroDivisionError

    assert list(lenient.stream("llm", CHUNKS, tokens=broken, tenant="t")) == CHUNKS
    assert lenient.status().dropped == {"invalid": 3}
    with pytest.raises(ZeroDivisionError):
        list(strict.stream("llm", CHUNKS, tokens=broken, tenant="t"))

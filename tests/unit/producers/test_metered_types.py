"""What type checkers see of decorated functions and streams: what was there before.

The assertions on types are held by the type checkers that run over this file.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, assert_type

import meterstream
from meterstream.streaming import Watched, WatchedAsync

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Generator

    from meterstream import Meter
    from meterstream.testing import RecordingMeter
    from tests.unit.producers.conftest import MakeMeter


def test_decorated_functions_keep_their_types(
    make_meter: MakeMeter, meterstream_default: RecordingMeter
) -> None:
    """Parameters, results, methods, coroutines and generators."""
    meter: Meter = make_meter()

    @meter.metered("f", tenant="t", quantity=lambda result: result)
    def function(a: int, *, b: str = "") -> list[int]:
        return [a, len(b)]

    @meter.metered
    def bare(a: int) -> int:
        return a

    @meterstream.metered("c", tenant="t")
    async def coroutine(a: int) -> str:
        return str(a)

    @meter.timer("g", tenant="t")
    def generator(a: int) -> Generator[int, str, bytes]:
        yield a
        return b""

    class Service:
        @meter.context(tenant="t")
        def method(self, a: int) -> float:
            return a / 2

        @classmethod
        @meter.metered("k", tenant="t")
        def of_class(cls, a: int) -> complex:
            return complex(a)

    assert_type(function(1, b="x"), list[int])
    assert_type(bare(1), int)
    assert_type(generator(1), "Generator[int, str, bytes]")
    assert_type(Service().method(1), float)
    assert_type(Service.of_class(1), complex)
    later: Callable[[int], Coroutine[Any, Any, str]] = coroutine
    later(1).close()
    if TYPE_CHECKING:
        function("wrong")  # type: ignore[arg-type]  # what is wrong without the decorator is with it
        bare()  # type: ignore[call-arg]  # what is wrong without the decorator is with it
    assert assert_type(asyncio.run(coroutine(1)), str) == "1"


def test_streams_keep_the_types_of_their_items(make_meter: MakeMeter) -> None:
    """And tell plain from asynchronous ones."""
    meter: Meter = make_meter()

    async def numbers() -> AsyncIterator[int]:
        yield 1

    plain = meter.stream("s", ["a"], tokens=len, tenant="t")
    asynchronous = meter.stream("s", numbers(), tokens=lambda item: item, tenant="t")

    assert_type(plain, Watched[str])
    assert_type(next(plain), str)
    assert_type(asynchronous, WatchedAsync[int])
    assert (type(plain), type(asynchronous)) == (Watched, WatchedAsync)

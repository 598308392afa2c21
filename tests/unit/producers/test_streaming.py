"""Watched streams: transparent, every item seen, the end told once."""

from __future__ import annotations

import asyncio
import gc
from typing import TYPE_CHECKING, Any, Self

import pytest

from meterstream.streaming import watch, watch_async

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Generator, Iterator


class Listener:
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.items: list[object] = []
        self.ends: list[BaseException | None] = []

    @property
    def told(self) -> dict[str, Any]:
        """The callbacks as arguments."""
        return {"on_item": self.items.append, "on_end": self.ends.append}


class Response:
    """A response as vendors' SDKs make them: iterable, closable, entered, with attributes."""

    def __init__(self, *, failing: bool = False) -> None:
        self.model = "m"
        self.closed = 0
        self.left: list[object] = []
        self._failing = failing

    def __iter__(self) -> Iterator[int]:
        yield from (1, 2)
        if self._failing:
            raise OSError("torn")

    async def __aiter__(self) -> AsyncIterator[int]:
        for number in self:
            yield number

    def close(self) -> None:
        """Counted."""
        self.closed += 1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *problem: object) -> None:
        self.left.append(problem[1])

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *problem: object) -> None:
        self.left.append(problem[1])


def test_every_item_is_seen_and_the_end_is_told_once() -> None:
    """Exhaustion is an end; more steps, a close and the collection tell nothing more."""
    heard = Listener()
    stream = watch([1, 2, 3], **heard.told)

    assert list(stream) == [1, 2, 3]
    assert list(stream) == []
    stream.close()
    del stream
    gc.collect()

    assert (heard.items, heard.ends) == ([1, 2, 3], [None])


def test_attributes_and_blocks_are_the_streams_own() -> None:
    """What the stand-in does not know it asks the stream."""
    heard, response = Listener(), Response()

    begun = watch(response, **heard.told)
    assert next(begun) == 1
    with begun as stream:
        assert stream.model == "m"
        assert next(stream) == 2
        assert not heard.ends

    assert (heard.items, heard.ends, response.left) == ([1, 2], [None], [None])
    with pytest.raises(AttributeError):
        _ = stream.nothing


def test_a_block_may_yield_another_stream() -> None:
    """As where a manager is entered to get the stream."""

    class Manager:
        left = False

        def __enter__(self) -> Iterator[int]:
            return iter([7, 8])

        def __exit__(self, *_problem: object) -> None:
            self.left = True

    heard, manager = Listener(), Manager()

    with watch(manager, **heard.told) as stream:  # type: ignore[arg-type]  # no iterable before it is entered
        assert list(stream) == [7, 8]

    assert (heard.items, heard.ends, manager.left) == ([7, 8], [None], True)


def test_a_failing_stream_fails_unchanged() -> None:
    """The end gets the very exception that the consumer gets."""
    heard = Listener()

    with pytest.raises(OSError, match="torn") as caught:
        list(watch(Response(failing=True), **heard.told))

    assert heard.items == [1, 2]
    assert heard.ends == [caught.value]


def test_a_failing_block_tells_its_exception() -> None:
    """The consumer's fault inside the block goes to the stream and to the end."""
    heard, response, problem = Listener(), Response(), KeyError("host")

    with pytest.raises(KeyError) as caught, watch(response, **heard.told):
        raise problem

    assert caught.value is problem
    assert response.left == heard.ends == [problem]


def test_a_stream_that_is_left_half_way_ends_when_it_is_collected() -> None:
    """Nobody has to close it."""
    heard = Listener()
    stream = watch(Response(), **heard.told)
    next(stream)

    del stream
    gc.collect()

    assert (heard.items, heard.ends) == ([1], [None])


def test_a_generator_is_sent_to_thrown_into_and_closed() -> None:
    """All four ways into a generator lead through."""

    def echo() -> Iterator[Any]:
        got = None
        while True:
            try:
                got = yield got
            except KeyError as problem:
                got = problem

    heard, problem = Listener(), KeyError("x")
    stream = watch(echo(), **heard.told)

    assert next(stream) is None
    assert stream.send(5) == 5
    assert stream.throw(problem) is problem
    stream.close()

    assert heard.items == [None, 5, problem]
    assert heard.ends == [None]
    assert list(stream) == []


def test_a_generators_return_value_passes() -> None:
    """``yield from`` over the stand-in is as over the generator."""

    def numbers() -> Generator[int, None, str]:
        yield 1
        return "done"

    def outer() -> Generator[int, None, object]:
        return (yield from watch(numbers(), **Listener().told))

    generator = outer()
    assert next(generator) == 1
    with pytest.raises(StopIteration) as caught:
        next(generator)
    assert caught.value.value == "done"


def test_what_is_no_generator_is_thrown_into_by_raising() -> None:
    """And ends by it."""
    heard, problem = Listener(), KeyError("x")

    with pytest.raises(KeyError) as caught:
        watch([1], **heard.told).throw(problem)

    assert caught.value is problem
    assert heard.ends == [problem]


def test_faults_of_the_listener_stay_with_it() -> None:
    """By default the consumer gets its items whatever the callbacks do."""

    def fail(_: object) -> None:
        raise ZeroDivisionError

    assert list(watch([1, 2], on_item=fail, on_end=fail)) == [1, 2]
    with pytest.raises(ZeroDivisionError):
        list(watch([1], on_item=fail, on_end=print, strict=True))
    with pytest.raises(ZeroDivisionError):
        list(watch([1], on_item=print, on_end=fail, strict=True))
    with pytest.raises(OSError, match="torn"):
        list(watch(Response(failing=True), on_item=print, on_end=fail, strict=True))


def test_an_async_stream_is_watched_alike() -> None:
    """Items, attributes, exhaustion, failure, blocks, and being left half-way."""

    async def scenario() -> None:
        whole = Listener()
        stream = watch_async(Response(), **whole.told)
        assert [item async for item in stream] == [1, 2]
        assert [item async for item in stream] == []
        await stream.aclose()
        assert (stream.model, whole.items, whole.ends) == ("m", [1, 2], [None])

        torn = Listener()
        with pytest.raises(OSError, match="torn") as caught:
            _ = [item async for item in watch_async(Response(failing=True), **torn.told)]
        assert torn.ends == [caught.value]

        block, response = Listener(), Response()
        async with watch_async(response, **block.told) as entered:
            assert await anext(entered) == 1
        assert (block.items, block.ends, response.left) == ([1], [None], [None])

        left = Listener()
        stream = watch_async(Response(), **left.told)
        await anext(stream)
        del stream
        gc.collect()
        assert (left.items, left.ends) == ([1], [None])

    asyncio.run(scenario())


def test_an_async_generator_is_sent_to_thrown_into_and_closed() -> None:
    """All four ways into an asynchronous generator lead through."""

    async def echo() -> AsyncIterator[Any]:
        got = None
        while True:
            try:
                got = yield got
            except KeyError as problem:
                got = problem

    async def scenario() -> None:
        heard, problem = Listener(), KeyError("x")
        async with watch_async(echo(), **heard.told) as stream:
            assert await anext(stream) is None
            assert await stream.asend(5) == 5
            assert await stream.athrow(problem) is problem
        assert (heard.items, heard.ends) == ([None, 5, problem], [None])

        closed, response = Listener(), Response()
        watched = watch_async(response, **closed.told)
        watched.close()
        assert (response.closed, closed.ends) == (1, [None])

    asyncio.run(scenario())

"""Context: said once, it holds for the calls inside, in whatever way code runs."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import threading
from typing import TYPE_CHECKING, Any

import pytest

from meterstream import InvalidEvent
from meterstream.context import AMBIENT
from meterstream_schemas.events import EventKind
from tests.unit.producers.reading import arrived

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Generator, Iterator

    from meterstream import Meter
    from meterstream.memory import MemoryTransport
    from tests.unit.producers.conftest import MakeMeter


@pytest.fixture
def meter(make_meter: MakeMeter) -> Meter:
    """A strict meter over ``transport``."""
    return make_meter(strict=True)


def tenant() -> str | None:
    """The tenant that holds here."""
    ambient = AMBIENT.get()
    return None if ambient is None else ambient.tenant


def test_what_a_call_leaves_out_the_block_says(meter: Meter, transport: MemoryTransport) -> None:
    """Tenant, subject, session and attributes."""
    with meter.context(tenant="t", subject="s", session="n", attributes={"a": "1"}):
        meter.record("call")
    meter.flush(5)

    (event,) = arrived(transport)
    assert (event.tenant, event.subject, event.session) == ("t", "s", "n")
    assert event.attributes == {"a": "1"}


def test_the_inner_wins_and_attributes_are_merged(meter: Meter, transport: MemoryTransport) -> None:
    """The call over the inner block, that over the outer, name by name."""
    with meter.context(tenant="t", subject="s", attributes={"a": "1", "b": "1", "c": "1"}):
        with meter.context(tenant="u", attributes={"b": "2", "c": "2"}):
            meter.record("call", attributes={"c": "3"})
        meter.record("call", tenant="v", subject="other")
    meter.flush(5)

    events = {event.tenant: event for event in arrived(transport)}
    assert events["u"].attributes == {"a": "1", "b": "2", "c": "3"}
    assert (events["u"].subject, events["v"].subject) == ("s", "other")
    assert events["v"].attributes == {"a": "1", "b": "1", "c": "1"}
    assert AMBIENT.get() is None


def test_every_call_takes_the_context(meter: Meter, transport: MemoryTransport) -> None:
    """Boundaries, sessions, voids, timers, counters and metered functions."""
    double = meter.metered("metered")(int)
    with meter.context(tenant="t", attributes={"a": "1"}):
        meter.session_start("s", session="1")
        meter.session_heartbeat("s", session="1")
        meter.session_end("s", session="1")
        meter.void("void", key="k", time=1)
        with meter.timer("timer"):
            double()
        hot = meter.counter("counter")
        session = meter.session("block")
    hot.add()
    with session:
        pass
    meter.flush(5)

    events = arrived(transport)
    assert len(events) == 9
    assert {event.tenant for event in events} == {"t"}
    assert all(event.attributes.get("a") == "1" for event in events)
    assert {event.kind for event in events} == set(EventKind) - {EventKind.MARK, EventKind.UNKNOWN}


def test_a_missing_tenant_says_what_to_do(meter: Meter, make_meter: MakeMeter) -> None:
    """The call or the context has to name one."""
    calls: list[Callable[[], object]] = [
        lambda: meter.record("call"),
        lambda: meter.record("call", coalesce=1),
        lambda: meter.session_start("s", session="1"),
        lambda: meter.session("s").start(),
        lambda: meter.void("s", key="k", time=1),
        lambda: meter.timer("s").__enter__().__exit__(None, None, None),
        meter.metered("s")(lambda: None),
        meter.counter("s").add,
    ]
    for call in calls:
        with pytest.raises(InvalidEvent) as caught:
            call()
        assert "tenant: is missing; pass tenant=... or use meter.context(tenant=...)" in str(
            caught.value
        )

    lenient = make_meter()
    with lenient.context(subject="s"):
        assert lenient.record("call") is False
    assert lenient.status().dropped == {"invalid": 1}


def test_wrong_arguments_do_not_reach_the_host(make_meter: MakeMeter) -> None:
    """They are counted, and raised in strict only."""
    wrong: Any = 5
    lenient, strict = make_meter(), make_meter(strict=True)

    with lenient.context(tenant="t", attributes=wrong):
        assert lenient.record("call") is True
        assert lenient.session_start("s", session="1", attributes=wrong) is False
        lenient.session("s", attributes=wrong).start()
    with lenient.context(tenant=wrong):
        assert lenient.record("call") is False

    assert lenient.status().dropped == {"invalid": 4}
    with pytest.raises(InvalidEvent, match="int is not a mapping"):
        strict.context(attributes=wrong)


def test_threads_begin_with_nothing_or_with_a_copy(meter: Meter) -> None:
    """As context variables do."""
    seen: list[str | None] = []

    with meter.context(tenant="t"):
        for run in (lambda: seen.append(tenant()), contextvars.copy_context().run):
            arguments: tuple[Any, ...] = () if not seen else (lambda: seen.append(tenant()),)
            thread = threading.Thread(target=run, args=arguments)
            thread.start()
            thread.join()

    assert seen == [None, "t"]


def test_one_context_may_be_used_by_many_at_once(meter: Meter) -> None:
    """It keeps nothing about who is inside."""
    shared, wrong = meter.context(tenant="t"), []
    barrier = threading.Barrier(4)

    def work() -> None:
        barrier.wait()
        for _ in range(200):
            with shared, shared:
                if tenant() != "t":
                    wrong.append(tenant())
            if tenant() is not None:
                wrong.append(tenant())

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert not wrong


def test_tasks_have_each_their_own(meter: Meter) -> None:
    """A task begins with what held where it was made."""

    async def work(name: str) -> tuple[str | None, str | None, str | None]:
        before = tenant()
        async with meter.context(tenant=name):
            await asyncio.sleep(0)
            inside = tenant()
        return before, inside, tenant()

    async def scenario() -> None:
        async with meter.context(tenant="outer"):
            found = await asyncio.gather(*(work(name) for name in "ab"))
        assert found == [("outer", "a", "outer"), ("outer", "b", "outer")]

    asyncio.run(scenario())


def test_as_a_decorator_it_holds_inside_each_call(meter: Meter) -> None:
    """Of functions, methods and coroutine functions, which stay what they are."""

    class Service:
        @meter.context(tenant="method")
        def method(self) -> str | None:
            """Documented."""
            return tenant()

        @meter.context(tenant="class")
        @classmethod
        def of_class(cls) -> tuple[str, str | None]:
            return cls.__name__, tenant()

        @classmethod
        @meter.context(tenant="inner")
        def inside(cls) -> str | None:
            return tenant()

        @meter.context(tenant="static")
        @staticmethod
        def static() -> str | None:
            return tenant()

    @meter.context(tenant="coroutine")
    async def coroutine() -> str | None:
        await asyncio.sleep(0)
        return tenant()

    assert Service().method() == "method"
    assert Service.method.__doc__ == "Documented."
    assert Service.of_class() == ("Service", "class")
    assert Service.inside() == "inner"
    assert Service.static() == "static"
    assert inspect.iscoroutinefunction(coroutine)
    assert asyncio.run(coroutine()) == "coroutine"
    assert tenant() is None


def test_as_a_decorator_of_a_generator_it_stays_inside(meter: Meter) -> None:
    """Between the steps the consumer's own context holds."""
    told: list[str | None] = []

    @meter.context(tenant="inside")
    def steps() -> Generator[str | None, str | None, str]:
        try:
            told.append((yield tenant()))
            yield tenant()
        except KeyError:
            yield f"caught in {tenant()}"
        finally:
            told.append(tenant())
        return "done"

    assert inspect.isgeneratorfunction(steps)
    generator = steps()
    assert next(generator) == "inside"
    assert tenant() is None
    assert generator.send("sent") == "inside"
    assert generator.throw(KeyError()) == "caught in inside"
    with pytest.raises(StopIteration) as caught:
        next(generator)
    assert caught.value.value == "done"
    assert told == ["sent", "inside"]
    closed = steps()
    next(closed)
    closed.close()
    assert told[2:] == ["inside"]


def test_as_a_decorator_of_an_async_generator_too(meter: Meter) -> None:
    """All four ways into it."""
    told: list[str | None] = []

    @meter.context(tenant="inside")
    async def steps() -> AsyncIterator[Any]:
        try:
            told.append((yield tenant()))
            yield tenant()
        except KeyError:
            yield f"caught in {tenant()}"
        finally:
            told.append(tenant())

    async def scenario() -> None:
        assert inspect.isasyncgenfunction(steps)
        generator: Any = steps()
        assert await anext(generator) == "inside"
        assert tenant() is None
        assert await generator.asend("sent") == "inside"
        assert await generator.athrow(KeyError()) == "caught in inside"
        with pytest.raises(StopAsyncIteration):
            await anext(generator)
        closed: Any = steps()
        await anext(closed)
        await closed.aclose()
        assert [item async for item in steps()] == ["inside", "inside"]

    asyncio.run(scenario())
    assert told == ["sent", "inside", "inside", None, "inside"]


def test_blocks_may_be_left_in_any_order(meter: Meter) -> None:
    """As blocks inside of generators are: each takes out only itself."""

    def block(name: str, subject: str | None = None) -> Iterator[None]:
        with meter.context(tenant=name, subject=subject):
            yield

    first, second, third = block("a", "s"), block("b"), block("c")
    for generator in (first, second, third):
        next(generator)
    assert tenant() == "c"

    second.close()  # type: ignore[attr-defined]  # a generator
    assert tenant() == "c"
    first.close()  # type: ignore[attr-defined]  # a generator
    ambient = AMBIENT.get()
    assert ambient is not None
    assert (ambient.tenant, ambient.subject) == ("c", None)
    meter.context(tenant="x").__exit__(None, None, None)
    assert tenant() == "c"
    third.close()  # type: ignore[attr-defined]  # a generator

    assert AMBIENT.get() is None
    blocks = [block(name) for name in "abc"]
    for generator in blocks:
        next(generator)
    for generator in blocks:
        assert tenant() == "c"
        generator.close()  # type: ignore[attr-defined]  # a generator
    assert AMBIENT.get() is None


def test_what_is_no_function_is_refused_and_stays_as_it_is(make_meter: MakeMeter) -> None:
    """In strict it raises."""
    lenient, strict = make_meter(), make_meter(strict=True)

    assert lenient.context(tenant="t")(5) == 5
    with pytest.raises(TypeError, match="int is not a function"):
        strict.context(tenant="t")(5)

    assert lenient.status().dropped == {"invalid": 1}

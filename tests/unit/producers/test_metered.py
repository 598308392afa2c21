"""Metered functions: what is recorded, when, and that the host notices nothing else."""

from __future__ import annotations

import asyncio
import functools
import gc
import inspect
import traceback
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from meterstream import InvalidEvent
from meterstream_schemas.quantity import to_decimal
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


def amounts(meter: Meter, transport: MemoryTransport) -> list[Decimal]:
    """What was recorded until now, smallest first."""
    assert meter.flush(5)
    return sorted(to_decimal(event.quantity, event.scale) for event in arrived(transport))


def test_a_call_is_recorded_when_it_returns(meter: Meter, transport: MemoryTransport) -> None:
    """By the function's own name, with the tenant of the context, counting one."""

    @meter.metered
    def search(words: str) -> str:
        """Documented."""
        assert not amounts(meter, transport)
        return words.upper()

    with meter.context(tenant="t"):
        assert search("a") == "A"
    assert meter.flush(5)

    (event,) = arrived(transport)
    assert (event.tenant, event.quantity) == ("t", 1)
    assert event.type.endswith("test_metered.test_a_call_is_recorded_when_it_returns.search")
    assert (search.__name__, search.__doc__) == ("search", "Documented.")
    assert str(inspect.signature(search)) == "(words: 'str') -> 'str'"


def test_everything_may_be_taken_from_the_call(meter: Meter, transport: MemoryTransport) -> None:
    """Arguments by name with defaults, the result, and how long it took."""

    @meter.metered(
        "search",
        tenant=lambda call: call.arguments["user"],
        subject=lambda call: call.arguments["subject"],
        session=lambda call: call.arguments["more"]["session"],
        key=lambda call: f"{call.arguments['rest'][0]}-{call.args[0]}",
        attributes=lambda call: {"pages": str(call.result), "fast": str(call.nanoseconds < 1e12)},
        quantity=lambda result: Decimal(result) / 2,
    )
    def search(user: str, *rest: int, subject: str = "default", **more: str) -> int:
        assert user
        assert subject
        return len(rest) + len(more)

    assert search("u", 7, 8, session="s") == 3
    assert meter.flush(5)

    (event,) = arrived(transport)
    assert (event.tenant, event.subject, event.session) == ("u", "default", "s")
    assert (event.key, to_decimal(event.quantity, event.scale)) == ("7-u", Decimal("1.5"))
    assert event.attributes == {"pages": "3", "fast": "True"}


def test_arguments_have_names_however_they_were_passed(meter: Meter) -> None:
    """By position, by name, by default, and ``self``."""
    seen: list[dict[str, Any]] = []

    def note(call: Any) -> str:  # noqa: ANN401 - a call
        seen.append(dict(call.arguments))
        return "t"

    class Service:
        @meter.metered("m", tenant=note)
        def method(self, a: int, b: int = 2, *, c: int = 3) -> None: ...

    @meter.metered("p", tenant=note)
    def positional(a: int, /, b: int, **rest: int) -> None: ...

    service = Service()
    service.method(1)
    service.method(b=5, a=4, c=6)
    positional(1, b=2, a=3)

    assert seen == [
        {"self": service, "a": 1, "b": 2, "c": 3},
        {"self": service, "a": 4, "b": 5, "c": 6},
        {"a": 1, "b": 2, "rest": {"a": 3}},
    ]


def test_methods_of_every_kind_bind(meter: Meter, transport: MemoryTransport) -> None:
    """In either order of decorators, and partials and callable objects."""
    metered = meter.metered("call", tenant="t")

    class Service:
        @metered
        def method(self) -> str:
            return type(self).__name__

        @metered
        @classmethod
        def outside(cls) -> str:
            return cls.__name__

        @classmethod
        @metered
        def inside(cls) -> str:
            return cls.__name__

        @metered
        @staticmethod
        def static() -> str:
            return "Service"

        @property
        @metered
        def value(self) -> str:
            return "Service"

        @metered
        async def coroutine(self) -> str:
            return "Service"

        async def __call__(self) -> str:
            return "Service"

    service = Service()
    called = metered(service)
    assert inspect.iscoroutinefunction(called)
    assert {
        service.method(),
        service.outside(),
        Service.inside(),
        Service.static(),
        service.value,
        asyncio.run(service.coroutine()),
        asyncio.run(called()),
        metered(functools.partial(str, "Service"))(),
    } == {"Service"}
    assert amounts(meter, transport) == [1] * 8


def test_a_failed_call_is_charged_by_choice(meter: Meter, transport: MemoryTransport) -> None:
    """The host gets its very exception, with its traceback."""
    problem = OSError("host")

    def fail(unit: int) -> int:
        assert unit
        raise problem

    async def fail_later(unit: int) -> int:
        return fail(unit)

    with pytest.raises(OSError, match="host") as caught:
        meter.metered("free", tenant="t")(fail)(1)
    assert caught.value is problem
    assert "fail" in [frame.name for frame in traceback.extract_tb(problem.__traceback__)]
    assert problem.__context__ is problem.__cause__ is None
    assert amounts(meter, transport) == []

    charged: Any = functools.partial(meter.metered, tenant="t", charge_failures=True)
    seen = []
    for decorator in (
        charged("charged", attributes=lambda call: seen.append(call.problem)),
        charged("charged", quantity=lambda result: result + 1),
        charged("charged", quantity=5),
    ):
        with pytest.raises(OSError, match="host"):
            decorator(fail)(1)
        with pytest.raises(OSError, match="host"):
            asyncio.run(decorator(fail_later)(1))
    assert amounts(meter, transport) == [0, 0, 1, 1, 5, 5]
    assert seen == [problem, problem]


def test_a_cancelled_call_failed(meter: Meter, transport: MemoryTransport) -> None:
    """It passes on the cancellation and is not charged."""

    @meter.metered("call", tenant="t")
    async def wait() -> None:
        await asyncio.sleep(60)

    async def scenario() -> None:
        task = asyncio.create_task(wait())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(scenario())
    assert amounts(meter, transport) == []


def test_none_records_nothing(meter: Meter, transport: MemoryTransport) -> None:
    """As for answers from a cache."""
    answer = meter.metered("call", tenant="t", quantity=lambda result: result or None)(int)

    assert (answer("0"), answer("3")) == (0, 3)
    assert amounts(meter, transport) == [3]


def test_generators_are_recorded_at_their_end(meter: Meter, transport: MemoryTransport) -> None:
    """Not when made; at exhaustion, when closed or left half-way; each item by choice."""

    @meter.metered("whole", tenant="t")
    def whole(count: int) -> Generator[int, None, str]:
        yield from range(count)
        return "done"

    @meter.metered("items", tenant="t", quantity=lambda item: item * 10)
    def items(count: int) -> Iterator[int]:
        yield from range(count)

    assert inspect.isgeneratorfunction(whole)
    assert inspect.isgeneratorfunction(items)
    never = whole(2)
    del never
    begun = whole(2)
    assert next(begun) == 0
    assert amounts(meter, transport) == []
    assert next(begun) == 1
    with pytest.raises(StopIteration) as caught:
        next(begun)
    assert caught.value.value == "done"
    assert amounts(meter, transport) == [1]
    assert list(items(3)) == [0, 1, 2]
    assert amounts(meter, transport) == [1, 30]
    left = items(10)
    for _ in range(3):
        next(left)
    del left
    gc.collect()
    assert amounts(meter, transport) == [1, 30, 30]
    assert list(items(0)) == []
    assert amounts(meter, transport) == [1, 30, 30]


def test_failing_generators_are_charged_by_choice(meter: Meter, transport: MemoryTransport) -> None:
    """With what they gave until then."""

    def torn() -> Iterator[int]:
        yield 4
        yield 5
        raise OSError("torn")

    for charge in (False, True):
        decorator = meter.metered(
            "x", tenant="t", quantity=lambda item: item, charge_failures=charge
        )
        with pytest.raises(OSError, match="torn"):
            list(decorator(torn)())

    assert amounts(meter, transport) == [9]


def test_async_generators_alike(meter: Meter, transport: MemoryTransport) -> None:
    """Exhausted, closed, thrown into, sent to."""

    @meter.metered("items", tenant="t", quantity=lambda item: item)
    async def items(start: int) -> AsyncIterator[int]:
        for number in (start, start + 1):
            await asyncio.sleep(0)
            yield number

    async def scenario() -> None:
        assert inspect.isasyncgenfunction(items)
        assert [item async for item in items(1)] == [1, 2]
        closed: Any = items(10)
        assert await anext(closed) == 10
        await closed.aclose()
        thrown: Any = items(100)
        assert await thrown.asend(None) == 100
        with pytest.raises(KeyError):
            await thrown.athrow(KeyError())

    asyncio.run(scenario())
    assert amounts(meter, transport) == [3, 10]


def test_a_generator_is_recorded_in_the_context_it_began_in(
    meter: Meter, transport: MemoryTransport
) -> None:
    """Wherever it ends."""

    @meter.metered("items")
    def items() -> Iterator[int]:
        yield 1

    with meter.context(tenant="begin", attributes={"a": "1"}):
        generator = items()
        next(generator)
    with meter.context(tenant="end", attributes={"b": "1"}):
        assert list(generator) == []
    assert meter.flush(5)

    (event,) = arrived(transport)
    assert (event.tenant, event.attributes) == ("begin", {"a": "1"})


def broken(*_: object) -> Any:  # noqa: ANN401 - it never returns
    """A host's function that fails."""
    raise ZeroDivisionError("extractor")


BROKEN: list[dict[str, Callable[..., Any]]] = [
    {"tenant": broken},
    {"quantity": broken},
    {"attributes": broken},
    {"key": broken},
    {"quantity": lambda _: 0.5},
    {"tenant": lambda call: call.arguments["nobody"]},
]


@pytest.mark.parametrize("terms", BROKEN)
def test_faults_of_extractors_are_counted(make_meter: MakeMeter, terms: dict[str, Any]) -> None:
    """They reach the host in strict only, and never in place of its own exception."""
    lenient, strict = make_meter(), make_meter(strict=True)

    def fail(_: object = None) -> None:
        raise OSError("host")

    terms = {"tenant": "t", **terms}
    assert lenient.metered("x", **terms)(lambda: 5)() == 5
    assert list(lenient.metered("x", **terms)(lambda: iter([1]))()) == [1]
    assert lenient.status().dropped == {"invalid": 2}
    with pytest.raises((ZeroDivisionError, KeyError, InvalidEvent)):
        strict.metered("x", **terms)(lambda: 5)()
    with pytest.raises(OSError, match="host"):
        strict.metered("x", charge_failures=True, **terms)(fail)()
    with pytest.raises(OSError, match="host"):
        strict.metered("", tenant="", charge_failures=True)(fail)()


def test_faults_amid_a_generator_are_counted(make_meter: MakeMeter) -> None:
    """The items come all the same."""
    lenient, strict = make_meter(), make_meter(strict=True)

    def items() -> Iterator[int]:
        yield 1
        yield 2

    assert list(lenient.metered("x", tenant="t", quantity=broken)(items)()) == [1, 2]
    assert lenient.status().dropped == {"invalid": 2}
    with pytest.raises(ZeroDivisionError):
        list(strict.metered("x", tenant="t", quantity=broken)(items)())


def test_what_cannot_be_decorated_stays_as_it_is(make_meter: MakeMeter) -> None:
    """And is counted; strict says so at once."""
    lenient, strict = make_meter(), make_meter(strict=True)
    unit: Any = "weeks"

    assert lenient.metered("x", tenant="t")(5) == 5
    assert lenient.metered("x", timed=unit)(int) is int
    assert lenient.timer("x", tenant="t", unit=unit)(int) is int
    assert lenient.status().dropped == {"invalid": 3}
    with pytest.raises(TypeError, match="int is not a function; decorate a function"):
        strict.metered("x", tenant="t")(5)

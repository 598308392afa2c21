"""Timers: exactly how long a block or a call took."""

from __future__ import annotations

import asyncio
import sys
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest

from meterstream import charging
from meterstream.charging import elapsed
from meterstream_schemas.quantity import to_decimal
from tests.unit.producers.reading import arrived

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from meterstream import Meter
    from meterstream.charging import Unit
    from meterstream.memory import MemoryTransport
    from tests.unit.producers.conftest import MakeMeter


@pytest.fixture
def meter(make_meter: MakeMeter) -> Meter:
    """A strict meter over ``transport``."""
    return make_meter(strict=True)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Nanoseconds that the next looks at the clock find."""
    moments: list[int] = []
    for module in (charging, sys.modules["meterstream.metered"]):
        monkeypatch.setattr(module, "perf_counter_ns", lambda: moments.pop(0))
    return moments


def amounts(meter: Meter, transport: MemoryTransport) -> list[Decimal]:
    """What was recorded until now, in order: one tenant has one partition."""
    assert meter.flush(5)
    return [to_decimal(event.quantity, event.scale) for event in arrived(transport)]


@pytest.mark.parametrize(
    ("unit", "quantity"),
    [
        ("s", Decimal("1.234567891")),
        ("ms", Decimal("1234.567891")),
        ("us", Decimal("1234567.891")),
        ("ns", Decimal(1234567891)),
    ],
)
def test_a_block_is_timed_exactly(
    meter: Meter, transport: MemoryTransport, clock: list[int], unit: Unit, quantity: Decimal
) -> None:
    """To the nanosecond in every unit."""
    clock += [5, 1_234_567_896]

    with meter.timer("work", tenant="t", unit=unit, attributes={"a": "1"}) as timer:
        pass

    assert timer.nanoseconds == 1_234_567_891
    assert amounts(meter, transport) == [quantity]
    assert arrived(transport)[0].attributes == {"a": "1"}


def test_an_amount_of_any_length_is_exact() -> None:
    """Whatever precision the host computes with."""
    assert elapsed(10**18 + 1, "s") == Decimal("1000000000.000000001")
    assert elapsed(0, "s") == 0


def test_a_failed_block_is_timed_by_choice(
    meter: Meter, transport: MemoryTransport, clock: list[int]
) -> None:
    """The exception passes."""
    clock += [0, 1_000_000, 0, 2_000_000]

    for charge in (False, True):
        with pytest.raises(KeyError), meter.timer("work", tenant="t", charge_failures=charge):
            raise KeyError

    assert amounts(meter, transport) == [2]


def test_a_block_in_a_generator_that_is_closed_did_not_fail(
    meter: Meter, transport: MemoryTransport, clock: list[int]
) -> None:
    """Its consumer had enough."""
    clock += [0, 4_000_000]

    def steps() -> Generator[None, None, None]:
        with meter.timer("work", tenant="t"):
            yield

    generator = steps()
    next(generator)
    generator.close()

    assert amounts(meter, transport) == [4]


def test_blocks_and_calls_of_coroutines(
    meter: Meter, transport: MemoryTransport, clock: list[int]
) -> None:
    """``async with``, and a decorator, with each call by itself."""
    clock += [0, 1_000_000, 10_000_000, 12_000_000, 20_000_000, 23_000_000]

    @meter.timer("work", tenant="t")
    async def work() -> str:
        return "done"

    async def scenario() -> None:
        async with meter.timer("work", tenant="t"):
            pass
        assert await work() == await work() == "done"

    asyncio.run(scenario())

    assert amounts(meter, transport) == [1, 2, 3]


def test_functions_and_generators_are_timed(
    meter: Meter, transport: MemoryTransport, clock: list[int]
) -> None:
    """A generator from its first step to its end; recursion call by call."""
    clock += [0, 5_000_000, 0, 1_000_000, 4_000_000, 9_000_000]

    @meter.metered("items", tenant="t", timed="ms")
    def items() -> Iterator[int]:
        yield 1

    @meter.timer("work", tenant="t")
    def work(depth: int) -> None:
        if depth:
            work(depth - 1)

    assert list(items()) == [1]
    work(1)

    assert amounts(meter, transport) == [5, 3, 9]


def test_a_metered_function_takes_the_unit_as_a_timer_does(
    meter: Meter, transport: MemoryTransport, clock: list[int]
) -> None:
    """By either name."""
    clock += [0, 2_000_000_000, 0, 3_000_000_000]

    assert meter.metered("work", tenant="t", unit="s")(len)("ab") == 2
    assert meter.metered("work", tenant="t", timed="s")(len)("ab") == 2

    assert amounts(meter, transport) == [2, 3]

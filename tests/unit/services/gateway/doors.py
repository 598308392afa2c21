"""Doors over transports in memory, with a real spool on disk."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry

from meterstream import Meter
from meterstream.memory import MemoryTransport
from meterstream_services.gateway.door import LogDoor
from meterstream_services.gateway.metrics import DoorMetrics
from meterstream_services.gateway.port import Offer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine
    from pathlib import Path

    from meterstream.transport import Transport

TIME = 1_790_000_000_000_000
LONG = 30.0
"""Patience that no test outlasts."""
SHORT = 0.15


class Place:
    """A door, what it writes to, and its metrics."""

    def __init__(self, door: LogDoor, meter: Meter, registry: CollectorRegistry) -> None:
        self.door = door
        self.meter = meter
        self.registry = registry

    def value(self, name: str, **labels: str) -> float:
        """Of one of the door's metrics."""
        found = self.registry.get_sample_value(f"meterstream_gateway_{name}", labels)
        assert found is not None, name
        return found


@asynccontextmanager
async def opened(
    transport: Transport,
    spool: Path,
    *,
    patience_seconds: float = LONG,
    keys_max: int = 1_000,
    **settings: Any,  # noqa: ANN401 - of the meter
) -> AsyncIterator[Place]:
    """A door that is closed at the end; quickly, where the transport is away."""
    registry = CollectorRegistry()
    meters = list[Meter]()

    def make(on_outcome: Callable[..., object]) -> Meter:
        given = {"durability": "fsync", "spool": spool, **settings}
        meters.append(Meter("test", transport=transport, on_outcome=on_outcome, **given))
        return meters[0]

    door = LogDoor(
        make,
        patience_seconds=patience_seconds,
        metrics=DoorMetrics(registry),
        keys_max=keys_max,
    )
    door.start()
    try:
        yield Place(door, meters[0], registry)
    finally:
        if isinstance(transport, MemoryTransport) and not transport.available:
            await asyncio.to_thread(meters[0].close, 0.2)
        await door.close()


def usage(number: int = 0, **fields: Any) -> Offer:  # noqa: ANN401 - of an offer
    """An offer of usage; those of one number are equal."""
    given = {"type": "api.request", "tenant": f"tenant {number % 7}", "quantity": number}
    return Offer(**{**given, **fields})


def run(test: Coroutine[Any, Any, None]) -> None:
    """One test in an event loop of its own; a door that never answers fails it."""
    asyncio.run(asyncio.wait_for(test, 60))


async def until(fact: Callable[[], bool]) -> None:
    """As `tests.waiting.eventually`, in an event loop."""
    deadline = asyncio.get_running_loop().time() + 30
    while not fact():
        assert asyncio.get_running_loop().time() < deadline
        await asyncio.sleep(0.005)

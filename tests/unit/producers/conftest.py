"""Meters over a memory transport, closed when the test ends."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import pytest

from meterstream import Meter
from meterstream.memory import MemoryTransport

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any


class MakeMeter(Protocol):
    """Makes a meter with the given settings."""

    def __call__(self, **settings: Any) -> Meter: ...  # noqa: ANN401 - as many types as settings


@pytest.fixture
def transport() -> MemoryTransport:
    """Four empty partitions."""
    return MemoryTransport()


@pytest.fixture
def make_meter(transport: MemoryTransport) -> Iterator[MakeMeter]:
    """A function that makes meters: the first over ``transport``, others over one of their own."""
    made: list[Meter] = []

    def make(**settings: Any) -> Meter:  # noqa: ANN401 - see MakeMeter
        own = MemoryTransport() if made else transport
        made.append(Meter("test", **{"transport": own, **settings}))
        return made[-1]

    yield make
    for meter in made:
        meter.close(timeout=0)

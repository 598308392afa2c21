"""The compatibility modules over memory, for unit tests."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import pytest

from meterstream.compat import wiring
from meterstream.compat.definitions import LocalDefinitions
from meterstream.compat.ledger import LocalLedger
from meterstream.memory import MemoryTransport
from tests.compat.standins import FakeUsage
from tests.unit.producers.reading import arrived

if TYPE_CHECKING:
    from collections.abc import Iterator

    from meterstream import Meter
    from meterstream_schemas.events import MeterEvent


class Memory(NamedTuple):
    """The parts that compatibility modules stand on in a unit test."""

    meter: Meter
    transport: MemoryTransport
    usage: FakeUsage
    ledger: LocalLedger
    definitions: LocalDefinitions

    def arrived(self) -> list[MeterEvent]:
        """Every event sent so far, once all have an outcome; without marks."""
        assert self.meter.flush(10)
        return arrived(self.transport)


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch) -> Iterator[Memory]:
    """A meter over a memory transport, a fake usage API, ledger and definitions in memory."""
    for name in ("METERSTREAM_DATA", "METERSTREAM_URL", "METERSTREAM_TENANT"):
        monkeypatch.delenv(name, raising=False)
    wiring.reset()
    transport = MemoryTransport()
    meter = wiring.make_meter("test", transport=transport)
    parts = Memory(meter, transport, FakeUsage(), LocalLedger(), LocalDefinitions())
    wiring.use(meter=meter, usage=parts.usage, ledger=parts.ledger, definitions=parts.definitions)
    yield parts
    meter.close(timeout=0)
    wiring.reset()

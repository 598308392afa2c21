"""The compatibility modules over memory, for unit tests, and over a running meterstream."""

from __future__ import annotations

import os
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest
import yaml

from meterstream.compat import wiring
from meterstream.compat.definitions import LocalDefinitions
from meterstream.compat.ledger import LocalLedger
from meterstream.memory import MemoryTransport
from tests.compat.standins import FakeUsage
from tests.integration.up_process import Machine, running_up
from tests.unit.producers.reading import arrived

if TYPE_CHECKING:
    from collections.abc import Iterator

    from meterstream import Meter
    from meterstream_schemas.events import MeterEvent
    from tests.conftest import Broker

CATALOGUES = Path(__file__).parents[2] / "services" / "meterstream_services" / "catalogues"


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


@pytest.fixture(scope="module")
def live(
    request: pytest.FixtureRequest, broker: Broker, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Machine]:
    """A running `up` with the ready catalogues that the test module names in ``CATALOGUES``.

    While the module's tests run, the environment points to it, so that the compatibility modules
    find broker, usage API, ledger and definitions by themselves.
    """
    directory = tmp_path_factory.mktemp("live")
    catalogue = directory / "meters.yaml"
    catalogue.write_text(joined(*request.module.CATALOGUES), "utf-8")
    data, topic = directory / "data", f"test.{uuid.uuid4().hex}.events"
    options = ("--bootstrap", broker.bootstrap_servers, "--topic", topic)
    with (
        running_up(data, catalogue, *options) as machine,
        pytest.MonkeyPatch.context() as environment,
    ):
        for name in os.environ:
            if name.startswith("METERSTREAM_"):
                environment.delenv(name)
        environment.setenv("METERSTREAM_DATA", str(data))
        environment.setenv("METERSTREAM_TOPIC", topic)
        wiring.reset()
        yield machine
        wiring.reset()


def joined(*names: str) -> str:
    """One catalogue with the meters and thresholds of several ready ones."""
    read = [yaml.safe_load((CATALOGUES / f"{name}.yaml").read_text("utf-8")) for name in names]
    whole = {
        name: min(catalogue[name] for catalogue in read)
        for name in ("metering_since", "accept_from")
    }
    for name in ("meters", "thresholds"):
        entries = [entry for catalogue in read for entry in catalogue.get(name, [])]
        whole |= {name: entries} if entries else {}
    return str(yaml.safe_dump(whole, sort_keys=False))

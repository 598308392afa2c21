"""Which schema id the SDK frames its records with."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from meterstream_schemas import wire
from meterstream_schemas.bundled import LATEST_ID, bundled_text
from tests.unit.schemas.registry_stub import Registry, running_registry
from tests.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

    from meterstream.memory import MemoryTransport
    from tests.unit.producers.conftest import MakeMeter


@pytest.fixture
def registry() -> Iterator[Registry]:
    """A running registry without any schema."""
    with running_registry() as running:
        yield running


def ids_in(transport: MemoryTransport) -> set[int]:
    """The schema ids of all records."""
    return {wire.split(stored.value)[0] for records in transport.log for stored in records}


def test_without_a_registry_the_bundled_id_is_used(
    make_meter: MakeMeter, transport: MemoryTransport
) -> None:
    """Nothing is asked of anybody."""
    meter = make_meter()
    meter.record("a", tenant="t")

    assert meter.flush(10)
    assert ids_in(transport) == {LATEST_ID}


def test_a_registry_gives_the_id(
    make_meter: MakeMeter, transport: MemoryTransport, registry: Registry
) -> None:
    """The id is the one under the topic's subject, registered when it was not there."""
    meter = make_meter(registry_url=registry.url, topic="mine")
    meter.record("a", tenant="t")

    assert meter.flush(30)
    assert ids_in(transport) == {100}
    assert registry.subjects == {"mine-value": {100: bundled_text(LATEST_ID)}}


def test_events_wait_for_a_registry_that_is_down(
    make_meter: MakeMeter, transport: MemoryTransport, registry: Registry
) -> None:
    """Nothing is sent under a guessed id; the reason is told; afterwards everything goes."""
    registry.failing_with = 503
    meter = make_meter(registry_url=registry.url)
    meter.record("a", tenant="t")
    eventually(lambda: "schema registry" in str(meter.status().last_error))
    assert ids_in(transport) == set()

    registry.failing_with = None
    assert meter.flush(30)
    assert ids_in(transport) == {100}

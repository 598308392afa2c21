"""A meter over a transport that does not behave: nothing is lost, and numbers stay."""

from __future__ import annotations

import logging
import random
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meterstream import Meter
from meterstream.memory import MemoryTransport
from meterstream.transport import Failure
from tests.unit.producers.calling import record_many
from tests.unit.producers.reading import arrived
from tests.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.unit.producers.conftest import MakeMeter


def sometimes(seed: int, *fates: Failure | str | None) -> Callable[[bytes], Failure | str | None]:
    """A misfortune drawn for each parcel."""
    source = random.Random(seed)
    return lambda _: source.choice(fates)


@settings(max_examples=30)
@given(st.integers(0, 2**32))
def test_whatever_the_transport_does_nothing_is_lost_and_numbers_stay(seed: int) -> None:
    """Failures, reports without offset and breaks: every number arrives, the same bytes each time.

    What arrived twice has the same number, so that the aggregator counts it once.
    """
    transport = MemoryTransport(capacity=50)
    transport.misfortune = sometimes(
        seed,
        None,
        None,
        None,
        Failure("leader is away", permanent=False),
        "lost_report",
        "break" if seed % 2 else None,
    )
    meter = Meter(transport=transport)
    meter._incarnation._sender.settlement.again_seconds = 0.0
    record_many(meter, 60)
    settled = meter.flush(0.2)
    transport.misfortune = None

    assert settled or meter.flush(10)
    meter.close(10)
    events = {(event.lane, event.sequence): event for event in arrived(transport)}
    for event in arrived(transport):
        assert event == events[event.lane, event.sequence], "a resent event is the same event"
    assert sorted(event.quantity for event in events.values()) == list(range(60))
    assert meter.status().acknowledged == 60


def test_an_acknowledgement_without_offset_is_sent_again_and_counted(
    make_meter: MakeMeter, transport: MemoryTransport
) -> None:
    """Success without a place in the log is not believed."""
    doubted = iter([True])
    transport.misfortune = lambda _: "lost_report" if next(doubted, False) else None
    meter = make_meter()
    meter.record("api.request", tenant="acme")

    assert meter.flush(10)

    status = meter.status()
    assert (status.ack_without_offset, status.resent, status.acknowledged) == (1, 1, 1)
    first, second = arrived(transport)
    assert first == second


def test_a_broken_transport_is_built_anew(
    make_meter: MakeMeter, transport: MemoryTransport
) -> None:
    """After a break the transport is connected again and everything unsettled is sent again."""
    breaks = iter([False] * 3 + [True])
    transport.misfortune = lambda _: "break" if next(breaks, False) else None
    meter = make_meter()
    record_many(meter, 10)

    assert meter.flush(10)

    assert transport.connections == 2
    assert meter.status().rebuilt == 1
    assert {event.quantity for event in arrived(transport)} == set(range(10))


def test_an_entry_that_cannot_be_encoded_takes_no_other_along(
    make_meter: MakeMeter, transport: MemoryTransport
) -> None:
    """A fault of our own costs one event, which is counted as failed and told."""
    transport.available = False
    meter = make_meter()
    record_many(meter, 3)
    buffer = meter._intake.buffer
    broken = buffer[1]
    assert type(broken) is tuple
    buffer[1] = (*broken[:5], "no number", *broken[6:])  # type: ignore[assignment]  # broken
    transport.available = True

    assert meter.flush(10)
    assert (meter.status().acknowledged, meter.status().failed) == (2, 1)
    assert "cannot be delivered" in str(meter.status().last_error)


def test_a_topic_that_shrank_keeps_the_placement(
    make_meter: MakeMeter, transport: MemoryTransport
) -> None:
    """A lane's numbers stay in one partition for the incarnation's life."""
    meter = make_meter()
    record_many(meter, 40)
    assert meter.flush(10)
    transport.log.extend([] for _ in range(4))
    breaks = iter([True])
    transport.misfortune = lambda _: "break" if next(breaks, False) else None
    record_many(meter, 40)

    assert meter.flush(10)
    assert meter.status().partitions == 4
    assert not any(transport.log[4:])


def test_events_wait_while_the_broker_is_away_and_the_reason_is_told(
    make_meter: MakeMeter, transport: MemoryTransport, caplog: pytest.LogCaptureFixture
) -> None:
    """The trouble is in the status and once in the log, and the age of the oldest grows."""
    transport.available = False
    meter = make_meter()
    record_many(meter, 10)

    eventually(lambda: meter.status().oldest_unacknowledged_seconds > 0.2)

    status = meter.status()
    assert "told to be unavailable" in str(status.last_error)
    assert status.partitions is None
    lines = [record for record in caplog.records if record.name == "meterstream"]
    assert [line.levelno for line in lines] == [logging.WARNING]

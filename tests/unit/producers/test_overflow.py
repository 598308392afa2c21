"""What happens to an event when the buffer is full."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from meterstream import BufferFull, Meter, Outcome
from meterstream.memory import MemoryTransport
from tests.unit.producers.reading import arrived, marks
from tests.waiting import eventually

if TYPE_CHECKING:
    from tests.unit.producers.conftest import MakeMeter


def fill(meter: Meter, transport: MemoryTransport, size: int) -> None:
    """Fill the buffer of a meter whose transport is away."""
    transport.available = False
    for _ in range(size):
        assert meter.record("api.request", tenant="acme")


def test_drop_newest_keeps_what_waits_and_leaves_a_visible_hole(
    make_meter: MakeMeter, transport: MemoryTransport
) -> None:
    """Drops are counted and their numbers spent: the aggregator sees 6 and 7 missing."""
    meter = make_meter(buffer_events_max=5)
    fill(meter, transport, 5)

    assert meter.record("api.request", tenant="acme") is False
    assert meter.record("api.request", tenant="acme") is False
    assert meter.status().dropped == {"buffer_full": 2}
    assert meter.status().recorded == 5

    transport.available = True
    assert meter.flush(10)
    assert meter.record("api.request", tenant="acme")
    assert meter.close(10)
    assert [event.sequence for event in arrived(transport)] == [1, 2, 3, 4, 5, 8]
    assert [mark.sequence for mark in marks(transport)] == [8]


def test_a_dropped_tail_shows_in_the_closing_mark(
    make_meter: MakeMeter, transport: MemoryTransport
) -> None:
    """Numbers that were spent after the last event that arrived are claimed all the same."""
    meter = make_meter(buffer_events_max=5)
    fill(meter, transport, 5)
    meter.record("api.request", tenant="acme")
    transport.available = True

    assert meter.close(10)

    assert [event.sequence for event in arrived(transport)] == [1, 2, 3, 4, 5]
    (mark,) = marks(transport)
    assert (mark.sequence, mark.attributes) == (6, {"closing": "true"})


def test_raise_says_that_the_buffer_is_full(
    make_meter: MakeMeter, transport: MemoryTransport
) -> None:
    """Who asked to be told is told, without strict too."""
    meter = make_meter(buffer_events_max=5, overflow="raise")
    fill(meter, transport, 5)

    with pytest.raises(BufferFull, match=r"buffer is full \(5 events wait") as refusal:
        meter.record("api.request", tenant="acme")

    assert refusal.value.capacity == 5
    assert meter.status().dropped == {"buffer_full": 1}


def test_strict_raises_on_a_drop(make_meter: MakeMeter, transport: MemoryTransport) -> None:
    """In strict nothing is only counted."""
    meter = make_meter(buffer_events_max=5, strict=True)
    fill(meter, transport, 5)

    with pytest.raises(BufferFull):
        meter.record("api.request", tenant="acme")


def test_block_waits_for_room(make_meter: MakeMeter, transport: MemoryTransport) -> None:
    """A caller that blocks goes on when there is room, and its event arrives."""
    meter = make_meter(buffer_events_max=5, overflow="block", block_seconds=60)
    fill(meter, transport, 5)
    taken: list[bool] = []
    caller = threading.Thread(
        target=lambda: taken.append(meter.record("api.request", tenant="acme"))
    )
    caller.start()

    eventually(lambda: meter._intake.numbering.spent() == 6)
    assert taken == []
    transport.available = True

    caller.join()
    assert taken == [True]
    assert meter.flush(10)
    assert len(arrived(transport)) == 6


def test_block_gives_up_at_its_deadline(make_meter: MakeMeter, transport: MemoryTransport) -> None:
    """Nobody blocks for ever: then the event is dropped and counted."""
    meter = make_meter(buffer_events_max=5, overflow="block", block_seconds=0.05)
    fill(meter, transport, 5)

    assert meter.record("api.request", tenant="acme") is False
    assert meter.status().dropped == {"buffer_full": 1}


def test_a_callback_never_blocks_on_its_own_thread(make_meter: MakeMeter) -> None:
    """Under ``block`` a full buffer drops what on_outcome records: nobody else could make room."""
    results: list[bool] = []

    def on_outcome(outcome: Outcome) -> None:
        if outcome.key == "first":
            results.extend(meter.record("api.request", tenant="t") for _ in range(4))

    meter = make_meter(
        buffer_events_max=3, overflow="block", block_seconds=60, on_outcome=on_outcome
    )
    meter.record("api.request", tenant="t", key="first")

    assert meter.flush(10)
    assert results == [True, True, True, False]


def test_large_events_take_the_room_they_need(
    make_meter: MakeMeter, transport: MemoryTransport
) -> None:
    """Memory is bounded in KiB too: sixteen large events do not fit where a hundred small do."""
    meter = make_meter(buffer_events_max=100)
    transport.available = False
    attributes = {str(number): "v" * 1000 for number in range(14)}

    taken = sum(
        meter.record("a", tenant="t", attributes=attributes | {"n": str(number)})
        for number in range(16)
    )

    assert taken == 8  # A little over 13 KiB each: fourteen slots.
    transport.available = True
    assert meter.flush(10)
    assert len(arrived(transport)) == 8

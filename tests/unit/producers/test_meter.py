"""A meter from record to outcome, over a transport that behaves and one that does not."""

from __future__ import annotations

import logging
import random
import threading
import time
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meterstream import BufferFull, Meter, MeterClosed, Outcome
from meterstream.memory import MemoryTransport
from meterstream.transport import Failure
from meterstream_schemas.placement import lane_of, partition_of
from tests.unit.producers.reading import arrived, decoded, marks, numbers
from tests.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.unit.producers.conftest import MakeMeter

TENANTS = [f"tenant {number}" for number in range(40)]


def record_many(meter: Meter, count: int) -> None:
    """Events of many tenants."""
    for number in range(count):
        assert meter.record("api.request", tenant=TENANTS[number % len(TENANTS)], quantity=number)


def test_events_arrive_numbered_in_order_where_their_tenant_belongs(
    make_meter: MakeMeter, transport: MemoryTransport
) -> None:
    """Each lane counts 1, 2, 3 and so on in the log, in the partition of the lane."""
    meter = make_meter()

    record_many(meter, 1000)

    assert meter.flush(10)
    for partition, records in enumerate(transport.log):
        for stored in records:
            event = decoded(stored.value)
            assert event.lane == lane_of(event.tenant)
            assert partition == partition_of(event.lane, 4)
            assert event.producer == meter.producer
    for sequence in numbers(arrived(transport)).values():
        assert sequence == list(range(1, len(sequence) + 1))
    assert sorted(event.quantity for event in arrived(transport)) == list(range(1000))


def test_nothing_starts_before_the_first_event(
    make_meter: MakeMeter, transport: MemoryTransport
) -> None:
    """A meter that is made and closed connects nowhere and starts no thread."""
    before = threading.active_count()
    meter = make_meter()

    assert meter.flush(0) is False or meter.status().recorded == 0
    assert meter.close()
    assert threading.active_count() == before


def test_status_adds_up(make_meter: MakeMeter, transport: MemoryTransport) -> None:
    """What was recorded is acknowledged, failed or buffered, at any moment."""
    meter = make_meter()
    transport.misfortune = lambda value: (
        Failure("too large", permanent=True) if decoded(value).quantity % 10 == 0 else None
    )

    for _ in range(20):
        record_many(meter, 50)
        status = meter.status()
        assert status.recorded == status.acknowledged + status.failed + status.buffered
    assert meter.flush(10)

    status = meter.status()
    assert (status.recorded, status.buffered) == (1000, 0)
    assert (status.acknowledged, status.failed) == (900, 100)
    assert status.partitions == 4
    assert status.oldest_unacknowledged_seconds == 0
    assert "too large" in str(status.last_error)


def test_flush_waits_for_what_was_recorded_before_only(
    make_meter: MakeMeter, transport: MemoryTransport
) -> None:
    """While the transport is away flush gives up in time; when it is back flush is true."""
    transport.available = False
    meter = make_meter()
    record_many(meter, 10)

    assert meter.flush(0.05) is False
    assert meter.status().buffered == 10
    transport.available = True
    assert meter.flush(10) is True
    assert meter.status().buffered == 0


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


def outcomes_of(meter: Meter, heard: list[Outcome]) -> dict[tuple[int, int], Outcome]:
    """What was heard, by number; each number once."""
    assert all(outcome.producer == meter.producer for outcome in heard)
    by_number = {(outcome.lane, outcome.sequence): outcome for outcome in heard}
    assert len(by_number) == len(heard)
    return by_number


def test_every_event_has_one_outcome_with_its_place_in_the_log(
    make_meter: MakeMeter, transport: MemoryTransport
) -> None:
    """An outcome's partition and offset hold just that event; a refusal has its reason."""
    heard: list[Outcome] = []
    transport.misfortune = lambda value: (
        Failure("invalid record", permanent=True) if decoded(value).key == "bad" else None
    )
    meter = make_meter(on_outcome=heard.append)
    record_many(meter, 100)
    meter.record("api.request", tenant="t", key="bad")

    assert meter.flush(10)

    outcomes = outcomes_of(meter, heard)
    assert len(outcomes) == 101
    for outcome in heard:
        if outcome.offset is None:
            assert (outcome.key, outcome.error) == ("bad", "invalid record")
        else:
            event = decoded(transport.log[outcome.partition][outcome.offset].value)
            assert (event.tenant, event.lane, event.sequence, event.key) == (
                outcome.tenant,
                outcome.lane,
                outcome.sequence,
                outcome.key,
            )
            assert outcome.error is None
    assert [outcome.key for outcome in heard if outcome.offset is None] == ["bad"]


def test_a_callback_that_raises_or_flushes_stops_nothing(make_meter: MakeMeter) -> None:
    """on_outcome is the host's code: its faults are told, its flush returns at once."""
    flushed: list[bool] = []

    def on_outcome(_: Outcome) -> None:
        flushed.append(meter.flush(60))
        raise RuntimeError("the host's own fault")

    meter = make_meter(on_outcome=on_outcome)
    record_many(meter, 20)

    assert meter.flush(10)
    assert len(flushed) == 20
    assert meter.status().acknowledged == 20
    assert "on_outcome raised RuntimeError" in str(meter.status().last_error)


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


def test_marks_tell_the_highest_number_of_each_changed_lane(
    make_meter: MakeMeter, transport: MemoryTransport
) -> None:
    """At intervals, for lanes that changed, behind the events; a mark spends no number."""
    meter = make_meter(mark_seconds=0.05)
    for number in range(3):
        meter.record("a", tenant="acme", quantity=number)
    meter.record("a", tenant="globex")
    eventually(lambda: len(marks(transport)) == 2)
    meter.record("a", tenant="acme")
    eventually(lambda: len(marks(transport)) == 3)

    assert {(mark.lane, mark.sequence) for mark in marks(transport)} == {
        (lane_of("acme"), 3),
        (lane_of("globex"), 1),
        (lane_of("acme"), 4),
    }
    assert all(
        (mark.tenant, mark.type, mark.attributes, mark.producer) == ("", "", {}, meter.producer)
        for mark in marks(transport)
    )
    assert meter.status().recorded == 5


def test_close_says_its_last_words_for_every_lane(
    make_meter: MakeMeter, transport: MemoryTransport
) -> None:
    """Closing marks name every lane ever used, behind everything else."""
    meter = make_meter(mark_seconds=0.05)
    record_many(meter, 100)
    assert meter.flush(10)

    assert meter.close(10)

    used = {event.lane: 0 for event in arrived(transport)}
    for event in arrived(transport):
        used[event.lane] = max(used[event.lane], event.sequence)
    closing = [mark for mark in marks(transport) if mark.attributes == {"closing": "true"}]
    assert {mark.lane: mark.sequence for mark in closing} == used
    assert len(closing) == len(used)


def test_after_close_events_are_refused_and_counted(make_meter: MakeMeter) -> None:
    """A closed meter takes nothing; strict says so."""
    lenient, strict = make_meter(), make_meter(strict=True)
    for meter in (lenient, strict):
        meter.record("a", tenant="t")
        assert meter.close(10)
        assert meter.close(10)
        assert meter.flush(10)

    assert lenient.record("a", tenant="t") is False
    with pytest.raises(MeterClosed, match="record before close"):
        strict.record("a", tenant="t")
    for meter in (lenient, strict):
        assert meter.status().dropped == {"closed": 1}
        assert meter.status().closed


def test_close_keeps_its_deadline_and_says_what_is_left(
    make_meter: MakeMeter, transport: MemoryTransport, caplog: pytest.LogCaptureFixture
) -> None:
    """With the broker away close gives up in time, and a flush that waits gives up with it."""
    transport.available = False
    meter = make_meter()
    record_many(meter, 7)
    flushed: list[bool] = []
    waiting = threading.Thread(target=lambda: flushed.append(meter.flush(120)))
    waiting.start()
    eventually(lambda: len(meter._intake.buffer) == 8)

    assert meter.close(0.2) is False

    waiting.join()
    assert flushed == [False]
    assert meter.status().buffered == 7
    assert "closed while 7 events had no outcome" in str(meter.status().last_error)
    assert logging.ERROR in [record.levelno for record in caplog.records]


def test_a_meter_closes_at_the_end_of_its_with_block(transport: MemoryTransport) -> None:
    """A program that ends orderly loses nothing."""
    with Meter(transport=transport) as meter:
        record_many(meter, 10)

    assert len(arrived(transport)) == 10
    assert meter.status().closed


def test_many_threads_record_and_every_number_arrives(
    make_meter: MakeMeter, transport: MemoryTransport
) -> None:
    """Eight threads at once: no number twice, none missing, the counts agree."""
    meter = make_meter()

    def work(thread: int) -> None:
        for number in range(500):
            assert meter.record("a", tenant=TENANTS[number % 7], subject=str(thread))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert meter.flush(30)
    for sequence in numbers(arrived(transport)).values():
        assert sorted(sequence) == list(range(1, len(sequence) + 1))
    assert len(arrived(transport)) == 4000
    assert meter.status().acknowledged == 4000


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
    buffer[1] = (*broken[:5], "no number", *broken[6:])  # type: ignore[assignment]
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


def test_no_thread_can_be_started(
    make_meter: MakeMeter, transport: MemoryTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the end of the interpreter events still leave: close sends them in the caller's thread."""

    def refuse(*_: object) -> int:
        raise RuntimeError("can't start new thread at interpreter shutdown")

    monkeypatch.setattr("meterstream.incarnation._thread.start_new_thread", refuse)
    meter = make_meter()
    record_many(meter, 5)
    assert "can't start new thread" in str(meter.status().last_error)

    assert meter.close(10)
    assert len(arrived(transport)) == 5


def test_an_idle_meter_sleeps(make_meter: MakeMeter, transport: MemoryTransport) -> None:
    """Without work the background thread makes no more than about one round a second."""
    meter = make_meter()
    record_many(meter, 1)
    assert meter.flush(10)
    eventually(lambda: meter._intake.drowsy)
    rounds = 0
    poll = transport.poll

    def count(timeout_seconds: float) -> object:
        nonlocal rounds
        rounds += 1
        return poll(timeout_seconds)

    transport.poll = count  # type: ignore[method-assign, assignment]
    time.sleep(0.5)

    assert rounds <= 2
    meter.record("a", tenant="t")
    assert meter.flush(10)

"""A meter from record to outcome, over a transport that behaves."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

from meterstream import Meter, Outcome
from meterstream.memory import MemoryTransport
from meterstream.transport import Failure
from meterstream_schemas.events import EventKind
from meterstream_schemas.placement import lane_of, partition_of
from tests.unit.producers.calling import TENANTS, record_many
from tests.unit.producers.reading import arrived, decoded, numbers
from tests.waiting import eventually

if TYPE_CHECKING:
    from tests.unit.producers.conftest import MakeMeter


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

    transport.poll = count  # type: ignore[method-assign, assignment]  # counted
    time.sleep(0.5)

    assert rounds <= 2
    meter.record("a", tenant="t")
    assert meter.flush(10)


def test_an_event_is_taken_back_by_its_content(
    make_meter: MakeMeter, transport: MemoryTransport
) -> None:
    """A VOID repeats everything under a number of its own."""
    meter = make_meter()
    told: dict[str, Any] = {"tenant": "acme", "key": "order-7", "time": 1_767_225_600_000_000}
    rest: dict[str, Any] = {"quantity": "1.5", "subject": "u1", "attributes": {"route": "/pay"}}

    assert meter.record("api.request", **told, **rest)
    assert meter.void("api.request", **told, **rest)
    assert not meter.void("api.request", **(told | {"key": None}), **rest)

    assert meter.flush(10)
    usage, void = sorted(arrived(transport), key=lambda event: event.sequence)
    assert void == usage._replace(kind=EventKind.VOID, sequence=usage.sequence + 1)
    assert meter.status().dropped == {"invalid": 1}
    assert "key: " in str(meter.status().last_error)

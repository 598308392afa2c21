"""Beginning and end of an incarnation: the first event, marks, and close."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

import pytest

from meterstream import Meter, MeterClosed
from meterstream.memory import MemoryTransport
from meterstream_schemas.placement import lane_of
from tests.unit.producers.calling import record_many
from tests.unit.producers.reading import arrived, marks
from tests.waiting import eventually

if TYPE_CHECKING:
    from tests.unit.producers.conftest import MakeMeter


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
    assert "closed while 7 events were not sent: the memory" in str(meter.status().last_error)
    assert logging.ERROR in [record.levelno for record in caplog.records]


def test_a_meter_closes_at_the_end_of_its_with_block(transport: MemoryTransport) -> None:
    """A program that ends orderly loses nothing."""
    with Meter(transport=transport) as meter:
        record_many(meter, 10)

    assert len(arrived(transport)) == 10
    assert meter.status().closed


def test_no_thread_can_be_started(
    make_meter: MakeMeter, transport: MemoryTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the end of the interpreter events still leave: close sends them in the caller's thread."""

    def refuse(*_: object) -> int:
        raise RuntimeError("can't start new thread at interpreter shutdown")

    monkeypatch.setattr("meterstream.incarnation.threads.start_new_thread", refuse)
    meter = make_meter()
    record_many(meter, 5)
    assert "can't start new thread" in str(meter.status().last_error)

    assert meter.close(10)
    assert len(arrived(transport)) == 5


def test_nothing_starts_before_the_first_event(
    make_meter: MakeMeter, transport: MemoryTransport
) -> None:
    """A meter that is made and closed connects nowhere and starts no thread."""
    before = threading.active_count()
    meter = make_meter()

    assert meter.flush(0), "nothing was recorded, so all of it has an outcome"
    assert meter.close()
    assert threading.active_count() == before

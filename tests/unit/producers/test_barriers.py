"""What the gateway asks of an incarnation: numbers, the disk's word, and when it is stuck."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from meterstream.encoding import USAGE
from meterstream.intake import Intake
from meterstream_schemas.placement import lane_of
from tests.unit.producers.calling import record_many
from tests.waiting import eventually

if TYPE_CHECKING:
    from pathlib import Path

    from meterstream import Outcome
    from meterstream.memory import MemoryTransport
    from tests.unit.producers.conftest import MakeMeter


def take(intake: Intake, tenant: str = "acme") -> int:
    """One event."""
    return intake.take(USAGE, "api.request", tenant, 1, None, None, None, None, None)


def test_taking_tells_the_number(make_meter: MakeMeter) -> None:
    """The number that the outcome names, in the lane of its tenant; one after the other."""
    heard: list[Outcome] = []
    meter = make_meter(on_outcome=heard.append)
    intake = meter.current().intake

    told = [(lane_of(tenant), take(intake, tenant)) for tenant in ["a", "b", "a", "a"]]

    assert [number for lane, number in told if lane == lane_of("a")] == [1, 2, 3]
    assert meter.flush(30)
    assert {(outcome.lane, outcome.sequence) for outcome in heard} == set(told)


def test_what_is_dropped_has_no_number_and_room_is_told() -> None:
    """A full intake answers 0; its room says so before a number is spent."""
    intake = Intake(
        capacity=2, overflow="drop_newest", block_seconds=0, strict=False, wake=lambda: None
    )

    assert intake.room == 2
    assert [take(intake), take(intake), take(intake)] == [1, 2, 0]
    assert intake.room == 0
    intake.close()
    assert intake.room == 0


def test_the_disk_tells_without_anybody_waiting(
    make_meter: MakeMeter, transport: MemoryTransport, tmp_path: Path
) -> None:
    """The call comes when what was recorded before is on disk, though the log is away."""
    transport.available = False
    meter = make_meter(durability="fsync", spool=tmp_path)
    record_many(meter, 2_500)
    told = threading.Event()

    barrier = meter.current().tell_on_disk(told.set)

    assert told.wait(30)
    assert barrier.settled
    assert meter.status().spooled >= 2_500


def test_a_meter_that_ends_tells_that_it_cannot_say(
    make_meter: MakeMeter, transport: MemoryTransport, tmp_path: Path
) -> None:
    """Asked after the end, and when the disk took nothing: called, and not settled."""
    transport.available = False
    (tmp_path / "file").touch()
    meter = make_meter(durability="fsync", spool=tmp_path / "file")
    record_many(meter, 10)
    waits = threading.Event()
    early = meter.current().tell_on_disk(waits.set)
    meter.close(0)

    assert waits.wait(30)
    asked = threading.Event()
    late = meter.current().tell_on_disk(asked.set)

    assert asked.wait(30)
    assert not early.settled
    assert not late.settled


def test_stuck_is_who_has_neither_log_nor_disk(
    make_meter: MakeMeter, transport: MemoryTransport, tmp_path: Path
) -> None:
    """A full spool and a log that is away; no longer once one of them takes events again."""
    transport.available = False
    meter = make_meter(durability="spool", spool=tmp_path, spool_bytes_max=65_536)
    assert not meter.current().is_stuck

    record_many(meter, 5_000)
    eventually(lambda: meter.current().is_stuck)

    transport.available = True
    eventually(lambda: not meter.current().is_stuck)
    assert meter.flush(30)

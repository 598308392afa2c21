"""Groups on their way to disk: how long one gathers, what ends that, and what is told at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from meterstream.complaints import Complaints
from meterstream.connection import Connection
from meterstream.disk import DiskCarrier
from meterstream.durability import SpoolPolicy
from meterstream.encoding import USAGE
from meterstream.intake import Barrier, Intake
from meterstream.marking import Marks
from meterstream.memory import MemoryTransport
from meterstream.spooled import Spooled
from meterstream.transport import Failure
from tests.unit.producers.calling import record_many
from tests.unit.producers.reading import decoded

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from meterstream import Outcome
    from meterstream.grouping import Group
    from meterstream.settlement import Arrival
    from tests.unit.producers.conftest import MakeMeter

NOW = 1_000.0
FULL = 1_000


class Place:
    """A carrier without a thread, the sizes of the groups it wrote, and its intake."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        complaints = Complaints()
        self.intake = Intake(
            capacity=10_000, overflow="raise", block_seconds=0, strict=True, wake=lambda: None
        )
        self.carrier = DiskCarrier(
            intake=self.intake,
            connection=Connection(
                transport=MemoryTransport(),
                schema_id=lambda: 1,
                complaints=complaints,
                waiting_place="on disk",
            ),
            marks=Marks(self.intake, 60),
            complaints=complaints,
            on_outcome=None,
            spool=SpoolPolicy(root, bytes_max=1 << 20, fsync=False, topic="t"),
        )
        self.written: list[int] = []
        store = Spooled.store

        def counted(spooled: Spooled, group: Group, now: float) -> bool:
            self.written.append(len(group))
            return store(spooled, group, now)

        monkeypatch.setattr(Spooled, "store", counted)

    def take(self, count: int) -> None:
        """Events into the buffer."""
        for _ in range(count):
            self.intake.take(USAGE, "a", "t", 1, 1, None, None, None, None)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """With nothing written yet."""
    made = Place(tmp_path, monkeypatch)
    yield made
    made.carrier.end()


def test_the_first_group_is_written_at_once_and_the_next_gathers(place: Place) -> None:
    """Four milliseconds from one group to the next; the thread sleeps and polls no longer."""
    place.take(1)
    assert place.carrier.store(NOW)
    assert place.carrier.sleep_seconds(5.0, is_open=True) == (5.0, True)

    place.take(3)
    assert not place.carrier.store(NOW + 0.001)
    assert place.carrier.poll_seconds(5.0) == pytest.approx(0.004)
    seconds, may_be_woken = place.carrier.sleep_seconds(5.0, is_open=True)
    assert seconds == pytest.approx(0.004)
    assert not may_be_woken
    place.take(4)
    assert not place.carrier.store(NOW + 0.003)
    assert place.carrier.store(NOW + 0.0041)

    assert place.written == [1, 7]
    assert place.carrier.on_disk == 8


def test_a_full_group_does_not_wait(place: Place) -> None:
    """As many as a group has at most are written as soon as they are there."""
    place.take(1)
    assert place.carrier.store(NOW)

    place.take(FULL - 1)
    assert not place.carrier.store(NOW + 0.001)
    place.take(1)
    assert place.carrier.store(NOW + 0.001)

    assert place.written == [1, FULL]


@pytest.mark.parametrize("on_disk", [True, False])
def test_who_waits_ends_the_gathering(place: Place, *, on_disk: bool) -> None:
    """A barrier behind the events has them written at once, and opens where the disk is enough."""
    place.take(1)
    assert place.carrier.store(NOW)
    told: list[bool] = []
    barrier = Barrier(on_disk=on_disk, told=lambda: told.append(True))

    place.take(2)
    place.intake.buffer.append(barrier)
    assert place.carrier.store(NOW + 0.001)

    assert place.written == [1, 2]
    assert told == [True] * on_disk
    assert barrier.settled == on_disk


def test_what_arrives_is_told_many_at_once(
    make_meter: MakeMeter, transport: MemoryTransport, tmp_path: Path
) -> None:
    """`Incarnation.listen` tells entries with their places; what fails is an outcome as before."""
    outcomes: list[Outcome] = []
    batches: list[list[Arrival]] = []
    refused = Failure("no", permanent=True)
    transport.misfortune = lambda value: refused if decoded(value).tenant == "refused" else None
    meter = make_meter(on_outcome=outcomes.append, durability="spool", spool=tmp_path)
    meter.current().listen(batches.append)

    record_many(meter, 500)
    for _ in range(2):
        meter.record("api.request", tenant="refused")
    assert meter.flush(30)

    arrivals = [arrival for batch in batches for arrival in batch]
    assert len(arrivals) == 500
    for entry, partition, offset in arrivals:
        event = decoded(transport.log[partition][offset].value)
        assert (event.sequence, event.lane) == (entry[10], entry[3])
    assert [(outcome.tenant, outcome.error) for outcome in outcomes] == [("refused", "no")] * 2
    assert all(batches)
    status = meter.status()
    assert (status.acknowledged, status.failed, status.spooled) == (500, 2, 0)

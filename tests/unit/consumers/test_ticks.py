"""When a partition needs a tick, what a tick is, and what happens when it is not taken."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from meterstream_consumers.decode import Decoder
from meterstream_consumers.folding import Progress
from meterstream_consumers.ticks import RegisteredId, Ticks, tick
from meterstream_schemas import codec
from meterstream_schemas.errors import SchemaUnavailable
from meterstream_schemas.events import EventKind
from meterstream_schemas.registry import BundledSchemas
from tests.unit.consumers.making import raw_values
from tests.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Callable

NOW = 1_700_000_000.0


class World:
    """Two clocks that stand still, and a log that takes what it is told to take."""

    def __init__(self, seconds: float = 10.0) -> None:
        self.now = NOW
        self.steady = 100.0
        self.sent: list[tuple[int, bytes]] = []
        self.receipts: list[Callable[[str | None], None]] = []
        self.warned: list[str] = []
        self.taken = 0
        self.schema_id: int | None = codec.LATEST_ID
        self.owned = {0: Progress(1, 5, 5, int(NOW * 1e6) - 30_000_000)}
        self.unread: set[int] = set()
        self.ticks = Ticks(
            seconds,
            self._post,
            schema_id=lambda: self.schema_id,
            taken=self._take,
            warn=self.warned.append,
            now=lambda: self.now,
            steady=lambda: self.steady,
        )

    def pass_seconds(self, seconds: float) -> None:
        """Both clocks go on."""
        self.now += seconds
        self.steady += seconds

    def step(self) -> list[int]:
        """One step; the partitions that got a tick in it."""
        before = len(self.sent)
        self.ticks.step(self.owned, lambda partition: partition not in self.unread)
        return [partition for partition, _ in self.sent[before:]]

    def _post(self, partition: int, value: bytes, told: Callable[[str | None], None]) -> None:
        self.sent.append((partition, value))
        self.receipts.append(told)

    def _take(self) -> None:
        self.taken += 1


def test_a_tick_is_a_mark_that_names_nobody() -> None:
    """It decodes natively, with the id it was framed with, and says only that time passed."""
    decoded = Decoder(BundledSchemas()).decode(raw_values([tick(5, codec.LATEST_ID)]))

    event = decoded.batch.event(0)
    assert decoded.refused == []
    assert (event.kind, event.producer, event.key, event.time) == (EventKind.MARK, "", None, 5)
    assert tick(5, 7)[:5] == b"\x00\x00\x00\x00\x07"


def test_an_idle_partition_gets_one_per_interval() -> None:
    """Not before the log is old enough, then once, and again an interval later if it stays idle."""
    world = World()
    world.owned[0].appended = int(NOW * 1e6) - 9_000_000
    assert world.step() == []
    world.pass_seconds(3)
    assert world.step() == [0]
    world.receipts[0](None)
    world.pass_seconds(9)
    assert world.step() == []
    world.pass_seconds(1.1)
    assert world.step() == [0]
    assert world.taken == 1


def test_a_partition_with_time_of_its_own_gets_none() -> None:
    """Fresh records, or records still to be read, carry the time themselves."""
    world = World()
    world.owned[1] = Progress(1, None, 0, 0)
    world.owned[2] = Progress(1, 5, 5, int(NOW * 1e6) - 1_000_000)
    world.owned[3] = Progress(1, 5, 5, 5)
    world.unread = {3}

    assert world.step() == [0, 1]


def test_one_at_a_time_is_under_way() -> None:
    """While the broker is away ticks do not pile up."""
    world = World()
    world.step()
    for _ in range(5):
        world.pass_seconds(20)
        assert world.step() == []
    world.receipts[0]("the broker is away")
    world.pass_seconds(2)
    assert world.step() == [0]


def test_what_is_not_taken_is_warned_of_once_per_interval() -> None:
    """Five partitions fail at once: one warning, and no tick counts as taken."""
    world = World()
    world.owned = {n: Progress(1, 5, 5, 0) for n in range(5)}
    world.step()
    for told in world.receipts:
        told("the broker is away")

    assert len(world.warned) == 1
    assert "the broker is away" in world.warned[0]
    assert world.taken == 0


def test_patience_of_zero_is_never() -> None:
    """Without ticks idle partitions stay as they are."""
    assert World(0.0).step() == []


def test_without_a_known_schema_id_there_is_none() -> None:
    """A registry that has not answered keeps ticks back until it has."""
    world = World()
    world.schema_id = None
    assert world.step() == []
    world.schema_id = 9
    world.pass_seconds(2)
    assert world.step() == [0]
    assert world.sent[0][1][:5] == b"\x00\x00\x00\x00\x09"


def test_the_registry_is_asked_aside_and_again() -> None:
    """Asking blocks nobody; a failure is told and tried again later."""
    answers: list[int | Exception] = [SchemaUnavailable("no answer"), 42]
    go, warned = threading.Event(), list[str]()
    clock = [0.0]

    def ask() -> int:
        assert go.wait(20)
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    known = RegisteredId(ask, warned.append, again_seconds=30, steady=lambda: clock[0])
    assert known() is None
    go.set()
    eventually(lambda: bool(warned))
    assert known() is None
    assert len(answers) == 1
    clock[0] = 31.0
    eventually(lambda: known() == 42)
    assert warned == ["no ticks: no answer"]


@pytest.mark.parametrize("seconds", [0.2, 3600.0])
def test_any_patience(seconds: float) -> None:
    """An interval shorter than a second and one of an hour are both kept."""
    world = World(seconds)
    world.owned[0].appended = int((NOW - seconds) * 1e6) + 1_000
    assert world.step() == []
    world.pass_seconds(seconds)
    assert world.step() == [0]

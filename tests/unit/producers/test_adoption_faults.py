"""Left-behind spools in a bad state: the rest is adopted, once, and live events go on."""

from __future__ import annotations

import os
import random
import threading
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from crc32c import crc32c

from meterstream import adoption as adopting
from meterstream.memory import MemoryTransport
from meterstream.spool import Spool
from meterstream.spool_directory import Directory
from meterstream.waking import Alarm
from meterstream_schemas.placement import partition_of
from tests.unit.producers.calling import record_many
from tests.unit.producers.failing_disks import MANY, count_of, damage, failing, left
from tests.unit.producers.reading import arrived, everything
from tests.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.unit.producers.conftest import MakeMeter


def only(producer: str, function: Callable[..., Any], instead: Callable[..., Any]) -> Any:  # noqa: ANN401 - a method
    """A method of spools that is another one for one producer."""

    def chosen(spool: Spool, *arguments: object) -> object:
        return (instead if spool.producer == producer else function)(spool, *arguments)

    return chosen


def test_a_spool_that_cannot_be_deleted_is_sent_once(
    make_meter: MakeMeter,
    transport: MemoryTransport,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A directory in which nothing can be changed is no reason to send all of it for ever."""
    meter = make_meter(durability="spool", spool=tmp_path)
    last = left(make_meter, tmp_path)
    unlink = Directory.unlink

    def save_progress(_: Spool) -> None:
        """It cannot be written either."""

    def unlink_elsewhere(directory: Directory, name: str) -> bool:
        return directory.path.name != last.producer and unlink(directory, name)

    monkeypatch.setattr(
        Spool, "save_progress", only(last.producer, Spool.save_progress, save_progress)
    )
    monkeypatch.setattr(Directory, "unlink", unlink_elsewhere)

    record_many(meter, 10)
    eventually(lambda: meter.status().adopted >= MANY)
    for _ in range(20):
        record_many(meter, 10)
        assert meter.flush(30)

    sent = [event for event in everything(transport) if event.producer == last.producer]
    assert len([event for event in sent if event.tenant]) == MANY
    assert meter.status().adopted == MANY


def test_a_left_spool_that_cannot_be_read_holds_nobody_up(
    make_meter: MakeMeter,
    transport: MemoryTransport,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A bad sector in one of them: live events and other spools go on, and it is told."""
    meter = make_meter(durability="spool", spool=tmp_path)
    bad = left(make_meter, tmp_path)
    good = left(make_meter, tmp_path)
    monkeypatch.setattr(Spool, "read", only(bad.producer, Spool.read, failing()))

    record_many(meter, 100)
    assert meter.flush(30)
    eventually(lambda: meter.status().adopted == MANY)

    assert count_of(transport, good.producer) == MANY
    eventually(lambda: not (tmp_path / good.producer).exists())
    assert (tmp_path / bad.producer).exists()
    eventually(lambda: bad.producer in caplog.text)
    assert "fault of its own" not in caplog.text


def test_a_left_spool_that_nobody_understands_holds_nobody_up(
    make_meter: MakeMeter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the adoption of one raises, the others are adopted."""
    meter = make_meter(durability="spool", spool=tmp_path)
    bad = left(make_meter, tmp_path)
    left(make_meter, tmp_path)
    adopt = Spool.adopt

    def unsure(directory: Path) -> Spool | None:
        if directory.name == bad.producer:
            raise ValueError("nobody understands this")
        return adopt(directory)

    monkeypatch.setattr(Spool, "adopt", unsure)

    record_many(meter, 1)
    eventually(lambda: meter.status().adopted == MANY)

    assert "nobody understands this" in str(meter.status().last_error)


def test_two_adopters_of_a_growing_topic_send_to_the_same_partitions(
    make_meter: MakeMeter, tmp_path: Path
) -> None:
    """The first one's partitions hold for the second, also where none had been sent before."""
    last = left(make_meter, tmp_path)
    stuck = MemoryTransport(partitions=4)
    arrivals = 0

    def misfortune(_: bytes) -> str | None:
        nonlocal arrivals
        arrivals += 1
        return None if arrivals < 300 else "break"

    stuck.misfortune = misfortune
    first = make_meter(durability="spool", spool=tmp_path, transport=stuck)
    record_many(first, 1)
    eventually(lambda: arrivals >= 300)
    first.close(0.1)
    grown = MemoryTransport(partitions=12)
    second = make_meter(durability="spool", spool=tmp_path, transport=grown)
    record_many(second, 1)
    eventually(lambda: list(tmp_path.iterdir()) == [tmp_path / second.producer])

    sent = [event for event in arrived(stuck) if event.producer == last.producer]
    assert sent
    for partition, records in enumerate(grown.log):
        alone = MemoryTransport(partitions=1)
        alone.log = [records]
        for event in everything(alone):
            if event.producer == last.producer:
                assert partition == partition_of(event.lane, 4)


def test_damage_is_told_wherever_it_is(
    make_meter: MakeMeter,
    transport: MemoryTransport,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Turned bits in the first of several segments: the rest arrives, and somebody is told."""
    meter = make_meter(durability="spool", spool=tmp_path)
    last = left(make_meter, tmp_path, spool_bytes_max=1 << 20)
    segments = sorted((tmp_path / last.producer).glob("*.segment"))
    assert len(segments) > 1
    damage(segments[0])

    record_many(meter, 1)
    eventually(lambda: list(tmp_path.iterdir()) == [tmp_path / meter.producer])

    assert MANY - 50 < meter.status().adopted < MANY
    eventually(lambda: "cannot be read" in caplog.text)
    assert len({event.key or event.sequence for event in arrived(transport)}) > 1


def test_a_spool_of_a_later_version_is_left_alone_and_told(
    make_meter: MakeMeter, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It waits for the version that wrote it; what others left is adopted."""
    meter = make_meter(durability="spool", spool=tmp_path)
    later = left(make_meter, tmp_path)
    left(make_meter, tmp_path)
    segment = next((tmp_path / later.producer).glob("*.segment"))
    data = bytearray(segment.read_bytes())
    data[7] += 1
    data[60:64] = crc32c(bytes(data[:60])).to_bytes(4, "little")
    segment.write_bytes(data)

    record_many(meter, 1)
    eventually(lambda: meter.status().adopted == MANY)

    assert segment.read_bytes() == bytes(data)
    eventually(lambda: "version" in caplog.text)


def test_two_meters_share_what_was_left(
    make_meter: MakeMeter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both begin at once on ten spools: each is adopted by one of them, and by one only."""
    monkeypatch.setattr(adopting, "LOOK_SECONDS", 0.2)
    for _ in range(10):
        left(make_meter, tmp_path, 200)
    transports = MemoryTransport(), MemoryTransport()
    meters = [
        make_meter(durability="spool", spool=tmp_path, transport=transport)
        for transport in transports
    ]
    for meter in meters:
        record_many(meter, 1)
    eventually(lambda: sum(meter.status().adopted for meter in meters) >= 2_000)

    assert sum(len(arrived(transport)) for transport in transports) == 2_002
    for meter in meters:
        assert meter.close(30)
    assert list(tmp_path.iterdir()) == []


def test_adoption_while_the_transport_breaks(
    make_meter: MakeMeter, transport: MemoryTransport, tmp_path: Path
) -> None:
    """Again and again, in the middle of it: all arrives under its own number."""
    meter = make_meter(durability="spool", spool=tmp_path)
    last = left(make_meter, tmp_path, 1_000)
    arrivals = 0

    def misfortune(_: bytes) -> str | None:
        nonlocal arrivals
        arrivals += 1
        return "break" if arrivals % 400 == 0 and arrivals < 2_000 else None

    transport.misfortune = misfortune
    record_many(meter, 1)
    eventually(lambda: meter.status().adopted == 1_000)

    assert count_of(transport, last.producer) == 1_000
    assert meter.status().rebuilt >= 2


def test_a_spool_that_appears_later_is_found(
    make_meter: MakeMeter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that dies while others live is not forgotten, though nothing is recorded."""
    monkeypatch.setattr(adopting, "LOOK_SECONDS", 0.1)
    meter = make_meter(durability="spool", spool=tmp_path)
    record_many(meter, 1)
    assert meter.flush(30)
    left(make_meter, tmp_path, 100)

    eventually(lambda: meter.status().adopted == 100)


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs a list of open files")
@pytest.mark.parametrize("whose", ["own", "left"])
def test_a_fork_amid_locking_leaves_the_child_no_lock(
    make_meter: MakeMeter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whose: str
) -> None:
    """Or nobody could adopt the spool as long as a forgotten child lives."""
    last = left(make_meter, tmp_path, 10) if whose == "left" else None
    meter = make_meter(durability="spool", spool=tmp_path)
    watched = tmp_path / (last or meter).producer
    locked, real = threading.Event(), Directory.take

    def slow(path: Path, *, shared: bool = False) -> Directory | None:
        taken = real(path, shared=shared)
        if path == watched and not shared:
            locked.set()
            time.sleep(0.3)  # The fork comes now.
        return taken

    monkeypatch.setattr(Directory, "take", slow)
    record_many(meter, 1)
    assert locked.wait(30)
    child = os.fork()
    if child == 0:
        files = [entry.resolve() for entry in Path("/proc/self/fd").iterdir()]
        os._exit(1 if watched in files else 0)

    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    monkeypatch.undo()
    assert meter.flush(30)


def test_spools_in_whatever_state(
    make_meter: MakeMeter,
    transport: MemoryTransport,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Bytes turned, cut off or added in any file: live events go on, intact ones arrive, once."""
    monkeypatch.setattr(adopting, "LOOK_SECONDS", 0.05)
    seed = random.SystemRandom().randrange(10**6)
    print(f"seed {seed}")  # noqa: T201 - a failure must be repeatable
    chance = random.Random(seed)
    recorded: dict[str, int] = {}
    for _ in range(12):
        last = left(make_meter, tmp_path, 60)
        recorded[last.producer] = 60
        for path in (tmp_path / last.producer).iterdir():
            if chance.random() < 0.7:
                data = bytearray(path.read_bytes())
                for _ in range(chance.randint(1, 3)):
                    data[chance.randrange(len(data))] = chance.randrange(256)
                path.write_bytes(data[: chance.choice((None, chance.randrange(len(data))))])
    whole = left(make_meter, tmp_path, 60)
    meter = make_meter(durability="spool", spool=tmp_path, transport=transport)
    record_many(meter, 10)
    eventually(lambda: count_of(transport, whole.producer) == 60)
    for _ in range(20):
        record_many(meter, 10)
        assert meter.flush(30)

    found = Counter((event.producer, event.lane, event.sequence) for event in arrived(transport))
    assert max(found.values()) == 1
    assert {producer for producer, _, _ in found} <= {*recorded, whole.producer, meter.producer}
    assert "fault of its own" not in caplog.text


def test_many_small_spools_are_adopted_without_pauses(
    make_meter: MakeMeter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A meter that has nothing else to do does not sleep between two of them."""
    meter = make_meter(durability="spool", spool=tmp_path)
    for _ in range(5):
        left(make_meter, tmp_path, 10)
    slept: list[int] = []
    sleep = Alarm.sleep

    def counted(alarm: Alarm, seconds: float) -> None:
        slept.append(meter.status().adopted)
        sleep(alarm, seconds)

    monkeypatch.setattr(Alarm, "sleep", counted)
    record_many(meter, 1)
    eventually(lambda: meter.status().adopted == 50)

    assert {0, 50} >= {*slept}

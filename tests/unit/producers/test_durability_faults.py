"""Disks that fail: what was on disk is neither lost nor sent elsewhere."""

from __future__ import annotations

import errno
import os
import shutil
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import pytest
from crc32c import crc32c

from meterstream import adoption as adopting
from meterstream.memory import MemoryTransport
from meterstream.spool import Spool
from meterstream.spool_directory import Directory
from meterstream.spooled import read_route, write_route
from meterstream_schemas.placement import partition_of
from tests.unit.producers.calling import record_many
from tests.unit.producers.reading import arrived, everything, numbers
from tests.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from meterstream import Meter
    from tests.unit.producers.conftest import MakeMeter

MANY: Final = 2_000


@pytest.fixture
def away(transport: MemoryTransport) -> MemoryTransport:
    """A broker that cannot be reached."""
    transport.available = False
    return transport


def count_of(transport: MemoryTransport, producer: str) -> int:
    """How many different numbers of a producer are in the log, without a hole below the highest."""
    count = 0
    for (found, _), sequences in numbers(arrived(transport)).items():
        if found == producer:
            assert sorted(set(sequences)) == list(range(1, len(set(sequences)) + 1))
            count += len(set(sequences))
    return count


def left(make_meter: MakeMeter, root: Path, count: int = MANY, **settings: Any) -> Meter:  # noqa: ANN401 - as MakeMeter
    """A meter that is closed, with everything on disk."""
    gone = MemoryTransport()
    gone.available = False
    meter = make_meter(durability="spool", spool=root, transport=gone, **settings)
    record_many(meter, count)
    assert meter.flush(30, to="disk")
    meter.close(0)
    assert meter.status().spooled == count
    return meter


def damage(path: Path) -> None:
    """Turn some bits in the middle of a file."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0x55
    path.write_bytes(data)


def failing(number: int = errno.EIO) -> Callable[..., Any]:
    """A call that always answers with an error of the system."""

    def fail(*_arguments: object, **_named: object) -> None:
        raise OSError(number, os.strerror(number))

    return fail


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
    unlink, save = Directory.unlink, Spool.save_progress
    monkeypatch.setattr(Spool, "save_progress", only(last.producer, save, lambda _: None))
    monkeypatch.setattr(
        Directory,
        "unlink",
        lambda directory, name: directory.path.name != last.producer and unlink(directory, name),
    )

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
    assert [path.name for path in tmp_path.iterdir() if path.name != meter.producer] == [
        bad.producer
    ]
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


def test_an_own_backlog_that_cannot_be_read_for_a_while(
    make_meter: MakeMeter,
    away: MemoryTransport,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """While the disk does not answer nothing is lost, and everything arrives afterwards."""
    meter = make_meter(durability="spool", spool=tmp_path)
    record_many(meter, MANY)
    assert meter.flush(30, to="disk")
    read, attempts = Spool.read, 0

    def unsure(spool: Spool, after: int, count_max: int) -> list[tuple[int, bytes]]:
        nonlocal attempts
        attempts += 1
        if attempts < 3:
            raise OSError(errno.EIO, "Input/output error")
        return read(spool, after, count_max)

    monkeypatch.setattr(Spool, "read", unsure)
    away.available = True

    assert meter.flush(30)
    assert count_of(away, meter.producer) == MANY
    assert "fault of its own" not in caplog.text


def test_a_backlog_that_vanished_is_counted_as_failed(
    make_meter: MakeMeter, away: MemoryTransport, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Damage under a living meter: what can be read arrives, the rest has failed and is told."""
    meter = make_meter(durability="spool", spool=tmp_path, spool_bytes_max=1 << 20)
    record_many(meter, MANY)
    assert meter.flush(30, to="disk")
    damage(min((tmp_path / meter.producer).glob("*.segment")))

    away.available = True
    assert meter.flush(30)

    status = meter.status()
    assert (status.buffered, status.spooled) == (0, 0)
    assert 0 < status.failed < MANY
    assert status.acknowledged == MANY - status.failed
    eventually(lambda: "cannot be read" in caplog.text)
    assert meter.close(30)


def test_nothing_is_on_disk_without_its_topic(
    make_meter: MakeMeter, away: MemoryTransport, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the topic cannot be written down, events wait: another topic's meter would take them."""
    attempts = 0

    def unsure(*arguments: Any) -> None:  # noqa: ANN401 - passed on
        nonlocal attempts
        attempts += 1
        if attempts == 1:
            raise OSError(errno.ENOSPC, "No space left on device")
        write_route(*arguments)

    monkeypatch.setattr("meterstream.spooled.write_route", unsure)
    meter = make_meter(durability="spool", spool=tmp_path)
    record_many(meter, 10)
    assert meter.flush(30, to="disk")

    assert attempts >= 2
    assert (tmp_path / meter.producer / "route.json").exists()
    away.available = True
    assert meter.flush(30)


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


def test_a_directory_that_could_not_be_locked_is_made_again(
    make_meter: MakeMeter, away: MemoryTransport, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Too many open files at the first attempt do not cost the spool for ever."""
    take, attempts = Directory.take.__func__, 0  # type: ignore[attr-defined]  # a class method

    def unsure(kind: type[Directory], /, path: Path, **named: bool) -> Directory | None:
        nonlocal attempts
        if path.parent == tmp_path:
            attempts += 1
            if attempts == 1:
                raise OSError(errno.EMFILE, "Too many open files")
        taken: Directory | None = take(kind, path, **named)
        return taken

    monkeypatch.setattr(Directory, "take", classmethod(unsure))
    meter = make_meter(durability="spool", spool=tmp_path)
    record_many(meter, 10)

    assert meter.flush(30, to="disk")
    assert meter.status().spooled == 10
    away.available = True
    assert meter.flush(30)


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


def test_a_directory_that_was_removed_promises_nothing(
    make_meter: MakeMeter, away: MemoryTransport, tmp_path: Path
) -> None:
    """Writing goes on in a file that has no name any more: nobody could adopt that."""
    meter = make_meter(durability="spool", spool=tmp_path)
    record_many(meter, 10)
    assert meter.flush(30, to="disk")
    shutil.rmtree(tmp_path / meter.producer)

    record_many(meter, 10)
    assert not meter.flush(0.3, to="disk")

    away.available = True
    assert meter.flush(30)
    assert count_of(away, meter.producer) == 20
    assert meter.status().last_error is not None


def test_a_root_that_is_a_file(
    make_meter: MakeMeter,
    transport: MemoryTransport,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Events go without the disk, and nothing is promised about it while the broker is away."""
    root = tmp_path / "file"
    root.write_text("not a directory")
    meter = make_meter(durability="spool", spool=root)

    record_many(meter, 10)
    assert meter.flush(30, to="disk")
    transport.available = False
    record_many(meter, 10)
    assert not meter.flush(0.2, to="disk")

    assert f"{root}" in caplog.text
    transport.available = True
    assert meter.flush(30)
    assert count_of(transport, meter.producer) == 20


@pytest.mark.parametrize(
    "calls_that_fail",
    [
        ("pwrite", False),
        ("pwrite", True),
        ("fdatasync", False),
        ("fsync", False),
        ("ftruncate+pwrite", False),
        ("ftruncate+pwrite", True),
    ],
)
def test_a_disk_that_fails_at_any_call(
    make_meter: MakeMeter,
    transport: MemoryTransport,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    calls_that_fail: tuple[str, bool],
) -> None:
    """Errors at every second call or so: what was promised is adopted, and nothing twice."""
    monkeypatch.setattr("meterstream.spooled._RETRY_SECONDS", 0.0)
    call, partial = calls_that_fail
    calls = 0
    for name in call.split("+"):
        real = getattr(os, name)

        def unsure(*arguments: Any, real: Any = real, name: str = name) -> object:  # noqa: ANN401 - passed on
            nonlocal calls
            calls += 1
            if calls % 3 != 2:
                return real(*arguments)
            if name == "pwrite" and partial and len(arguments[1]) > 1:
                real(arguments[0], bytes(arguments[1][: len(arguments[1]) // 2]), arguments[2])
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(os, name, unsure)
    gone = MemoryTransport()
    gone.available = False
    last = make_meter(durability="fsync", spool=tmp_path, transport=gone)
    for _ in range(5):
        record_many(last, 200)
        assert last.flush(30, to="disk")
    monkeypatch.undo()
    last._incarnation.abandon()  # As kill -9 would leave it.

    meter = make_meter(durability="fsync", spool=tmp_path, transport=transport)
    record_many(meter, 1)
    eventually(lambda: meter.status().adopted >= 1_000)

    assert calls > 1
    assert count_of(transport, last.producer) == 1_000
    assert meter.status().adopted == 1_000


@pytest.mark.usefixtures("away")
def test_a_closed_meter_tries_the_disk_once_more(
    make_meter: MakeMeter,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A disk that refused a moment ago is asked again before events are given up."""
    append, refuses = Spool.append, True

    def unsure(spool: Spool, payloads: list[bytes]) -> int:
        if refuses:
            raise OSError(errno.ENOSPC, "No space left on device")
        return append(spool, payloads)

    monkeypatch.setattr(Spool, "append", unsure)
    monkeypatch.setattr("meterstream.spooled._RETRY_SECONDS", 3_600.0)
    meter = make_meter(durability="spool", spool=tmp_path)
    record_many(meter, 10)
    eventually(lambda: "No space" in caplog.text)
    refuses = False
    meter.close(0)

    assert meter.status().spooled == 10


def test_closing_at_once_leaves_everything_on_disk(
    make_meter: MakeMeter, away: MemoryTransport, tmp_path: Path
) -> None:
    """A full buffer and no time: whatever was taken is on disk when the meter has ended."""
    meter = make_meter(durability="spool", spool=tmp_path, buffer_events_max=30_000)
    record_many(meter, 30_000)
    meter.close(0)
    meter.close(30)

    assert meter.status().spooled == meter.status().recorded == 30_000


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


def test_a_fork_amid_writing(make_meter: MakeMeter, away: MemoryTransport, tmp_path: Path) -> None:
    """Forks while the background thread writes: each child's events and the parent's, once."""
    meter = make_meter(durability="spool", spool=tmp_path)
    children: list[int] = []
    for _ in range(4):
        record_many(meter, 3_000)
        child = os.fork()
        if child == 0:
            with suppress(BaseException):
                record_many(meter, 100)
                kept = meter.flush(30, to="disk")
                os._exit(0 if kept else 1)
            os._exit(2)
        children.append(child)
    assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [0] * 4

    away.available = True
    assert meter.flush(30)
    eventually(lambda: meter.status().adopted == 400)
    assert count_of(away, meter.producer) == 12_000
    assert sorted(count_of(away, event) for event in {e.producer for e in arrived(away)}) == [
        *[100] * 4,
        12_000,
    ]


def test_on_a_full_disk_the_partitions_are_written_over_the_topic(
    make_meter: MakeMeter, away: MemoryTransport, tmp_path: Path
) -> None:
    """No new file can be made, and events go all the same: sending is what makes room."""
    meter = make_meter(durability="spool", spool=tmp_path)
    record_many(meter, 10)
    assert meter.flush(30, to="disk")
    (tmp_path / meter.producer / "route.json.new").mkdir()

    away.available = True
    assert meter.flush(30)

    assert read_route(tmp_path / meter.producer) == ("meterstream.events", 4)
    (tmp_path / meter.producer / "route.json.new").rmdir()

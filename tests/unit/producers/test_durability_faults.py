"""Disks that fail: what was on disk is neither lost nor sent elsewhere."""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest

from meterstream.memory import MemoryTransport
from meterstream.spool import Spool
from meterstream.spool_directory import Directory
from meterstream.spool_route import read_route, write_route
from tests.unit.producers.calling import record_many
from tests.unit.producers.failing_disks import MANY, count_of, damage, remove
from tests.unit.producers.reading import arrived, numbers
from tests.waiting import eventually

if TYPE_CHECKING:
    from pathlib import Path

    from tests.unit.producers.conftest import MakeMeter


@pytest.fixture
def away(transport: MemoryTransport) -> MemoryTransport:
    """A broker that cannot be reached."""
    transport.available = False
    return transport


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


def test_a_directory_that_was_removed_promises_nothing(
    make_meter: MakeMeter, away: MemoryTransport, tmp_path: Path
) -> None:
    """Writing goes on in a file that has no name any more: nobody could adopt that."""
    meter = make_meter(durability="spool", spool=tmp_path)
    record_many(meter, 10)
    assert meter.flush(30, to="disk")
    remove(tmp_path / meter.producer)

    record_many(meter, 10)
    assert not meter.flush(0.3, to="disk")

    away.available = True
    assert meter.flush(30)
    assert count_of(away, meter.producer) == 20
    assert meter.status().last_error is not None


def test_a_directory_that_was_removed_is_made_again(
    make_meter: MakeMeter,
    transport: MemoryTransport,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As soon as nothing waits in it: what comes then is as safe as before."""
    monkeypatch.setattr("meterstream.spooled._RETRY_SECONDS", 0.0)
    meter = make_meter(durability="spool", spool=tmp_path)
    record_many(meter, 10)
    assert meter.flush(30)
    remove(tmp_path)

    record_many(meter, 10)
    assert meter.flush(30)
    eventually(lambda: not meter.status().buffered)
    transport.available = False
    record_many(meter, 20)
    assert meter.flush(30, to="disk")
    meter.close(0)
    following = MemoryTransport()
    other = make_meter(durability="spool", spool=tmp_path, transport=following)
    record_many(other, 1)
    eventually(lambda: other.status().adopted == 20)

    sent = [event for event in arrived(following) if event.producer == meter.producer]
    assert sorted(event.quantity for event in sent) == list(range(20))
    assert sum(len(found) for found in numbers(arrived(transport)).values()) == 20


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
    last.current().abandon()  # As kill -9 would leave it.

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

"""The spool between real processes: locks, kills, forks; and disks that fail."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import resource
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from meterstream.errors import SettingsError
from meterstream.spool import Spool, SpoolFull, left_behind, size_of

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

PRODUCER: Final = "00112233445566778899aabbccddeeff"
OTHER: Final = "ffeeddccbbaa99887766554433221100"
_PROGRAM: Final = Path(__file__).with_name("spool_program.py")
_MIB: Final = 2**20


@contextmanager
def _process(*arguments: object) -> Generator[subprocess.Popen[str]]:
    command = [sys.executable, str(_PROGRAM), *map(str, arguments)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def _line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_a_living_process_keeps_its_spool(tmp_path: Path) -> None:
    """Only when the process is dead, however it died, another one takes its spool over."""
    with _process("hold", tmp_path, PRODUCER) as holder:
        assert _line(holder) == "held"

        assert left_behind(tmp_path) == []
        assert Spool.adopt(tmp_path / PRODUCER) is None
        with _process("adopt", tmp_path / PRODUCER) as another:
            assert _line(another) == "held"
        holder.kill()
        holder.wait()

    assert left_behind(tmp_path) == [tmp_path / PRODUCER]
    adopted = Spool.adopt(tmp_path / PRODUCER)
    assert adopted is not None
    assert adopted.read(0, 9) == [(1, b"held")]
    with _process("adopt", tmp_path / PRODUCER) as another:
        assert _line(another) == "held"
    adopted.acknowledge([1])
    adopted.close()
    assert list(tmp_path.iterdir()) == []


def test_two_processes_on_one_directory(tmp_path: Path) -> None:
    """Each has a spool of its own, and the bound of the whole is the sum."""
    mine = Spool.create(tmp_path, PRODUCER, bytes_max=_MIB)
    mine.append([b"mine"])
    with _process("hold", tmp_path, OTHER) as holder:
        assert _line(holder) == "held"

        files = tmp_path.glob("*/*.segment")
        assert size_of(tmp_path) == sum(path.stat().st_size for path in files) > mine.bytes
        assert mine.read(0, 9) == [(1, b"mine")]
        assert left_behind(tmp_path) == []
    mine.close()

    assert sorted(left_behind(tmp_path)) == [tmp_path / PRODUCER, tmp_path / OTHER]


def test_a_directory_removed_amid_adoption(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever locks a directory that its last owner removed has nothing."""
    (tmp_path / PRODUCER).mkdir()
    real = fcntl.flock

    def slow(descriptor: int, operation: int) -> None:
        (tmp_path / PRODUCER).rmdir()
        real(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", slow)
    assert Spool.adopt(tmp_path / PRODUCER) is None


@pytest.mark.parametrize("fsync", [False, True])
def test_killed_amid_appends(tmp_path: Path, fsync: bool) -> None:
    """Everything whose append returned is there after kill -9, in order and whole."""
    told = 0
    with _process("append", tmp_path, PRODUCER, *["fsync"] * fsync) as process:
        while told < 3_000:
            told = int(_line(process))
        process.kill()
        assert process.stdout is not None
        for line in process.stdout:
            told = int(line)  # What it had said before it died.

    adopted = Spool.adopt(tmp_path / PRODUCER)
    assert adopted is not None
    found = adopted.read(0, 10**6)
    assert len(found) >= told >= 3_000
    assert found == [(index, b"payload %d" % (index - 1)) for index in range(1, len(found) + 1)]
    assert adopted.corrupt_bytes == 0
    adopted.close()


def test_killed_adopters(tmp_path: Path) -> None:
    """An adopted spool can be adopted again, from where its progress was saved."""
    spool = Spool.create(tmp_path, PRODUCER, bytes_max=_MIB, segment_bytes=200)
    spool.append([b"number %d" % number for number in range(100)])
    spool.abandon()

    for done in range(0, 100, 20):
        adopted = Spool.adopt(tmp_path / PRODUCER)
        assert adopted is not None
        assert [index for index, _ in adopted.read(0, 200)] == list(range(done + 1, 101))
        adopted.acknowledge(range(done + 1, done + 21))
        adopted.save_progress()
        adopted.abandon()

    adopted = Spool.adopt(tmp_path / PRODUCER)
    assert adopted is not None
    assert adopted.pending == 0
    adopted.close()
    assert list(tmp_path.iterdir()) == []


def test_the_oldest_is_adopted_first(tmp_path: Path) -> None:
    """Spools come in the order in which they were left; empty directories go."""
    for age, producer in enumerate([PRODUCER, OTHER]):
        spool = Spool.create(tmp_path, producer, bytes_max=_MIB)
        spool.append([b"a"])
        spool.abandon()
        os.utime(tmp_path / producer, (1_000_000 - age, 1_000_000 - age))
    empty = tmp_path / ("0" * 32)
    empty.mkdir()
    (empty / "progress").write_bytes(bytes(32))

    assert left_behind(tmp_path) == [tmp_path / OTHER, tmp_path / PRODUCER]

    assert not empty.exists()
    assert left_behind(tmp_path / "nowhere") == []
    assert size_of(tmp_path / "nowhere") == 0


def test_a_directory_of_somebody_else_stays(tmp_path: Path) -> None:
    """What is neither a segment nor a note of the spool is never removed."""
    spool = Spool.create(tmp_path, PRODUCER, bytes_max=_MIB)
    spool.append([b"a"])
    spool.acknowledge([1])
    (tmp_path / PRODUCER / "kept by a person").write_text("evidence")

    spool.close()

    assert left_behind(tmp_path) == []
    assert [path.name for path in (tmp_path / PRODUCER).iterdir()] == ["kept by a person"]


def test_a_fork_leaves_the_lock_to_the_parent(tmp_path: Path) -> None:
    """The child of a fork lets go of its copies; the parent's spool stays locked and intact."""
    spool = Spool.create(tmp_path, PRODUCER, bytes_max=_MIB)
    spool.append([b"before"])

    child = os.fork()
    if not child:
        spool.abandon()
        held = Spool.adopt(tmp_path / PRODUCER) is None
        os._exit(0 if held else 1)
    _, status = os.waitpid(child, 0)

    assert os.waitstatus_to_exitcode(status) == 0
    assert Spool.adopt(tmp_path / PRODUCER) is None
    spool.append([b"after"])
    assert spool.read(0, 9) == [(1, b"before"), (2, b"after")]
    spool.close()


def test_closing_frees_the_lock_though_a_child_has_it(tmp_path: Path) -> None:
    """A child that never abandoned does not keep a closed spool from being adopted."""
    spool = Spool.create(tmp_path, PRODUCER, bytes_max=_MIB)
    spool.append([b"a"])
    child = os.fork()
    if not child:
        signal.pause()
        os._exit(0)
    try:
        spool.close()

        adopted = Spool.adopt(tmp_path / PRODUCER)
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)

    assert adopted is not None
    assert adopted.read(0, 9) == [(1, b"a")]
    adopted.close()


def test_a_full_disk(tmp_path: Path) -> None:
    """On a disk that takes half of a group nothing of it stays, and the rest is as before."""
    spool = Spool.create(tmp_path, PRODUCER, bytes_max=_MIB)
    spool.append([b"before"])
    size = spool.bytes
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 5_000, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large") as refusal:
            spool.append([bytes(1_000)] * 10)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)

    assert refusal.value.errno == errno.EFBIG
    assert spool.bytes == size_of(tmp_path) == size
    assert spool.append([b"after"]) == 2
    assert spool.read(0, 9) == [(1, b"before"), (2, b"after")]
    spool.close()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KiB."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k,nr_inodes=20", "spool", str(place)]
    try:
        done = subprocess.run(mount, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is no mount here")
    if done.returncode:
        pytest.skip(f"a file system cannot be mounted here: {done.stderr.strip()}")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_no_space_left(small_disk: Path) -> None:
    """A file system without space refuses groups, loses none, and takes more when it can."""
    spool = Spool.create(small_disk, PRODUCER, bytes_max=_MIB, segment_bytes=16_000)
    refused: OSError | None = None
    while refused is None:
        try:
            spool.append([bytes(1_000)] * 3)
        except OSError as problem:
            refused = problem

    last = spool.last
    assert refused.errno == errno.ENOSPC
    assert last >= 30
    assert [index for index, _ in spool.read(0, 1_000)] == list(range(1, last + 1))
    assert spool.bytes == size_of(small_disk)
    spool.save_progress()
    spool.acknowledge(range(1, last // 2))
    assert spool.append([bytes(1_000)] * 3) == last + 1
    spool.abandon()
    adopted = Spool.adopt(small_disk / PRODUCER)
    assert adopted is not None
    assert adopted.last == last + 3
    assert adopted.corrupt_bytes == 0
    adopted.close()


def test_a_segment_that_cannot_be_begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A header that is not written whole leaves no file, and the next attempt goes on."""
    spool = Spool.create(tmp_path, PRODUCER, bytes_max=_MIB)
    real = os.pwrite

    def half(descriptor: int, data: bytes, position: int) -> int:
        if position:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(descriptor, data[:20], position)

    monkeypatch.setattr(os, "pwrite", half)
    with pytest.raises(OSError, match="No space left"):
        spool.append([b"a"])
    assert (spool.files, list((tmp_path / PRODUCER).iterdir())) == (0, [])

    monkeypatch.undo()
    assert spool.append([b"a"]) == 1
    spool.close()


def test_a_disk_that_takes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A write that writes no byte and reports no error is an error, not an endless loop."""
    spool = Spool.create(tmp_path, PRODUCER, bytes_max=_MIB)
    spool.append([b"a"])

    def nothing(_descriptor: int, _data: bytes, _position: int) -> int:
        return 0

    monkeypatch.setattr(os, "pwrite", nothing)
    with pytest.raises(OSError, match="takes no bytes"):
        spool.append([b"b"])

    assert spool.read(0, 9) == [(1, b"a")]
    spool.close()


def _counted(monkeypatch: pytest.MonkeyPatch, name: str) -> list[str]:
    """The paths of what is synced from now on."""
    real: Callable[[int], None] = getattr(os, name)
    synced: list[str] = []

    def counting(descriptor: int) -> None:
        synced.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)
        real(descriptor)

    monkeypatch.setattr(os, name, counting)
    return synced


def test_one_sync_a_group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With fsync, names are synced when they come to be and data once a group; without, never."""
    names = _counted(monkeypatch, "fsync")
    data = _counted(monkeypatch, "fdatasync")
    root = tmp_path / "root"

    careless = Spool.create(root, OTHER, bytes_max=_MIB)
    careless.append([b"a"])
    careless.save_progress()
    assert (names, data) == ([], [])

    spool = Spool.create(root, PRODUCER, bytes_max=_MIB, segment_bytes=5_000, fsync=True)
    for _ in range(3):
        spool.append([bytes(100)] * 30)

    segments = [f"{first:020d}.segment" for first in (1, 61)]
    assert names == ["root", PRODUCER, PRODUCER]
    assert data == [segments[0], segments[0], segments[1]]
    careless.close()
    spool.close()


def test_a_failed_sync_is_never_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a failed fdatasync the segment takes nothing more, and its group never comes back."""
    spool = Spool.create(tmp_path, PRODUCER, bytes_max=_MIB, fsync=True)
    spool.append([b"a", b"b"])

    def failing(_descriptor: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    def untruncated(descriptor: int, _size: int) -> None:
        failing(descriptor)

    monkeypatch.setattr(os, "fdatasync", failing)
    monkeypatch.setattr(os, "ftruncate", untruncated)
    with pytest.raises(OSError, match="Input/output"):
        spool.append([b"lost", b"lost too"])
    monkeypatch.undo()
    assert spool.append([b"c"]) == 3

    assert spool.read(0, 9) == [(1, b"a"), (2, b"b"), (3, b"c")]
    assert len(list((tmp_path / PRODUCER).glob("*.segment"))) == 2
    spool.acknowledge([3])
    spool.append([b"d"])
    spool.abandon()
    adopted = Spool.adopt(tmp_path / PRODUCER)
    assert adopted is not None
    assert adopted.read(0, 9) == [(1, b"a"), (2, b"b"), (3, b"c"), (4, b"d")]
    adopted.close()


def test_what_follows_a_spoiled_segment_outlives_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A group that failed stays dead though the segment that replaced it is done with first."""
    spool = Spool.create(tmp_path, PRODUCER, bytes_max=_MIB, segment_bytes=100)
    spool.append([b"a"])

    def failing(_descriptor: int, _size: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    def broken(descriptor: int, data: bytes, position: int) -> int:
        os.write(descriptor, b"")
        os.lseek(descriptor, position, os.SEEK_SET)
        os.write(descriptor, data)
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "ftruncate", failing)
    monkeypatch.setattr(os, "pwrite", broken)
    with pytest.raises(OSError, match="Input/output"):
        spool.append([b"failed"])
    monkeypatch.undo()
    spool.append([bytes(100)])
    spool.append([bytes(100)])
    spool.acknowledge([2])
    spool.abandon()

    adopted = Spool.adopt(tmp_path / PRODUCER)
    assert adopted is not None
    assert b"failed" not in [payload for _, payload in adopted.read(0, 9)]
    assert adopted.read(0, 1) == [(1, b"a")]
    adopted.close()


def test_no_locks_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the system has no file locks, the error says what to choose instead."""
    monkeypatch.setitem(sys.modules, "fcntl", None)

    with pytest.raises(SettingsError, match=re.escape("choose durability='memory'")):
        Spool.create(tmp_path, PRODUCER, bytes_max=_MIB)


def test_full_says_what_to_do() -> None:
    """The error of a full spool has the figures and the remedies."""
    problem = SpoolFull(100, 950, 1_000)

    assert str(problem) == (
        "100 bytes do not fit into the spool: it holds 950 of 1000; "
        "wait until the broker takes some, or raise the spool's bound"
    )


def test_the_program_of_the_document(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What docs/spool.md tells a person on call to run shows what waits, and changes nothing."""
    document = (Path(__file__).parents[3] / "docs/spool.md").read_text("utf-8")
    (program,) = re.findall(r"```python\n(.*?)```", document, re.DOTALL)
    spool = Spool.create(tmp_path / "spool", PRODUCER, bytes_max=_MIB)
    spool.append([b"a", b"b"])
    held = spool.bytes
    spool.abandon()
    monkeypatch.chdir(tmp_path)

    for _ in range(2):
        exec(compile(program, "docs/spool.md", "exec"), {})

        assert capsys.readouterr().out == (
            f"{held} bytes in all, held by living processes or not\n"
            f"{PRODUCER}: 2 entries, 0 bytes damaged\n"
        )

"""Files that give trouble: what is said of each, that nothing is lost, and that it goes on."""

from __future__ import annotations

import os
import resource
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from meterstream_aggregator.changes import Changes, OutboxMessage
from meterstream_aggregator.errors import StoreMismatch, StoreUnavailable
from meterstream_aggregator.store.canonical import TABLES
from meterstream_aggregator.store.canonical_sqlite import opened
from meterstream_aggregator.store.port import Advance, TopicBinding
from meterstream_aggregator.store.sqlite import SqliteStore
from meterstream_aggregator.store.sqlite_reader import open_reader
from tests.contract.stores import CATALOGUE, NOW, added, row

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

BINDING = TopicBinding("events", "id-1", 4)
DISK_BYTES = 4 << 20


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of a few megabytes, in memory."""
    if sys.platform != "linux" or os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("mounting a small file system needs Linux and root")
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(place)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"this system does not let us mount: {done.stderr.strip()}")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def begun(path: Path) -> SqliteStore:
    """A bound store that owns a partition at epoch 1."""
    store = SqliteStore(path)
    store.bind(BINDING, CATALOGUE)
    assert store.claim(0, "worker").epoch == 1
    return store


def batch(turn: int, size: int = 100_000) -> tuple[list[Advance], Changes]:
    """What one commit brings: a usage row, and a message of so many bytes."""
    changes = added({row(tenant=f"t{turn}"): (1, turn)})
    changes.outbox = [OutboxMessage(0, "letters", b"k", bytes(size), ())]
    return [Advance(0, 1, turn or None, turn, turn + 1, NOW, 1, 0, 0)], changes


def content(path: Path) -> dict[str, list[bytes]]:
    """The canonical rows, of a file that is whole by SQLite's own account."""
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    with opened(path) as found:
        return {table.name: list(found.lines(table)) for table in TABLES}


def folded(path: Path, turns: int) -> dict[str, list[bytes]]:
    """The content of a store that had no trouble."""
    with closing(begun(path)) as store:
        for turn in range(turns):
            store.commit(*batch(turn))
    return content(path)


def test_a_disk_without_space(disk: Path, tmp_path: Path) -> None:
    """A really full disk keeps the position; with room again every batch goes in, once."""
    path, ballast = disk / "store.sqlite3", disk / "ballast"
    store = begun(path)
    ballast.write_bytes(bytes(DISK_BYTES * 3 // 4))
    turn = refusals = 0
    while turn < 12:
        try:
            store.commit(*batch(turn))
        except StoreUnavailable as problem:
            assert "full; nothing was written; make room" in str(problem)  # noqa: PT017 - in a loop
            refusals += 1
            assert refusals < 3, "the room that was made is not used"
            with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as db:
                assert db.execute("SELECT next_offset FROM position").fetchone() == (turn,)
            ballast.unlink()
        else:
            turn += 1
    store.close()

    assert refusals == 1
    assert content(path) == folded(tmp_path / "fine.sqlite3", 12)


def test_a_disk_that_only_reads(disk: Path) -> None:
    """A file system that became read-only, as after an error of its disk."""
    path = disk / "store.sqlite3"
    begun(path).close()
    remount = ["mount", "-o"]
    subprocess.run([*remount, "remount,ro", str(disk)], check=True)

    with pytest.raises(StoreUnavailable, match=r"readonly|unable to open"):
        SqliteStore(path)

    subprocess.run([*remount, "remount,rw", str(disk)], check=True)
    SqliteStore(path).close()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write every file")
def test_a_file_that_may_not_be_written(tmp_path: Path) -> None:
    """Said with what mends it; it may be mended while the worker waits."""
    path = tmp_path / "store.sqlite3"
    begun(path).close()
    path.chmod(0o444)

    with pytest.raises(StoreUnavailable, match="let this user write the file"):
        SqliteStore(path)

    path.chmod(0o644)
    SqliteStore(path).close()


def test_a_disk_that_fails_while_writing(tmp_path: Path) -> None:
    """A write that the system refuses is waited out: nothing was written, later all is."""
    path = tmp_path / "store.sqlite3"
    store = begun(path)
    store.commit(*batch(0))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, limits[1]))
    try:
        with pytest.raises(StoreUnavailable, match="I/O error; nothing was written; look at the"):
            store.commit(*batch(1, size=1_000_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)

    store.commit(*batch(1))
    store.close()
    assert content(path) == folded(tmp_path / "fine.sqlite3", 2)


def test_a_damaged_file(tmp_path: Path) -> None:
    """Whoever meets the damage stops and says how to make the store again."""
    path = tmp_path / "store.sqlite3"
    store = begun(path)
    store.commit(*batch(0, size=1_000_000))
    store.close()
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(os.urandom(path.stat().st_size // 2))

    with pytest.raises(StoreMismatch, match=r"damaged.*meterstream rebuild --into"):
        begun(path).commit(*batch(1))
    with pytest.raises(StoreMismatch, match=r"damaged.*meterstream rebuild --into"):
        open_reader(path).positions()


def test_a_file_whose_head_is_gone(tmp_path: Path) -> None:
    """SQLite does not know it for its own any more: a rebuild is offered as well."""
    path = tmp_path / "store.sqlite3"
    begun(path).close()
    with path.open("r+b") as file:
        file.write(bytes(100))

    for use in (SqliteStore, open_reader):
        with pytest.raises(StoreMismatch, match=r"not a SQLite database.*rebuild --into"):
            use(path)

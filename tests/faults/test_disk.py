"""A full disk under the store: the worker waits, says so, and goes on when there is room again."""

from __future__ import annotations

import os
import random
import subprocess
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import pytest

from tests.faults.worlds import PATIENCE_SECONDS, World
from tests.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from tests.conftest import Broker

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]

_SIZE: Final = 24 * 1024 * 1024
_TIMES: Final = 3


@contextmanager
def small_disk(place: Path) -> Generator[None]:
    """A file system of little room, in memory. Skips, and says why, where none may be mounted."""
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={_SIZE}", "tmpfs", str(place)],
        capture_output=True,
        text=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip(f"no small disk can be had here: {mounted.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def fill(ballast: Path) -> None:
    """Take all the room there is."""
    with ballast.open("ab", buffering=0) as file:
        for size in (65_536, 4_096, 1):
            try:
                while True:
                    file.write(os.urandom(size))
            except OSError:
                continue


def times_told(log: World) -> int:
    """How often the worker said that there is no room."""
    return log.said.read_bytes().count(b"full")


def test_a_worker_outlives_a_full_disk(broker: Broker, topic: str, tmp_path: Path) -> None:
    """Filled and emptied again and again: the same worker, the same figures."""
    seed = random.SystemRandom().randrange(10**6)
    print(f"seed {seed}")  # noqa: T201 - a failure must be repeatable
    log = World(broker, topic, tmp_path, seed=seed, events=4_000)
    with small_disk(tmp_path / "disk"):
        log.store = tmp_path / "disk" / "store.sqlite3"
        log.write(1_000)
        with log.worker() as worker:
            eventually(log.is_folded, timeout_seconds=PATIENCE_SECONDS)
            for _ in range(_TIMES):
                told = times_told(log)
                fill(tmp_path / "disk" / "ballast")
                log.write(1_000)
                while times_told(log) == told:
                    time.sleep(0.1)
                assert worker.poll() is None
                (tmp_path / "disk" / "ballast").unlink()
                eventually(log.is_folded, timeout_seconds=PATIENCE_SECONDS)
            assert worker.poll() is None

        assert log.wrong() == [], f"seed {seed}"

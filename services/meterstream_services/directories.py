"""The data directory of `meterstream up`: fit to be used, and held by one `up` at a time.

The lock is a `flock` on ``DIR/up.lock`` whose descriptor every part inherits: it is held until `up`
and all its parts are gone, also when `up` was killed and a worker still finishes its batch.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import IO, Final

import psutil

FREE_BYTES_MIN: Final = 256_000_000
"""Below this much free space a start is refused: Kafka alone would soon fill it."""
LEFTOVER_SECONDS: Final = 40.0
"""How long to wait for the parts of an `up` that was killed to end by themselves."""
_POLL_SECONDS: Final = 0.1


class UpError(Exception):
    """Why `up` cannot start or go on, in one sentence."""


def prepare_directory(data: Path) -> None:
    """Make the data directory and prove that it can be written. Raises `UpError`."""
    probe = data / ".probe"
    try:
        data.mkdir(mode=0o700, parents=True, exist_ok=True)
        with probe.open("wb") as file:
            file.write(bytes(65_536))
            file.flush()
            os.fsync(file.fileno())
        free = shutil.disk_usage(data).free
    except OSError as problem:
        raise UpError(_directory_problem(data, problem)) from problem
    finally:
        with contextlib.suppress(OSError):
            probe.unlink()
    if free < FREE_BYTES_MIN:
        raise UpError(
            f"{data}: only {free // 1_000_000} MB are free on its disk, and "
            f"{FREE_BYTES_MIN // 1_000_000} MB are needed to start; free some, or choose another "
            "--data"
        )


@contextlib.contextmanager
def hold(data: Path, say: Callable[[str], None]) -> Generator[IO[str]]:
    """Hold the directory. The descriptor goes to every part: held until all of them are gone."""
    with (data / "up.lock").open("a+", encoding="utf-8") as lock:
        deadline = time.monotonic() + LEFTOVER_SECONDS
        said = False
        while not _taken(lock):
            lock.seek(0)
            holder = lock.read().strip()
            if _runs(holder) or time.monotonic() > deadline:
                raise UpError(
                    f"{data}: another `meterstream up` (process {holder.partition(' ')[0]}) runs "
                    "on this directory; stop it, or choose another --data"
                )
            if not said:
                say("waiting for the parts of an `up` that was killed to end")
                said = True
            time.sleep(_POLL_SECONDS)
        lock.truncate(0)
        lock.write(f"{os.getpid()} {psutil.Process().create_time()}")
        lock.flush()
        yield lock


def _taken(lock: IO[str]) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _runs(holder: str) -> bool:
    """Whether the process that a lock file names still is that process, and not a dead one."""
    process, _, begun = holder.partition(" ")
    try:
        found = psutil.Process(int(process))
        return f"{found.create_time()}" == begun and found.status() != psutil.STATUS_ZOMBIE
    except ValueError:
        return True  # taken a moment ago, and not written yet
    except psutil.NoSuchProcess:
        return False


def _directory_problem(data: Path, problem: OSError) -> str:
    if problem.errno in {errno.ENOSPC, errno.EDQUOT}:
        return f"{data}: its disk is full; free some space, or choose another --data"
    reason = problem.strerror or str(problem)
    return f"{data}: cannot be used as data directory ({reason}); choose another --data"

"""Virtual environments for engines that we are compared with, each made once in the cache.

Their dependencies would fight with ours, and nobody who uses meterstream needs them: so they are in
no extra and in no lock file. ``pip`` takes them from where it is configured to.
"""

from __future__ import annotations

import subprocess
import sys
import venv
from pathlib import Path
from typing import Final, NamedTuple

from benchmarks.running import say
from meterstream_infra.jars import cache_directory

_ALWAYS: Final = ("fastavro==1.13.1", "psutil>=6")


class Engine(NamedTuple):
    """What is installed for one engine, how it is measured and what that leaves out."""

    requirement: str
    ways: tuple[str, ...]
    guarantee: str
    more: tuple[str, ...] = ()


ENGINES: Final = {
    "quix": Engine("quixstreams==3.28.1", ("state", "window"), "exactly once"),
    "arroyo": Engine(
        "sentry-arroyo==2.48.0", ("dictionary",), "at least once, and its sums die with it"
    ),
    "bytewax": Engine(
        "bytewax==0.21.1",
        ("state", "fold"),
        "none: no recovery store",
        more=("confluent-kafka==2.16.1",),
    ),
}


class NotInstalled(Exception):
    """An engine cannot be installed for this Python or from this machine; says why."""


def python_of(name: str) -> Path:
    """The interpreter of an engine's environment, made if it is not there. Blocks meanwhile.

    Raises `NotInstalled`.
    """
    engine = ENGINES[name]
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    place = cache_directory() / "benchmarks" / f"{engine.requirement}-python{version}"
    python, complete = place / "bin" / "python", place / ".complete"
    if complete.exists():
        return python
    say(f"{name}: making an environment with {engine.requirement}, once")
    venv.create(place, with_pip=True, clear=True)
    command = [str(python), "-m", "pip", "install", "-q", "--only-binary=:all:"]
    installed = subprocess.run(
        [*command, engine.requirement, *engine.more, *_ALWAYS],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if installed.returncode != 0:
        lines = [line for line in installed.stderr.splitlines() if line.startswith("ERROR")]
        reason = lines[-1] if lines else f"pip ended with {installed.returncode}"
        raise NotInstalled(f"{engine.requirement} on Python {version}: {reason}")
    complete.touch()
    return python

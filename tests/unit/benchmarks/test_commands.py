"""The commands of the benchmarks: what each can be told, and that nothing outlives them."""

from __future__ import annotations

import subprocess
import sys
import time
from typing import TYPE_CHECKING

import psutil
import pytest

from benchmarks import environments, streams, traffic
from benchmarks.__main__ import PARTS
from benchmarks.measuring import Cost, tree_cpu_seconds
from benchmarks.running import ROOT, result_of, scratch, started
from benchmarks.stages import Stages

if TYPE_CHECKING:
    from pathlib import Path

_MEASURED = (
    "answers",
    "consuming",
    "folding",
    "logfile",
    "member",
    "pacing",
    "probing",
    "rebuilding",
    "working",
    "engines.arroyo",
    "engines.bytewax",
    "engines.quix",
)


def test_every_part_can_be_asked_for() -> None:
    """``--help`` names each part, in the text for people and among the choices."""
    told = subprocess.run(
        [sys.executable, "-m", "benchmarks", "--help"],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    ).stdout

    for part in PARTS:
        assert f"``{part}``" in told, part


def test_an_unknown_part_is_refused() -> None:
    """A misspelt part measures nothing and says what there is."""
    told = subprocess.run(
        [sys.executable, "-m", "benchmarks", "--only", "steams"],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )

    assert told.returncode == 2
    assert "'streams'" in told.stderr


@pytest.mark.parametrize("module", _MEASURED)
def test_every_measured_program_says_what_it_takes(module: str) -> None:
    """Each is imported whole and has a parser that works."""
    told = subprocess.run(
        [sys.executable, "-m", f"benchmarks.{module}", "--help"],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )

    assert told.returncode == 0, told.stderr
    assert "usage:" in told.stdout


def test_the_last_line_of_a_program_is_its_result() -> None:
    """What it says before is for people."""
    said = result_of([sys.executable, "-c", "print('hm'); print('{\"a\": 1}')"])

    assert said == {"a": 1}


def test_a_program_that_fails_ends_the_measurement() -> None:
    """With its name and its status."""
    with pytest.raises(SystemExit, match="failed with 3"):
        result_of([sys.executable, "-c", "raise SystemExit(3)"])


def test_a_program_ends_with_what_started_it() -> None:
    """Also one that is stopped at that moment, which hears no signal but this."""
    with started([sys.executable, "-c", "import time; time.sleep(600)"]) as process:
        psutil.Process(process.pid).suspend()

    assert process.poll() is not None


def test_a_scratch_directory_is_gone_at_the_end() -> None:
    """With all that is in it; and other users may pass through it meanwhile."""
    with scratch() as directory:
        (directory / "big").write_bytes(b"x")
        mode = directory.stat().st_mode

    assert mode & 0o001
    assert not directory.exists()


def test_without_maven_it_is_said_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The comparison names the program and how to come by it."""
    monkeypatch.setenv("PATH", "")

    with pytest.raises(SystemExit, match="Maven is missing"):
        streams.build()


def test_an_engine_that_cannot_be_installed_says_why(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The result of the part is the reason, and a half-made environment is not taken for one."""
    monkeypatch.setenv("METERSTREAM_CACHE", str(tmp_path))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)

    with pytest.raises(environments.NotInstalled, match=r"bytewax==.* on Python 3\."):
        environments.python_of("bytewax")
    assert not list(tmp_path.glob("**/.complete"))


def test_cpu_of_a_process_that_has_ended_is_not_lost() -> None:
    """A database's sessions come and go; what they used is still told of the server."""
    burn = "import time\nuntil = time.process_time() + 0.2\nwhile time.process_time() < until: pass"
    parent = (
        "import subprocess, sys, time\n"
        f"subprocess.run([sys.executable, '-c', {burn!r}])\n"
        "print('x', flush=True)\n"
        "time.sleep(600)\n"
    )
    with started([sys.executable, "-c", parent]) as process:
        assert process.stdout is not None
        process.stdout.readline()

        assert tree_cpu_seconds(process.pid) >= 0.2


def test_time_belongs_to_the_innermost_stage() -> None:
    """What a stage calls is not counted twice, and all of it is counted."""
    stages = Stages()
    inner = stages.timed("inner", lambda: time.sleep(0.05))
    outer = stages.timed("outer", inner)

    stages.begin()
    outer()
    told = stages.read(Cost(events=1, wall_seconds=1.0, cpu_seconds=0.0))

    assert told["inner"]["wall"] >= 50_000
    assert told["inner"]["wall"] > told["outer"]["wall"]


def test_a_walk_meets_every_series_once() -> None:
    """So many events as there are series leave none out, however they are cut into chunks."""
    shape = traffic.Shape(tenants=5, walk=True)
    fleet = traffic.Fleet(seed=1, producers=2, first_time=0, pace=1, shape=shape)

    met = set()
    for size in (100, 80):
        columns = fleet.chunk(size)
        met |= set(zip(columns.tenant, columns.type, columns.region, strict=True))

    assert len(met) == 5 * len(traffic.USAGE_TYPES) * len(traffic.REGIONS)

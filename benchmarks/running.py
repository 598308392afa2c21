"""What every comparison shares: a process of its own for each measurement, and what it ran on."""

from __future__ import annotations

import json
import os
import platform
import shutil
import signal
import sqlite3
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Generator, Sequence
from contextlib import ExitStack, contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any, Final, NoReturn

from meterstream_infra import launch

ROOT: Final = Path(__file__).resolve().parents[1]
_SOURCE_ROOTS: Final = ("schemas", "aggregator", "consumers", "infra", "producers", "services")


def run(module: str, arguments: list[str], *, checkout: Path | None = None) -> dict[str, Any]:
    """Run a measurement in a process of its own; its last line is its result.

    With ``checkout``, the packages come from that directory's source roots; the measuring code
    stays this one. Raises `SystemExit` with the output of what failed.
    """
    environment = dict(os.environ)
    if checkout is not None:
        roots = [str(checkout / root) for root in _SOURCE_ROOTS if (checkout / root).is_dir()]
        environment["PYTHONPATH"] = os.pathsep.join(roots)
        arguments = [*arguments, "--sources", str(checkout)]
    return result_of([sys.executable, "-m", module, *arguments], environment=environment)


def result_of(
    command: Sequence[str | Path],
    *,
    environment: dict[str, str] | None = None,
    timeout_seconds: float | None = None,
) -> dict[str, Any]:
    """What a program says in its last line, which is JSON. It does not outlive this process.

    What it says on standard error passes through. Raises `SystemExit` when it fails.
    """
    with started(command, environment=environment) as process:
        return read_result(process, _name(command), timeout_seconds)


def read_result(
    process: subprocess.Popen[str], name: str, timeout_seconds: float | None
) -> dict[str, Any]:
    """Wait for a program that was started, and give what its last line says: see `result_of`."""
    try:
        said, _ = process.communicate(timeout=timeout_seconds)
    except subprocess.TimeoutExpired as problem:
        raise SystemExit(f"{name} did not end in {timeout_seconds} s") from problem
    if process.returncode != 0:
        raise SystemExit(f"{name} failed with {process.returncode}:\n{said}")
    result: dict[str, Any] = json.loads(said.strip().splitlines()[-1])
    return result


@contextmanager
def started(
    command: Sequence[str | Path],
    *,
    environment: dict[str, str] | None = None,
    log: Path | None = None,
) -> Generator[subprocess.Popen[str]]:
    """A program that is ended at the end, and by the kernel should this process be killed.

    All that it says goes to ``log``; without one, standard output is the caller's to read.
    """
    program = shutil.which(command[0]) or str(command[0])
    tied = [sys.executable, "-I", "-S", launch.__file__, str(os.getpid()), program]
    with ExitStack() as stack:
        out = stack.enter_context(log.open("a", encoding="utf-8")) if log else None
        process = subprocess.Popen(
            [*tied, *map(str, command[1:])],
            stdin=subprocess.DEVNULL,
            stdout=out or subprocess.PIPE,
            stderr=out,
            text=True,
            cwd=ROOT,
            env=environment,
        )
        try:
            yield process
        finally:
            end(process)
            if process.stdout is not None:
                process.stdout.close()


def end(process: subprocess.Popen[str], timeout_seconds: float = 10) -> None:
    """Ask a program to end, and make it end when it does not. Nothing when it has."""
    if process.poll() is not None:
        return
    # A stopped one hears nothing.
    process.send_signal(signal.SIGCONT)
    process.terminate()
    try:
        process.wait(timeout_seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


@contextmanager
def scratch() -> Generator[Path]:
    """A directory that goes away at the end; other users may pass through it, as databases must."""
    with tempfile.TemporaryDirectory(prefix="meterstream-bench-") as text:
        directory = Path(text)
        directory.chmod(0o711)
        yield directory


def leave_on_sigterm() -> None:
    """Let SIGTERM end this process as Ctrl-C does: with everything cleared away."""

    def leave(number: int, _: object) -> NoReturn:
        raise SystemExit(128 + number)

    signal.signal(signal.SIGTERM, leave)


def _name(command: Sequence[str | Path]) -> str:
    named = command[2] if command[1:2] == ["-m"] else command[0]
    return Path(named).name


def check_sources(checkout: Path | None) -> None:
    """Make sure that the packages in use are those of ``checkout``; any for None."""
    if checkout is None:
        return
    import meterstream_aggregator  # noqa: PLC0415 - the question is where they come from
    import meterstream_consumers  # noqa: PLC0415 - likewise
    import meterstream_schemas  # noqa: PLC0415 - likewise

    for package in (meterstream_aggregator, meterstream_consumers, meterstream_schemas):
        where = Path(package.__file__ or "").resolve()
        if not where.is_relative_to(checkout.resolve()):
            raise SystemExit(f"{package.__name__} comes from {where}, not from {checkout}")


def machine() -> dict[str, Any]:
    """The machine, and what else it was doing."""
    return {
        "system": platform.platform(),
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "processor": _processor(),
        "versions": {
            name: metadata.version(name)
            for name in ("confluent-kafka", "pyruhvro", "pyarrow", "numpy", "psycopg")
        }
        | {"sqlite": sqlite3.sqlite_version},
        "load_before": load(),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return platform.processor()
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.machine())


def load() -> float:
    """The load average of the last minute."""
    return round(os.getloadavg()[0], 2)


def middle(results: list[dict[str, Any]], figure: str) -> dict[str, Any]:
    """The result whose figure is the median."""
    value = statistics.median_low([result[figure] for result in results])
    return next(result for result in results if result[figure] == value)


def at_fifths(samples: list[float]) -> dict[str, Any]:
    """Resident memory at fifths of a run, and its growth after the first fifth."""
    if not samples:
        return {}
    last = len(samples) - 1
    at = {f"{part * 20}%": samples[last * part // 5] for part in range(6)}
    return {**at, "peak": max(samples), "growth_after_20%": round(at["100%"] - at["20%"], 1)}


def say(line: str) -> None:
    """Tell a person, on standard error."""
    sys.stderr.write(line + "\n")
    sys.stderr.flush()

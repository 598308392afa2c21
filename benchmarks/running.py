"""What every comparison shares: a process of its own for each measurement, and what it ran on."""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

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
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env=environment,
    )
    if done.returncode != 0:
        raise SystemExit(f"{module} failed:\n{done.stdout}{done.stderr}")
    result: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return result


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
        "load_before": load(),
    }


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

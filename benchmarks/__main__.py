"""``make bench``: what things cost, all in one run on one embedded broker, as a table and as JSON.

The table goes to standard error, the JSON to standard output (and to ``--json FILE``). Ratios are
within this run only: absolute figures belong to the machine and to what else it was doing. Before
the measured rounds one unmeasured consume warms the page cache; the median of the rounds counts.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks import traffic
from benchmarks.starting import measure_starts
from meterstream_infra.broker import EmbeddedBroker
from meterstream_infra.topics import ensure_topics

PARTITIONS = 8
LADDER = ("bare", "decode", "fold", "store")
MODULES = {
    "bare": "benchmarks.consuming",
    "decode": "benchmarks.consuming",
    "fold": "benchmarks.working",
    "store": "benchmarks.working",
}
LABELS = {
    "bare": "bare consume loop",
    "decode": "consume + native decode",
    "fold": "worker without a store",
    "store": "worker with the SQLite store",
}
FIGURE = "events_per_second_per_core"


def main() -> None:
    """Run what was asked for and print it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--events", type=int, nargs="+", default=[1_000_000, 5_000_000])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", choices=("worker", "up", "record"), action="append")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    wanted = set(arguments.only or ("worker", "up", "record"))
    result: dict[str, Any] = {"machine": _machine()}
    if "record" in wanted and importlib.util.find_spec("benchmarks.recording"):
        result["record"] = _run("benchmarks.recording", [])
        _say(f"record: {json.dumps(result['record'])}")
    if "up" in wanted:
        result["up"] = measure_starts()
        _say(f"up: {json.dumps(result['up'])}")
    if "worker" in wanted:
        result["worker"] = measure_worker(arguments.events, arguments.rounds)
    text = json.dumps(result, indent=2)
    sys.stdout.write(text + "\n")
    if arguments.json is not None:
        arguments.json.write_text(text + "\n", "utf-8")


def measure_worker(sizes: list[int], rounds: int) -> dict[str, Any]:
    """The ladder from the bare loop to the whole worker, for each number of events."""
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="meterstream-bench-") as text:
        directory = Path(text)
        with EmbeddedBroker(directory / "broker", progress=_say) as broker:
            for size in sizes:
                results[str(size)] = _ladder(broker.bootstrap_servers, directory, size, rounds)
                _show(size, results[str(size)])
    return results


def _ladder(bootstrap: str, directory: Path, size: int, rounds: int) -> dict[str, Any]:
    topic = f"bench.{size}"
    ensure_topics(bootstrap, partitions=PARTITIONS, events_topic=topic)
    since = traffic.since(size)
    _say(f"producing {size:,} events")
    records = traffic.produce(bootstrap, topic, events=size, partitions=PARTITIONS, seed=1)
    place = ["--bootstrap", bootstrap, "--topic", topic, "--records", str(records)]
    _run(MODULES["bare"], [*place, "bare"])
    runs: dict[str, list[dict[str, Any]]] = {what: [] for what in LADDER}
    for turn in range(rounds):
        for what in LADDER:
            _say(f"{size:,} events, round {turn + 1}: {LABELS[what]}")
            arguments = [*place, what]
            if MODULES[what] == "benchmarks.working":
                own = directory / f"{size}-{what}-{turn}"
                own.mkdir()
                (own / "meters.yaml").write_text(traffic.catalogue_text(since), "utf-8")
                arguments = [*place, "--directory", str(own), what]
            runs[what].append(_run(MODULES[what], arguments))
    chosen = {what: _median(results) for what, results in runs.items()}
    return {
        "events": size,
        "records": records,
        "steps": chosen,
        "all_rounds_per_core": {
            what: [result[FIGURE] for result in results] for what, results in runs.items()
        },
        "ratios_to_bare_per_core": {
            what: round(result[FIGURE] / chosen["bare"][FIGURE], 3)
            for what, result in chosen.items()
        },
        "memory_megabytes": _memory(chosen["store"]["resident_megabytes"]),
    }


def _median(results: list[dict[str, Any]]) -> dict[str, Any]:
    middle = statistics.median_low([result[FIGURE] for result in results])
    return next(result for result in results if result[FIGURE] == middle)


def _memory(samples: list[float]) -> dict[str, Any]:
    """Resident memory of the worker at fifths of its run, and its growth after the first fifth."""
    if not samples:
        return {}
    last = len(samples) - 1
    at = {f"{part * 20}%": samples[last * part // 5] for part in range(6)}
    return {**at, "peak": max(samples), "growth_after_20%": round(at["100%"] - at["20%"], 1)}


def _run(module: str, arguments: list[str]) -> dict[str, Any]:
    """Run a measurement in a process of its own; its last line is its result."""
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise SystemExit(f"{module} failed:\n{done.stdout}{done.stderr}")
    result: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return result


def _machine() -> dict[str, Any]:
    return {
        "system": platform.platform(),
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "load_before": round(os.getloadavg()[0], 2),
    }


def _show(size: int, ladder: dict[str, Any]) -> None:
    _say(f"\n{f'{size:,} events':30} events/s wall    per core   of bare")
    for what, step in ladder["steps"].items():
        ratio = ladder["ratios_to_bare_per_core"][what]
        wall, core = step["events_per_second"], step[FIGURE]
        _say(f"{LABELS[what]:30} {wall:>13,} {core:>11,} {ratio:>9.2f}")
    _say(f"memory of the worker, MiB: {ladder['memory_megabytes']}\n")


def _say(line: str) -> None:
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


if __name__ == "__main__":
    main()

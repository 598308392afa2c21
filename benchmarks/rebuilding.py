"""The log folded again, held against the worker that folded it first, on one topic in one run.

Run as ``python -m benchmarks.rebuilding --bootstrap B --live F --directory D``; prints one line of
JSON: what copying the live store takes, the rate of folding it again, and the time of ``verify``.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import Any

from benchmarks import traffic
from benchmarks.ladder import FIGURE, filled_topic, work
from benchmarks.measuring import Stopwatch, report
from benchmarks.parts import tune_garbage
from benchmarks.running import load, run, say
from meterstream_aggregator.store.canonical import snapshot_into
from meterstream_aggregator.store.sqlite_reader import open_reader
from meterstream_consumers import rebuild
from meterstream_infra.broker import EmbeddedBroker
from meterstream_services import proving


def measure_rebuild(events: int, rounds: int) -> dict[str, Any]:
    """Worker, rebuild and verify in turns; ratios of one round each, and their medians."""
    catalogue = traffic.catalogue_text(traffic.since(events))
    told: list[tuple[dict[str, Any], dict[str, Any]]] = []
    with tempfile.TemporaryDirectory(prefix="meterstream-bench-") as text:
        directory = Path(text)
        with EmbeddedBroker(directory / "broker", progress=say) as broker:
            place = filled_topic(broker.bootstrap_servers, events)
            for turn in range(rounds):
                say(f"rebuild, round {turn + 1}, load {load()}")
                own = directory / str(turn)
                worked = work("store", place, own, catalogue)
                arguments = ["--bootstrap", broker.bootstrap_servers]
                arguments += ["--live", str(own / "store.sqlite3"), "--directory", str(own)]
                told.append((worked, run("benchmarks.rebuilding", arguments)))
    return {
        "events": events,
        "load_after": load(),
        "rebuild_to_worker_per_core": _median(
            [again["rebuild"][FIGURE] / worked[FIGURE] for worked, again in told]
        ),
        "rebuild_to_worker_wall": _median(
            [
                again["rebuild"]["events_per_second"] / worked["events_per_second"]
                for worked, again in told
            ]
        ),
        "verify_to_rebuild_seconds": _median(
            [again["verify_seconds"] / again["rebuild"]["wall_seconds"] for _, again in told]
        ),
        "rounds": [{"worker": {FIGURE: worked[FIGURE]}, **again} for worked, again in told],
    }


def main() -> None:
    """Rebuild and verify one store."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bootstrap", required=True)
    parser.add_argument("--live", type=Path, required=True)
    parser.add_argument("--directory", type=Path, required=True)
    arguments = parser.parse_args()
    log = proving.Log(bootstrap_servers=arguments.bootstrap)
    tune_garbage()
    began = time.perf_counter()
    copy = arguments.directory / "copy.sqlite3"
    snapshot_into(arguments.live, copy)
    copied = time.perf_counter() - began
    with closing(open_reader(copy)) as reader, reader.snapshot():
        plan = rebuild.plan_of_store(reader)
    watch = Stopwatch()
    records = proving.fold_again(plan, arguments.directory / "again.sqlite3", log)
    cost = watch.read(records)
    began = time.perf_counter()
    with tempfile.TemporaryDirectory(dir=arguments.directory) as scratch:
        verdict = proving.verify(arguments.live, log, Path(scratch))
    verified = time.perf_counter() - began
    if not verdict.same:
        different = [table.table for table in verdict.tables if table.different]
        raise SystemExit(f"the rebuilt store differs in {different}")
    report(
        {
            "copy_seconds": round(copied, 3),
            "rebuild": cost.as_json(),
            "verify_seconds": round(verified, 3),
            "same": verdict.same,
        }
    )


def _median(values: list[float]) -> float:
    return round(statistics.median(values), 3)


if __name__ == "__main__":
    main()

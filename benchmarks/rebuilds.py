"""Folding the log again beside the worker that folded it first: rounds in turns."""

from __future__ import annotations

import statistics
from typing import Any

from benchmarks import traffic
from benchmarks.ladder import FIGURE, filled_topic, work
from benchmarks.running import load, run, say, scratch
from benchmarks.servers import kafka


def measure_rebuild(events: int, rounds: int) -> dict[str, Any]:
    """Worker, rebuild and verify in turns; ratios of one round each, and their medians."""
    catalogue = traffic.catalogue_text(traffic.since(events))
    told: list[tuple[dict[str, Any], dict[str, Any]]] = []
    with scratch() as directory, kafka(directory) as broker:
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


def _median(values: list[float]) -> float:
    return round(statistics.median(values), 3)

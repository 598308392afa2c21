"""What changed since an older state: the same log, the same measuring code, rounds in turns.

Each round runs both, one after the other; a ratio is that of one round, above 1 where this state
costs more, and the median of the rounds counts.
"""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any, Final

from benchmarks import traffic
from benchmarks.ladder import FIGURE, filled_topic, work
from benchmarks.running import load, run, say, scratch
from benchmarks.servers import kafka

_UNSETTLED: Final = 1
"""Batches left out at the beginning of a log: they make most of the series."""


def measure_before(checkout: Path, events: int, rounds: int) -> dict[str, Any]:
    """Folding and storing without Kafka, and the worker on a broker. ``checkout`` is the older."""
    with scratch() as directory:
        folded = _folded(checkout, directory, events, rounds)
        worked = _worked(checkout, directory, events, rounds)
    return {"events": events, "load_after": load(), "fold_and_store": folded, "worker": worked}


def _folded(checkout: Path, directory: Path, events: int, rounds: int) -> dict[str, Any]:
    log = directory / "log"
    run("benchmarks.logfile", ["--events", str(events), "--file", str(log)])
    pairs: list[tuple[dict[str, float], dict[str, float]]] = []
    for turn in range(rounds):
        say(f"before: fold and store, round {turn + 1}, load {load()}")
        costs: dict[str, dict[str, float]] = {}
        for name in _in_turns(turn):
            own = directory / f"fold-{name}-{turn}"
            own.mkdir()
            arguments = ["--file", str(log), "--directory", str(own)]
            found = run(
                "benchmarks.folding", arguments, checkout=checkout if name == "before" else None
            )
            costs[name] = _cost(found["batches"][_UNSETTLED:])
        pairs.append((costs["before"], costs["now"]))
    return {
        f"{what}_microseconds": {
            "before": _median([before[what] for before, _ in pairs]),
            "now": _median([now[what] for _, now in pairs]),
            "ratio": _median([now[what] / before[what] for before, now in pairs]),
        }
        for what in ("cpu", "commit", "fold")
    }


def _worked(checkout: Path, directory: Path, events: int, rounds: int) -> dict[str, Any]:
    catalogue = traffic.catalogue_text(traffic.since(events))
    pairs: list[tuple[float, float]] = []
    with kafka(directory) as broker:
        place = filled_topic(broker.bootstrap_servers, events)
        for turn in range(rounds):
            say(f"before: worker, round {turn + 1}, load {load()}")
            rates: dict[str, float] = {}
            for name in _in_turns(turn):
                older = checkout if name == "before" else None
                own = directory / f"{name}-{turn}"
                rates[name] = work("store", place, own, catalogue, checkout=older)[FIGURE]
            pairs.append((rates["before"], rates["now"]))
    return {
        "before_per_core": _median([before for before, _ in pairs]),
        "now_per_core": _median([now for _, now in pairs]),
        "ratio": _median([before / now for before, now in pairs]),
        "all_rounds": pairs,
    }


def _in_turns(turn: int) -> tuple[str, str]:
    """Neither is always the second."""
    return ("now", "before") if turn % 2 else ("before", "now")


def _cost(batches: list[dict[str, Any]]) -> dict[str, float]:
    """CPU microseconds an event: all of it, its commits, and the rest."""
    records = sum(batch["records"] for batch in batches)
    cpu = 1e6 * sum(batch["cpu_seconds"] for batch in batches) / records
    commit = 1e6 * sum(batch["commit_seconds"] for batch in batches) / records
    return {"cpu": cpu, "commit": commit, "fold": cpu - commit}


def _median(values: list[float]) -> float:
    return round(statistics.median(values), 3)

"""The ladder from the bare consume loop to the whole worker, on one topic of one broker."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any, Final

from benchmarks import traffic
from benchmarks.running import at_fifths, load, middle, run, say
from meterstream_infra.broker import EmbeddedBroker
from meterstream_infra.topics import ensure_topics

PARTITIONS: Final = 8
FIGURE: Final = "events_per_second_per_core"
LABELS: Final = {
    "bare": "bare consume loop",
    "decode": "consume + native decode",
    "fold": "worker without a store",
    "store": "worker with the SQLite store",
    "every": "the same, every aggregate",
}
LADDER: Final = tuple(LABELS)
_LOOPS: Final = ("bare", "decode")


def measure_worker(sizes: list[int], rounds: int) -> dict[str, Any]:
    """The ladder for each number of events."""
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="meterstream-bench-") as text:
        directory = Path(text)
        with EmbeddedBroker(directory / "broker", progress=say) as broker:
            for size in sizes:
                results[str(size)] = _ladder(broker.bootstrap_servers, directory, size, rounds)
                _show(size, results[str(size)])
    return results


def filled_topic(bootstrap: str, size: int) -> list[str]:
    """Make and fill a topic; the arguments of whoever reads it."""
    topic = f"bench.{size}"
    ensure_topics(bootstrap, partitions=PARTITIONS, events_topic=topic)
    say(f"producing {size:,} events")
    records = traffic.produce(bootstrap, topic, events=size, partitions=PARTITIONS, seed=1)
    place = ["--bootstrap", bootstrap, "--topic", topic, "--records", str(records)]
    # Once unmeasured: it warms the page cache.
    run("benchmarks.consuming", [*place, "bare"])
    return place


def work(
    what: str,
    place: list[str],
    directory: Path,
    catalogue: str,
    *,
    checkout: Path | None = None,
) -> dict[str, Any]:
    """One run of the worker's loop, over a new store in a new directory."""
    directory.mkdir()
    (directory / "meters.yaml").write_text(catalogue, "utf-8")
    arguments = [*place, "--directory", str(directory), what]
    return run("benchmarks.working", arguments, checkout=checkout)


def _ladder(bootstrap: str, directory: Path, size: int, rounds: int) -> dict[str, Any]:
    since = traffic.since(size)
    place = filled_topic(bootstrap, size)
    runs: dict[str, list[dict[str, Any]]] = {what: [] for what in LADDER}
    for turn in range(rounds):
        for what in LADDER:
            say(f"{size:,} events, round {turn + 1}: {LABELS[what]}, load {load()}")
            if what in _LOOPS:
                runs[what].append(run("benchmarks.consuming", [*place, what]))
                continue
            catalogue = traffic.catalogue_text(since, every=what == "every")
            how = "store" if what == "every" else what
            own = directory / f"{size}-{what}-{turn}"
            runs[what].append(work(how, place, own, catalogue))
    chosen = {what: middle(results, FIGURE) for what, results in runs.items()}
    return {
        "events": size,
        "records": int(place[-1]),
        "load_after": load(),
        "steps": chosen,
        "all_rounds_per_core": {
            what: [result[FIGURE] for result in results] for what, results in runs.items()
        },
        "ratios_to_bare_per_core": {
            what: round(result[FIGURE] / chosen["bare"][FIGURE], 3)
            for what, result in chosen.items()
        },
        "every_to_plain": round(chosen["every"][FIGURE] / chosen["store"][FIGURE], 3),
        "memory_megabytes": {
            what: at_fifths(chosen[what]["resident_megabytes"]) for what in ("store", "every")
        },
    }


def _show(size: int, ladder: dict[str, Any]) -> None:
    say(f"\n{f'{size:,} events':30} events/s wall    per core   of bare")
    for what, step in ladder["steps"].items():
        ratio = ladder["ratios_to_bare_per_core"][what]
        wall, core = step["events_per_second"], step[FIGURE]
        say(f"{LABELS[what]:30} {wall:>13,} {core:>11,} {ratio:>9.3f}")
    say(f"memory of the worker, MiB: {ladder['memory_megabytes']}\n")

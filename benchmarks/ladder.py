"""The ladder from the bare consume loop to the whole worker, on one topic of one broker.

Rounds in turns, after one that is thrown away: a machine that was idle is slower at first. A ratio
is that of one round, and the median of the rounds counts; rates are those of the middle round.
"""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

from benchmarks import traffic
from benchmarks.ratios import ratios
from benchmarks.running import at_fifths, load, middle, run, say, scratch
from benchmarks.servers import SETTINGS, Server, kafka, postgres
from meterstream_infra.topics import ensure_topics

PARTITIONS: Final = 8
FIGURE: Final = "events_per_second_per_core"
WITH_SERVER: Final = "events_per_second_per_core_with_server"
LABELS: Final = {
    "bare": "bare consume loop",
    "decode": "consume + native decode",
    "fold": "worker without a store",
    "store": "worker with the SQLite store",
    "postgres": "worker with PostgreSQL",
    "every": "SQLite, every aggregate",
}
LADDER: Final = tuple(LABELS)
_LOOPS: Final = ("bare", "decode")


def measure_worker(
    sizes: list[int],
    rounds: int,
    *,
    shapes: list[str],
    steps: list[str],
    stages: bool = False,
) -> dict[str, Any]:
    """The ladder for each shape of traffic and number of events; ratios to bare consuming first."""
    results: dict[str, Any] = {}
    with scratch() as directory, ExitStack() as stack:
        broker = stack.enter_context(kafka(directory))
        server = stack.enter_context(postgres(directory)) if "postgres" in steps else None
        ladder = _Ladder(directory, rounds, [step for step in LADDER if step in steps], server)
        for shape in shapes:
            for size in sizes:
                place = filled_topic(broker.bootstrap_servers, size, shape)
                found = ladder.climb(place, size, shape, stages=stages)
                results[f"{shape}, {size:,} events"] = found
                _show(f"{shape}, {size:,} events", found)
    return {
        "ratios_to_bare_per_core": {
            name: found["ratios_to_bare_per_core"] for name, found in results.items()
        },
        "postgres_settings": SETTINGS if server else {},
        **results,
    }


def filled_topic(bootstrap: str, size: int, shape: str = "usual") -> list[str]:
    """Make and fill a topic; the arguments of whoever reads it."""
    topic = f"bench.{shape}.{size}"
    ensure_topics(bootstrap, partitions=PARTITIONS, events_topic=topic)
    say(f"producing {size:,} events, {shape}")
    records = traffic.produce(
        bootstrap,
        topic,
        events=size,
        partitions=PARTITIONS,
        seed=1,
        shape=traffic.SHAPES[shape],
    )
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
    more: list[str] | None = None,
    checkout: Path | None = None,
) -> dict[str, Any]:
    """One run of the worker's loop, over a store in that directory, or what ``more`` names."""
    directory.mkdir(exist_ok=True)
    (directory / "meters.yaml").write_text(catalogue, "utf-8")
    arguments = [*place, "--directory", str(directory), *(more or []), what]
    return run("benchmarks.working", arguments, checkout=checkout)


class _Ladder:
    """Climbs one ladder after the other, each run over a store of its own."""

    def __init__(
        self, directory: Path, rounds: int, steps: list[str], server: Server | None
    ) -> None:
        self._directory, self._rounds, self._steps = directory, rounds, steps
        self._server = server
        self._runs = 0

    def climb(self, place: list[str], size: int, shape: str, *, stages: bool) -> dict[str, Any]:
        """All rounds of one topic."""
        runs: dict[str, list[dict[str, Any]]] = {step: [] for step in self._steps}
        for turn in range(self._rounds + 1):
            for step in self._steps:
                which = f"round {turn}" if turn else "to warm up"
                say(f"{shape}, {size:,} events, {which}: {LABELS[step]}, load {load()}")
                found = self._run(step, place, size, shape, stages=stages)
                if turn:
                    runs[step].append(found)
        return _told(runs, size, int(place[-1]))

    def _run(
        self, step: str, place: list[str], size: int, shape: str, *, stages: bool
    ) -> dict[str, Any]:
        if step in _LOOPS:
            return run("benchmarks.consuming", [*place, step])
        self._runs += 1
        since = traffic.since(size, traffic.SHAPES[shape])
        more = ["--stages"] if stages else []
        if step == "postgres":
            assert self._server is not None
            more += self._server.arguments(f"run_{self._runs}")
        return work(
            "fold" if step == "fold" else "store",
            place,
            self._directory / f"run-{self._runs}",
            traffic.catalogue_text(since, every=step == "every"),
            more=more,
        )


def _told(runs: dict[str, list[dict[str, Any]]], size: int, records: int) -> dict[str, Any]:
    chosen = {step: middle(results, FIGURE) for step, results in runs.items()}
    memory = {step: chosen[step].pop("resident_megabytes", []) for step in chosen}
    told: dict[str, Any] = {
        "ratios_to_bare_per_core": ratios(runs, FIGURE, "bare"),
        "events": size,
        "records": records,
        "load_after": load(),
        "steps": chosen,
        "all_rounds_per_core": {
            step: [result[FIGURE] for result in results] for step, results in runs.items()
        },
        "memory_megabytes": {
            step: at_fifths(memory[step]) for step in chosen if step not in (*_LOOPS, "fold")
        },
    }
    if "postgres" in runs:
        told["postgres_per_core_with_server"] = [run[WITH_SERVER] for run in runs["postgres"]]
    if {"every", "store"} <= set(runs):
        told["every_to_plain"] = ratios(runs, FIGURE, "store")["every"]
    return told


def _show(name: str, ladder: dict[str, Any]) -> None:
    say(f"\n{name:30} events/s wall    per core   of bare")
    for step, found in ladder["steps"].items():
        ratio = ladder["ratios_to_bare_per_core"].get(step, 0.0)
        wall, core = found["events_per_second"], found[FIGURE]
        say(f"{LABELS[step]:30} {wall:>13,} {core:>11,} {ratio:>9.3f}")
        for stage, cost in found.get("stages", {}).items():
            say(f"    {stage:26} {cost['cpu']:>8.3f} µs of CPU, {cost['wall']:>8.3f} µs of wall")
    say(f"memory of the worker, MiB: {ladder['memory_megabytes']}\n")

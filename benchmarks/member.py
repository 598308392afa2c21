"""A real worker process, as ``meterstream worker`` runs it, and where its group stands.

Run as ``python -m benchmarks.member --bootstrap B --topic T --store S --catalogue F --group G``;
ends on SIGTERM. Idle partitions get no ticks, so that a topic holds what was produced and nothing
else, and a member that is stopped for a while is not put out of its group.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Generator, Iterable
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

import psutil
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from benchmarks.running import started
from meterstream_aggregator.store.address import parse_address
from meterstream_consumers import worker
from meterstream_consumers.settings import WorkerSettings

_SESSION_SECONDS: Final = 120
_JOIN_SECONDS: Final = 90.0
_LOG_SHOWN: Final = 4_000


def main() -> None:
    """Work until told to stop."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("--bootstrap", "--topic", "--store", "--group"):
        parser.add_argument(name, required=True)
    parser.add_argument("--catalogue", type=Path, required=True)
    arguments = parser.parse_args()
    settings = WorkerSettings(
        bootstrap_servers=arguments.bootstrap,
        topic=arguments.topic,
        group=arguments.group,
        catalogue=arguments.catalogue,
        store=parse_address(arguments.store),
        session_timeout_seconds=_SESSION_SECONDS,
        tick_seconds=0.0,
    )
    sys.exit(worker.run(settings))


@contextmanager
def members(
    count: int,
    *,
    bootstrap: str,
    topic: str,
    store: str,
    catalogue: Path,
    partitions: int,
    pinned: bool = True,
) -> Generator[list[psutil.Process]]:
    """So many workers that share the partitions evenly; they are ended at the end.

    ``pinned``: each keeps to a core of its own where there are enough. Raises `SystemExit` when
    one ends by itself or they do not join.
    """
    arguments = ["--bootstrap", bootstrap, "--topic", topic, "--store", store, "--group", topic]
    command = [sys.executable, "-m", "benchmarks.member", *arguments]
    log = catalogue.with_suffix(".log")
    with ExitStack() as stack:
        processes: list[subprocess.Popen[str]] = []
        for number in range(count):
            process = stack.enter_context(started([*command, "--catalogue", catalogue], log=log))
            processes.append(process)
            # One after the other: two that make one new store at once would both retry.
            if not _joined(number + 1, bootstrap, topic, partitions, processes):
                told = log.read_text("utf-8")[-_LOG_SHOWN:]
                raise SystemExit(f"worker {number + 1} did not join its group:\n{told}")
        found = [psutil.Process(process.pid) for process in processes]
        cores = found[0].cpu_affinity() or []
        for number, each in enumerate(found):
            if pinned and count <= len(cores):
                each.cpu_affinity([cores[number]])
        yield found


def _joined(
    count: int,
    bootstrap: str,
    group: str,
    partitions: int,
    processes: Iterable[subprocess.Popen[str]],
) -> bool:
    """Wait until so many members share the partitions; False when one ended or time is over."""
    client = AdminClient({"bootstrap.servers": bootstrap})
    deadline = time.monotonic() + _JOIN_SECONDS
    while time.monotonic() < deadline and all(process.poll() is None for process in processes):
        try:
            described = client.describe_consumer_groups([group])[group].result(timeout=30)
        except (KafkaException, TimeoutError):
            # There is no such group before its first member, or the broker is busy.
            time.sleep(0.2)
            continue
        owned = [len(member.assignment.topic_partitions) for member in described.members]
        if len(owned) == count and sum(owned) == partitions and max(owned) - min(owned) <= 1:
            # Its coordinator knows before they do.
            time.sleep(1.5)
            return True
        time.sleep(0.2)
    return False


if __name__ == "__main__":
    main()

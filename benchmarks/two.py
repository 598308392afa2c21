"""Two workers on two cores against one: real processes of one group, over one store.

They join over an empty topic, are stopped, the topic is filled, and time begins as they go on: so
each has its share of the partitions from the first record on, and no rebalance is in the figure. It
ends with the commit of the last record, as the store tells it.

The broker and a database server share the two cores with the workers, which wall clock cannot tell
apart. So beside its ratio stands that of the wall clock less the servers' CPU, spread over both
cores, and that of the CPU of the busier worker, which knows nothing of waits for the store's lock.
"""

from __future__ import annotations

import os
import signal
import time
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, Final

import psutil

from benchmarks import traffic
from benchmarks.ladder import PARTITIONS
from benchmarks.measuring import tree_cpu_seconds
from benchmarks.member import members
from benchmarks.ratios import median
from benchmarks.running import load, say, scratch
from benchmarks.servers import Server, kafka, postgres
from meterstream_aggregator.store.address import parse_address
from meterstream_aggregator.store.opening import open_reader
from meterstream_infra.broker import EmbeddedBroker
from meterstream_infra.topics import ensure_topics

_TIMEOUT_SECONDS: Final = 600.0
_POLL_SECONDS: Final = 0.02


def measure_two(events: int, rounds: int, *, stores: list[str]) -> dict[str, Any]:
    """For each kind of store: the rates of one worker and of two, and their ratios."""
    results: dict[str, Any] = {}
    with scratch() as directory, ExitStack() as stack:
        broker = stack.enter_context(kafka(directory))
        server = stack.enter_context(postgres(directory)) if "postgres" in stores else None
        runs = _Runs(directory, broker, server, events)
        for kind in stores:
            told: list[tuple[dict[str, Any], dict[str, Any]]] = []
            for turn in range(rounds + 1):
                say(f"two, {kind}, {f'round {turn}' if turn else 'to warm up'}, load {load()}")
                found = (runs.run(1, kind), runs.run(2, kind))
                if turn:
                    told.append(found)
            results[kind] = summary(told)
    return {
        "ratios": {kind: found.pop("ratios") for kind, found in results.items()},
        "events": events,
        "cores": os.cpu_count(),
        "load_after": load(),
        **results,
    }


def summary(rounds: list[tuple[dict[str, Any], dict[str, Any]]]) -> dict[str, Any]:
    """Two by one, each ratio of one round, and their medians."""
    return {
        "ratios": {
            "wall": median(one["wall_seconds"] / two["wall_seconds"] for one, two in rounds),
            "wall_less_servers": median(
                less_servers(one) / less_servers(two) for one, two in rounds
            ),
            "busier_worker_cpu": median(
                max(one["worker_cpu_seconds"]) / max(two["worker_cpu_seconds"])
                for one, two in rounds
            ),
        },
        "rounds": [{"one": one, "two": two} for one, two in rounds],
    }


def less_servers(run: dict[str, Any]) -> float:
    """Wall seconds that would be left if the servers ran elsewhere, their CPU taken evenly.

    One worker leaves the other core to them: then they take nothing from it.
    """
    if len(run["worker_cpu_seconds"]) == 1:
        return float(run["wall_seconds"])
    servers = run["broker_cpu_seconds"] + run["database_cpu_seconds"]
    return float(run["wall_seconds"] - servers / len(run["worker_cpu_seconds"]))


class _Runs:
    """Runs over one broker, each with a topic and a store of its own."""

    def __init__(
        self, directory: Path, broker: EmbeddedBroker, server: Server | None, events: int
    ) -> None:
        self._directory, self._broker, self._server = directory, broker, server
        self._events = events
        self._runs = 0

    def run(self, count: int, kind: str) -> dict[str, Any]:
        """Fold the topic with so many workers."""
        self._runs += 1
        topic = f"bench.two.{self._runs}"
        bootstrap = self._broker.bootstrap_servers
        ensure_topics(bootstrap, partitions=PARTITIONS, events_topic=topic)
        shape = traffic.SHAPES["wide"]
        catalogue = self._directory / f"{topic}.yaml"
        catalogue.write_text(traffic.catalogue_text(traffic.since(self._events, shape)), "utf-8")
        store = str(self._directory / f"{topic}.sqlite3")
        if kind == "postgres":
            assert self._server is not None
            store = self._server.store(f"two_{self._runs}")
        with members(
            count,
            bootstrap=bootstrap,
            topic=topic,
            store=store,
            catalogue=catalogue,
            partitions=PARTITIONS,
        ) as workers:
            for worker in workers:
                worker.send_signal(signal.SIGSTOP)
            records = traffic.produce(
                bootstrap, topic, events=self._events, partitions=PARTITIONS, seed=1, shape=shape
            )
            return self._timed(workers, store, records)

    def _timed(self, workers: list[psutil.Process], store: str, records: int) -> dict[str, Any]:
        servers = [self._broker.pid, self._server.pid if self._server else None]
        with closing(open_reader(parse_address(store))) as reader:
            before = [sum(worker.cpu_times()[:2]) for worker in workers]
            served = [tree_cpu_seconds(pid) if pid else 0.0 for pid in servers]
            began = time.perf_counter()
            for worker in workers:
                worker.send_signal(signal.SIGCONT)
            while sum(max(0, row.next_offset) for row in reader.positions()) < records:
                if time.perf_counter() - began > _TIMEOUT_SECONDS:
                    raise SystemExit(f"two: not folded in {_TIMEOUT_SECONDS:.0f} s")
                time.sleep(_POLL_SECONDS)
            wall = time.perf_counter() - began
            spent = [sum(worker.cpu_times()[:2]) for worker in workers]
            served_after = [tree_cpu_seconds(pid) if pid else 0.0 for pid in servers]
        return {
            "workers": len(workers),
            "records": records,
            "wall_seconds": round(wall, 3),
            "events_per_second": round(records / wall),
            "worker_cpu_seconds": [
                round(after - start, 3) for start, after in zip(before, spent, strict=True)
            ],
            "broker_cpu_seconds": round(served_after[0] - served[0], 3),
            "database_cpu_seconds": round(served_after[1] - served[1], 3),
        }

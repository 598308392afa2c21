"""What every measurement shares: CPU and wall clock of this process, its memory, one JSON line.

CPU is that of the whole process, the threads of the Kafka client included, so "per core" is what
one core would do if it did nothing else.
"""

from __future__ import annotations

import gc
import json
import sys
import threading
import time
from typing import Any, NamedTuple

import psutil


class Cost(NamedTuple):
    """Events over wall and CPU seconds."""

    events: int
    wall_seconds: float
    cpu_seconds: float

    def as_json(self) -> dict[str, Any]:
        """Rates rounded to whole events."""
        return {
            "events": self.events,
            "wall_seconds": round(self.wall_seconds, 3),
            "cpu_seconds": round(self.cpu_seconds, 3),
            "events_per_second": round(self.events / self.wall_seconds),
            "events_per_second_per_core": round(self.events / self.cpu_seconds),
        }


class Stopwatch:
    """Wall and CPU seconds since it was made."""

    def __init__(self) -> None:
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def read(self, events: int) -> Cost:
        """The cost so far of that many events."""
        return Cost(events, time.perf_counter() - self._wall, time.process_time() - self._cpu)


class MemoryTrace:
    """Resident memory of this process, sampled in a thread until `stop`."""

    def __init__(self, interval_seconds: float = 0.25) -> None:
        self._process = psutil.Process()
        self._interval = interval_seconds
        self._done = threading.Event()
        self.megabytes: list[float] = []
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self._thread.start()

    def stop(self) -> list[float]:
        """All samples, oldest first."""
        self._done.set()
        self._thread.join()
        return self.megabytes

    def _sample(self) -> None:
        while not self._done.wait(self._interval):
            self.megabytes.append(round(self._process.memory_info().rss / 2**20, 1))


def tree_cpu_seconds(pid: int) -> float:
    """CPU seconds of a process and of all that it started, those that have ended included."""
    process = psutil.Process(pid)
    spent = sum(process.cpu_times()[:4])
    for child in process.children():
        try:
            spent += tree_cpu_seconds(child.pid)
        except psutil.NoSuchProcess:
            # It ended just now, and is found in its parent's next answer.
            continue
    return spent


def settle() -> None:
    """Collect garbage before a measurement, as the worker does at its start."""
    gc.collect()


def report(result: dict[str, Any]) -> None:
    """Hand a result to the process that asked for it: one line of JSON on standard output."""
    sys.stdout.write(json.dumps(result) + "\n")
    sys.stdout.flush()

"""A worker in a process whose insides are touched from outside: it dies or stands still at a point.

Production code has no hook for this; the functions at which something happens are replaced here, in
the process of the test alone. Points, in the order in which a batch meets them::

    polled          records were read, nothing was done with them
    positioned      in the transaction, after the compare-and-set of the positions
    deduplicated    in the transaction, after the numbers of producers
    written         in the transaction, before COMMIT
    committed       after COMMIT, before anybody is told
    told            after Kafka was told the offsets
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from meterstream_aggregator.store import sqlite, sqlite_writing
from meterstream_consumers import worker
from meterstream_consumers.settings import WorkerSettings
from meterstream_consumers.source import Source

if TYPE_CHECKING:
    from collections.abc import Callable

POINTS: Final[dict[str, tuple[object, str]]] = {
    "polled": (Source, "collect"),
    "positioned": (sqlite_writing, "advance_positions"),
    "deduplicated": (sqlite_writing, "write_numbers"),
    "written": (sqlite_writing, "write_letters"),
    "committed": (sqlite.SqliteStore, "commit"),
    "told": (Source, "committed"),
}


class Orders(NamedTuple):
    """What to run, and what happens: at the ``time``-th passing of ``point`` this signal comes."""

    servers: str
    topic: str
    catalogue: str
    store: str
    instance: str | None
    batch: int = 100
    point: str = ""
    times: int = 1
    signal: int = signal.SIGKILL
    clock_seconds: float = 0.0
    """How far the wall clock is off."""


def main() -> None:
    """Work as ordered."""
    orders = Orders(*json.loads(sys.argv[1]))
    if orders.point:
        _touch(orders)
    if orders.clock_seconds:
        _shift(orders.clock_seconds)
    settings = WorkerSettings(
        bootstrap_servers=orders.servers,
        topic=orders.topic,
        group=orders.topic,
        instance=orders.instance,
        catalogue=Path(orders.catalogue),
        store=Path(orders.store),
        batch_events_max=orders.batch,
        session_timeout_seconds=6,
        tick_seconds=0,
    )
    sys.exit(worker.run(settings))


def _touch(orders: Orders) -> None:
    """Let the signal come after the real function, when it did something for the n-th time."""
    owner, name = POINTS[orders.point]
    real: Callable[..., Any] = getattr(owner, name)
    passed = 0

    def touched(*given: Any, **named: Any) -> Any:  # noqa: ANN401 - whatever the real one takes
        nonlocal passed
        found = real(*given, **named)
        empty_handed = orders.point == "polled" and not len(found)
        passed += not empty_handed
        if passed == orders.times and not empty_handed:
            os.kill(os.getpid(), orders.signal)
        return found

    setattr(owner, name, touched)


def _shift(seconds: float) -> None:
    """Let the wall clock be off, and jump by as much again in the course of a run."""
    real, begun = time.time, time.monotonic()

    def shifted() -> float:
        jumps = int(time.monotonic() - begun) % 2
        return real() + seconds * (1 + jumps)

    time.time = shifted
    time.time_ns = lambda: int(shifted() * 1e9)


if __name__ == "__main__":
    main()

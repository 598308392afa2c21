"""A host of greenlets: gevent has patched everything, and a meter records among them."""

from __future__ import annotations

from gevent import monkey

monkey.patch_all()

import sys  # noqa: E402 - whoever uses gevent patches first
import time  # noqa: E402
from typing import TYPE_CHECKING  # noqa: E402

import gevent  # noqa: E402

from tests.integration.sdk_programs.host import (  # noqa: E402
    BEFORE,
    COUNTED,
    ending,
    make_meter,
    record,
    say,
)

if TYPE_CHECKING:
    from meterstream import Meter


def beat(pauses: list[float], stop: list[bool]) -> None:
    """Note how long the hub took between two turns of this greenlet."""
    before = time.monotonic()
    while not stop:
        gevent.sleep(0.001)
        now = time.monotonic()
        pauses.append(now - before)
        before = now


def count(meter: Meter) -> None:
    """A hot counter, whose sums the background thread and a flush take."""
    for _ in range(COUNTED // 10):
        meter.record("hot", tenant="t", coalesce=0.05)
        gevent.sleep(0)


def main(case: str) -> None:
    """Record from greenlets and flush, while another watches how often it has its turn."""
    away = {"bootstrap_servers": "127.0.0.1:1", "close_seconds": 1} if case == "away" else {}
    meter = make_meter(**away)
    pauses: list[float] = []
    stop: list[bool] = []
    watching = gevent.spawn(beat, pauses, stop)
    workers = [
        gevent.spawn(record, meter, range(start, start + 10)) for start in range(0, BEFORE, 10)
    ]
    workers.extend(gevent.spawn(count, meter) for _ in range(10))
    gevent.joinall(workers)
    begun = time.monotonic()
    say("flushed", meter.flush(30 if case == "there" else 3))
    say("waited", time.monotonic() - begun)
    stop.append(True)
    watching.join()
    say("turns", len(pauses))
    say("longest", max(pauses))
    ending()


if __name__ == "__main__":
    main(sys.argv[1])

"""A month of one tenant out of a store of millions of rows: what answers cost.

Run as ``python -m benchmarks.answers --rows N --questions N``; prints one line of JSON. Each kind
of question is asked of random tenants, the kinds in turns, so that all meet the same machine:

- ``reader``: the store's reader and `answering.figures`, with one reader for all questions (warm)
  and with one for each, as the API has it (``new``);
- ``http``: the whole route, in process, without a socket;
- ``from_disk``: ``reader``, a new one for each, with the file dropped from the system's cache.

The meter asked has two groups, so that 5,952 rows and a few late ones answer for 2,976 windows;
``one series`` is the same of a meter without groups. Times are wall clock; beside them stands CPU
time, which others on the machine touch less, and of that the least as well.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import sqlite3
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from datetime import UTC
from functools import partial
from pathlib import Path
from typing import Any, Final

import httpx

from benchmarks import bulk
from benchmarks.measuring import report, settle
from benchmarks.running import load
from meterstream_aggregator.answering import Scope, figures
from meterstream_aggregator.catalogue import DAY
from meterstream_aggregator.periods import period_bounds
from meterstream_aggregator.questions import ask, folded_until
from meterstream_aggregator.store.port import StoreReader
from meterstream_aggregator.store.sqlite_reader import open_reader
from meterstream_services.http.app import create_app
from meterstream_services.http.settings import Settings

NOW: Final = bulk.ENDS + 2 * DAY
EVERY: Final = ("total", "1d", "15m")
METERS: Final = {bulk.SUMS: "", bulk.COUNTS: ", one series"}
FROM_DISK_MAX: Final = 20
"""Questions asked of a file that is read again: each costs much."""
_MONTH: Final = {"from": "2026-03-01", "to": "2026-04-01"}
_ROUTES: Final[dict[str, tuple[str, dict[str, str]]]] = {
    "usage, total": ("/v1/usage", {"every": "total"}),
    "usage, 1d": ("/v1/usage", {"every": "1d"}),
    "usage, 15m": ("/v1/usage", {"every": "15m"}),
    "usage, 1d by group": ("/v1/usage", {"every": "1d", "by": "model"}),
    "periods, 1d": ("/v1/periods", {"every": "1d"}),
    "adjustments, 1d": ("/v1/adjustments", {"every": "1d"}),
    "explain": ("/v1/explain", {}),
    "usage, total, one series": ("/v1/usage", {"every": "total", "meter": bulk.COUNTS}),
    "usage, 15m, one series": ("/v1/usage", {"every": "15m", "meter": bulk.COUNTS}),
    "explain, one series": ("/v1/explain", {"meter": bulk.COUNTS}),
}
_Sample = tuple[float, float]
"""Milliseconds of wall clock and of CPU."""


def main() -> None:
    """Make the store, ask, and tell."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--questions", type=int, default=300)
    parser.add_argument("--store", type=Path, help="where it is kept, or is already")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="meterstream-bench-") as text:
        report(_measure(Path(text), arguments.store, arguments.rows, arguments.questions))


def _measure(scratch: Path, kept: Path | None, rows: int, questions: int) -> dict[str, Any]:
    path = kept or scratch / "store.sqlite3"
    began = time.perf_counter()
    if not path.exists():
        bulk.fill(path, rows)
    made = time.perf_counter() - began
    with closing(open_reader(path)) as reader:
        tenants = reader.tenants()
    with closing(sqlite3.connect(path)) as database:
        [counted] = database.execute("SELECT count(*) FROM usage").fetchone()
    chosen = random.Random(1).choices(tenants, k=questions)
    settle()
    return {
        "rows": counted,
        "tenants": len(tenants),
        "megabytes": round(path.stat().st_size / 2**20),
        "seconds_to_make": round(made, 1),
        "load": load(),
        "milliseconds": {
            "reader": _by_reader(path, chosen),
            "http": asyncio.run(_by_http(path, scratch / "accounts.sqlite3", chosen)),
            "from_disk": _from_disk(path, chosen[:FROM_DISK_MAX]),
        },
        "load_after": load(),
    }


def _by_reader(path: Path, tenants: Sequence[str]) -> dict[str, Any]:
    samples: dict[str, list[_Sample]] = {}
    with closing(open_reader(path)) as warm:
        for tenant in tenants:
            for meter, which in METERS.items():
                for every in EVERY:
                    _answer(warm, tenant, meter, every)
                    took = _timed(partial(_answer, warm, tenant, meter, every))
                    samples.setdefault(f"{every}, warm{which}", []).append(took)
                    took = _timed(partial(_anew, path, tenant, meter, every))
                    samples.setdefault(f"{every}, new{which}", []).append(took)
    return {name: _told(found) for name, found in samples.items()}


def _from_disk(path: Path, tenants: Sequence[str]) -> dict[str, Any]:
    samples: dict[str, list[_Sample]] = {}
    for tenant in tenants:
        for every in EVERY:
            with path.open("rb") as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            took = _timed(partial(_anew, path, tenant, bulk.SUMS, every))
            samples.setdefault(every, []).append(took)
    return {name: _told(found) for name, found in samples.items()}


def _anew(path: Path, tenant: str, meter: str, every: str) -> None:
    with closing(open_reader(path)) as reader:
        _answer(reader, tenant, meter, every)


def _answer(reader: StoreReader, tenant: str, meter: str, every: str) -> None:
    """What a route does between its reader and its document."""
    with reader.snapshot():
        catalogue = reader.catalogue()
        meters = catalogue.definitions(meter)
        bounds = period_bounds(bulk.BEGINS, bulk.ENDS, every, UTC, window=meters[-1].window)
        question = ask(meters, bounds, metering_since=catalogue.metering_since)
        progress = folded_until(reader.positions(), bulk.PARTITIONS)
        found = figures(reader, question, scope=Scope((tenant,)), progress=progress, now=NOW)
    if len(found) != len(bounds) - 1:
        raise SystemExit(f"{len(found)} figures of {tenant} in place of {len(bounds) - 1}")


async def _by_http(path: Path, accounts: Path, tenants: Sequence[str]) -> dict[str, Any]:
    app = create_app(Settings(store=path, accounts=accounts), now=lambda: NOW)
    samples: dict[str, list[_Sample]] = {}
    sizes: dict[str, int] = {}
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost:8080") as client:
        for tenant in [tenants[0], *tenants]:
            for name, (route, more) in _ROUTES.items():
                given = {"meter": bulk.SUMS, "tenant": tenant} | _MONTH | more
                wall, cpu = time.perf_counter(), time.process_time()
                response = await client.get(route, params=given)
                cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
                if response.status_code != 200:
                    raise SystemExit(f"{response.request.url}: {response.text}")
                samples.setdefault(name, []).append((1e3 * wall, 1e3 * cpu))
                sizes[name] = len(response.content)
    # The first of each made what is made once.
    return {name: _told(found[1:]) | {"bytes": sizes[name]} for name, found in samples.items()}


def _timed(work: Callable[[], None]) -> _Sample:
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    return 1e3 * wall, 1e3 * cpu


def _told(samples: Sequence[_Sample]) -> dict[str, float]:
    walls, cpus = sorted(wall for wall, _ in samples), sorted(cpu for _, cpu in samples)
    return {
        "p50": _at(walls, 50),
        "p99": _at(walls, 99),
        "cpu_least": _at(cpus, 0),
        "cpu_p50": _at(cpus, 50),
        "cpu_p99": _at(cpus, 99),
    }


def _at(ordered: Sequence[float], percent: int) -> float:
    return round(ordered[min(len(ordered) - 1, len(ordered) * percent // 100)], 2)


if __name__ == "__main__":
    main()

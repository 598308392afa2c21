"""The accounts directory with a million tenants: importing them, and looking them up.

Run as ``python -m benchmarks.accounts --tenants N --store sqlite postgres``; prints one line of
JSON. For each store:

- ``import``: a CSV file of that many tenants, in the pieces in which `meterstream accounts import`
  sends it, read and applied by the service's own code; and once more, which changes nothing;
- ``table``: one tenant at a time, at random, straight from the tables;
- ``nothing``: ``SELECT 1`` the same way, in turns with ``table``. What it takes is the machine's,
  the client's and the network's; ``ratio`` is the table's time by this;
- ``directory``: the same tenants as a process asks for them, through cache and bound, which for
  tables ask each time;
- ``server``: PostgreSQL's own time for that statement, prepared, from ``EXPLAIN ANALYZE``;
- ``cache``: the same through the cache, all of them held, by one thread;
- ``batch``: a thousand tenants at a time from the tables.

Times are wall clock, but for ``per_second_per_core``, by this process's CPU alone; memory is that
of this process. ``load`` is that of the machine over a minute, before and after the lookups.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

from benchmarks.measuring import MemoryTrace, report
from benchmarks.servers import postgres
from meterstream_aggregator.store.address import PostgresAddress, StoreAddress, parse_address
from meterstream_aggregator.store.postgres.connection import connect
from meterstream_services.accounts.cached import CachedDirectory, Caching
from meterstream_services.accounts.imports import read_csv
from meterstream_services.accounts.opening import open_directory
from meterstream_services.accounts.port import EditableDirectory
from meterstream_services.accounts.tables import SqlDirectory, account_tables
from meterstream_services.cli.account_import import ROWS_AT_ONCE
from meterstream_services.sql.opening import open_database

TENANTS_AN_ACCOUNT: Final = 10
SERVER_LOOKUPS: Final = 5_000
"""Lookups of which the server tells its own time."""


def main() -> None:
    """Import, look up, and tell."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tenants", type=int, default=1_000_000)
    parser.add_argument("--lookups", type=int, default=20_000)
    parser.add_argument(
        "--store", nargs="+", choices=("sqlite", "postgres"), default=["sqlite", "postgres"]
    )
    arguments = parser.parse_args()
    result: dict[str, Any] = {"tenants": arguments.tenants}
    for store in arguments.store:
        with tempfile.TemporaryDirectory(prefix="meterstream-bench-") as text, ExitStack() as stack:
            address: StoreAddress = Path(text) / "accounts.sqlite3"
            if store == "postgres":
                Path(text).chmod(0o711)  # PostgreSQL may run as another user.
                address = parse_address(stack.enter_context(postgres(Path(text))).url)
            result[store] = _measure(address, arguments.tenants, arguments.lookups)
    report(result)


def _measure(address: StoreAddress, tenants: int, lookups: int) -> dict[str, Any]:
    database = open_database(address, account_tables())
    directory = SqlDirectory(database)
    trace = MemoryTrace()
    imported = _imported(directory, tenants)
    again = _imported(directory, tenants)
    memory = trace.stop()
    if isinstance(address, PostgresAddress):
        _settle(address)
    random.seed(7)
    asked = [_tenant(random.randrange(tenants)) for _ in range(lookups)]
    load = [os.getloadavg()[0]]
    table, nothing = _in_turns(
        asked, lambda tenant: directory.histories([tenant]), lambda _: database.rows("SELECT 1")
    )
    whole = open_directory(address)
    result: dict[str, Any] = {
        "import_seconds": round(imported, 1),
        "import_again_seconds": round(again, 1),
        "import_megabytes_max": round(max(memory)),
        "import_megabytes_before": round(memory[0]),
        "table": _told(table),
        "nothing": _told(nothing),
        "ratio": {
            name: round(_at(table, percent) / _at(nothing, percent), 2)
            for name, percent in (("p50", 50), ("p99", 99))
        },
        "directory": _looked_up(lambda tenant: whole.histories([tenant]), asked),
    }
    if isinstance(address, PostgresAddress):
        result["server"] = _at_the_server(address, asked[:SERVER_LOOKUPS])
    batches = [asked[at : at + 1000] for at in range(0, len(asked), 1000)]
    result["batch"] = _looked_up(directory.histories, batches)
    result["cache"] = _from_the_cache(directory, tenants, 10 * lookups)
    result["load"] = [round(each, 1) for each in (*load, os.getloadavg()[0])]
    whole.close()
    directory.close()
    return result


def _from_the_cache(directory: EditableDirectory, tenants: int, lookups: int) -> dict[str, Any]:
    cached = CachedDirectory(directory, Caching(fresh_seconds=3600))
    for at in range(0, tenants, 1000):
        cached.histories([_tenant(number) for number in range(at, min(at + 1000, tenants))])
    asked = [_tenant(random.randrange(tenants)) for _ in range(lookups)]
    result = _looked_up(lambda tenant: cached.histories([tenant]), asked)
    assert cached.counts.misses == tenants, "not all of them were held"
    return result


def _settle(address: PostgresAddress) -> None:
    """Do what autovacuum would begin by itself, at whatever moment, after so many new rows."""
    with connect(address, "migrate") as connection:
        connection.execute("VACUUM (ANALYZE) tenancy")


def _at_the_server(address: PostgresAddress, asked: list[str]) -> dict[str, Any]:
    """How long PostgreSQL itself is at work on the lookup's statement, and by which plan."""
    seconds: list[float] = []
    node: dict[str, Any] = {}
    with connect(address, "migrate") as connection:
        connection.execute(
            "PREPARE look (text) AS SELECT tenant, start, account FROM tenancy WHERE tenant IN ($1)"
        )
        for tenant in asked:
            explain = f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) EXECUTE look ('{tenant}')"
            row = connection.execute(explain.encode()).fetchone()
            assert row is not None
            found = row[0][0] if isinstance(row[0], list) else json.loads(row[0])[0]
            seconds.append((found["Planning Time"] + found["Execution Time"]) / 1000)
            node = found["Plan"]
    return {
        **_told(sorted(seconds)),
        "plan": f"{node['Node Type']} {node.get('Index Name', '')}".strip(),
        "pages": node["Shared Hit Blocks"] + node["Shared Read Blocks"],
    }


def _tenant(number: int) -> str:
    return f"tenant-{number:07d}"


def _pieces(tenants: int) -> Iterator[bytes]:
    for at in range(0, tenants, ROWS_AT_ONCE):
        lines = [
            f"account-{number // TENANTS_AN_ACCOUNT:06d},Customer,Europe/Berlin,{_tenant(number)}"
            for number in range(at, min(at + ROWS_AT_ONCE, tenants))
        ]
        yield ("account,name,zone,tenant\n" + "\n".join(lines) + "\n").encode()


def _imported(directory: EditableDirectory, tenants: int) -> float:
    begun = time.perf_counter()
    for piece in _pieces(tenants):
        directory.apply(read_csv(piece).changes)
    return time.perf_counter() - begun


def _looked_up(ask: Callable[[Any], object], questions: list[Any]) -> dict[str, Any]:
    begun = time.process_time()
    seconds = _in_turns(questions, ask)[0]
    core = time.process_time() - begun
    return {**_told(seconds), "per_second_per_core": round(len(questions) / core)}


def _in_turns(questions: list[Any], *asks: Callable[[Any], object]) -> list[list[float]]:
    """The seconds that each way of asking took, sorted; each question is asked in every way."""
    for question in questions[:100]:
        for ask in asks:
            ask(question)
    seconds: list[list[float]] = [[] for _ in asks]
    for question in questions:
        for ask, taken in zip(asks, seconds, strict=True):
            before = time.perf_counter()
            ask(question)
            taken.append(time.perf_counter() - before)
    return [sorted(taken) for taken in seconds]


def _told(seconds: list[float]) -> dict[str, Any]:
    return {
        "per_second": round(len(seconds) / sum(seconds)),
        "p50_milliseconds": round(1000 * _at(seconds, 50), 3),
        "p99_milliseconds": round(1000 * _at(seconds, 99), 3),
    }


def _at(seconds: list[float], percent: int) -> float:
    return seconds[len(seconds) * percent // 100]


if __name__ == "__main__":
    main()

"""The accounts directory with a million tenants: importing them, and looking them up.

Run as ``python -m benchmarks.accounts --tenants N --store sqlite postgres``; prints one line of
JSON. For each store:

- ``import``: a CSV file of that many tenants, in the pieces in which `meterstream accounts import`
  sends it, read and applied by the service's own code; and once more, which changes nothing;
- ``table``: one tenant at a time, at random, straight from the tables;
- ``cache``: the same through the cache, all of them held, by one thread;
- ``batch``: a thousand tenants at a time from the tables.

Times are wall clock; memory is that of this process.
"""

from __future__ import annotations

import argparse
import random
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

from benchmarks.measuring import MemoryTrace, report
from benchmarks.servers import postgres
from meterstream_aggregator.store.address import StoreAddress, parse_address
from meterstream_services.accounts.cached import CachedDirectory, Caching
from meterstream_services.accounts.imports import read_csv
from meterstream_services.accounts.port import EditableDirectory
from meterstream_services.accounts.tables import SqlDirectory, account_tables
from meterstream_services.cli.account_import import ROWS_AT_ONCE
from meterstream_services.sql.opening import open_database

TENANTS_AN_ACCOUNT: Final = 10


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
    directory = SqlDirectory(open_database(address, account_tables()))
    trace = MemoryTrace()
    imported = _imported(directory, tenants)
    again = _imported(directory, tenants)
    memory = trace.stop()
    random.seed(7)
    asked = [_tenant(random.randrange(tenants)) for _ in range(lookups)]
    result: dict[str, Any] = {
        "import_seconds": round(imported, 1),
        "import_again_seconds": round(again, 1),
        "import_megabytes_max": round(max(memory)),
        "import_megabytes_before": round(memory[0]),
        "table": _looked_up(lambda tenant: directory.histories([tenant]), asked),
    }
    batches = [asked[at : at + 1000] for at in range(0, len(asked), 1000)]
    result["batch"] = _looked_up(directory.histories, batches)
    cached = CachedDirectory(directory, Caching(fresh_seconds=3600))
    for at in range(0, tenants, 1000):
        cached.histories([_tenant(number) for number in range(at, min(at + 1000, tenants))])
    asked = [_tenant(random.randrange(tenants)) for _ in range(10 * lookups)]
    result["cache"] = _looked_up(lambda tenant: cached.histories([tenant]), asked)
    assert cached.counts.misses == tenants, "not all of them were held"
    directory.close()
    return result


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
    for question in questions[:100]:
        ask(question)
    seconds: list[float] = []
    begun = time.perf_counter()
    for question in questions:
        before = time.perf_counter()
        ask(question)
        seconds.append(time.perf_counter() - before)
    whole = time.perf_counter() - begun
    seconds.sort()
    return {
        "per_second": round(len(questions) / whole),
        "p50_milliseconds": round(1000 * seconds[len(seconds) // 2], 3),
        "p99_milliseconds": round(1000 * seconds[len(seconds) * 99 // 100], 3),
    }


if __name__ == "__main__":
    main()

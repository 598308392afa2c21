"""Memory of a process that records on while the broker is away, against the bound it was given.

Run as ``python -m benchmarks.offline``. Prints one line of JSON: by how many megabytes the process
grew while ``--events`` were recorded into nowhere, for durability ``memory`` (beyond the bound they
are dropped and counted) and ``spool`` (they are on disk), beside what a buffer filled just to its
bound takes; and ``heavy``: events as large as a slot allows, all different. The SDK states 2.25 KiB
for each of its ``buffer_events_max`` slots as its bound.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any, Final

import psutil

from benchmarks.measuring import report, settle
from benchmarks.recording import ATTRIBUTES, TENANTS
from benchmarks.running import run
from meterstream import Meter

BOUND: Final = 100_000
SLOT_BYTES: Final = 2_304
CASES: Final = ("bound", "memory", "heavy", "spool")
NOWHERE: Final = "127.0.0.1:1"


def main() -> None:
    """Each case in a process of its own."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.offline", description=__doc__)
    parser.add_argument("--events", type=int, default=2_000_000)
    parser.add_argument("--case", choices=CASES)
    arguments = parser.parse_args()
    if arguments.case:
        report(measure(arguments.case, arguments.events))
        return
    cases = {
        case: run("benchmarks.offline", ["--events", str(arguments.events), "--case", case])
        for case in CASES
    }
    bound = BOUND * SLOT_BYTES / 2**20
    ratios = {case: round(cases[case]["grown_megabytes"] / bound, 2) for case in cases}
    report({**cases, "bound_megabytes": round(bound, 1), "of_the_bound": ratios})


def measure(case: str, events: int) -> dict[str, Any]:
    """Record and look at the memory."""
    with tempfile.TemporaryDirectory(prefix="meterstream-bench-") as directory:
        meter = Meter(
            "bench",
            bootstrap_servers=NOWHERE,
            buffer_events_max=BOUND,
            durability="spool" if case == "spool" else "memory",
            spool=Path(directory) if case == "spool" else None,
        )
        process = psutil.Process()
        meter.record("warm", tenant="acme")
        settle()
        before = process.memory_info().rss
        peak = before
        for number in range(BOUND if case == "bound" else events):
            if case == "heavy":
                text = f"{number:0240}"
                meter.record(
                    "a", tenant="t", session=text + "s", subject=text + "u", key=text + "k",
                    attributes={"a": f"{number:01000}"},
                )  # fmt: skip
            else:
                meter.record(
                    "llm.completion",
                    tenant=TENANTS[number % 500],
                    quantity=number & 4095,
                    attributes=ATTRIBUTES[number % 9],
                )
            if number % 10_000 == 0 or number == BOUND - 1:
                peak = max(peak, process.memory_info().rss)
        status = meter.status()
        meter.close(timeout=0)
    return {
        "recorded": status.recorded,
        "dropped": dict(status.dropped),
        "spooled": status.spooled,
        "grown_megabytes": round((peak - before) / 2**20, 1),
    }


if __name__ == "__main__":
    main()

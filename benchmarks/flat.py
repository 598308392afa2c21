"""What an event costs with ever more events behind it, folded and stored without Kafka.

A mark is a number of events behind; its cost is that of the `WIDTH` events from there on. Ratios
are to the first mark. Beside each stands the same ratio of the cost in units of decoding the very
same batches, which takes out how fast the machine was at that moment.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from typing import Any, Final

from benchmarks.running import load, run, say, scratch

MARKS: Final = [100_000, 1_000_000, 3_000_000]
WIDTH: Final = 262_144


def measure_flat(marks: list[int], rounds: int) -> dict[str, Any]:
    """The cost at each mark, as medians over rounds, and memory on the way.

    The log of the highest mark lies on disk meanwhile, at about 115 bytes an event.
    """
    with scratch() as directory:
        log = directory / "log"
        say(f"writing a log of {marks[-1] + WIDTH:,} events")
        run("benchmarks.logfile", ["--events", str(marks[-1] + WIDTH), "--file", str(log)])
        folded: list[dict[str, Any]] = []
        for turn in range(rounds):
            say(f"flat, round {turn + 1}, load {load()}")
            own = directory / str(turn)
            own.mkdir()
            arguments = ["--file", str(log), "--directory", str(own)]
            folded.append(run("benchmarks.folding", arguments))
    costs = [[_cost(each["batches"], mark) for mark in marks] for each in folded]
    return {
        "ratios": {
            str(mark): _median(cost[at][0] / cost[0][0] for cost in costs)
            for at, mark in enumerate(marks)
        },
        "records": folded[0]["records"],
        "load_after": load(),
        "marks": {
            str(mark): {
                "microseconds_per_event": _median(cost[at][0] for cost in costs),
                "ratio": _median(cost[at][0] / cost[0][0] for cost in costs),
                "ratio_in_decodings": _median(cost[at][1] / cost[0][1] for cost in costs),
            }
            for at, mark in enumerate(marks)
        },
        "resident_megabytes": _memory(folded[-1]["batches"]),
    }


def _cost(batches: list[dict[str, Any]], mark: int) -> tuple[float, float]:
    """CPU microseconds an event from a mark on, and the same in decodings."""
    here = [batch for batch in batches if mark <= batch["behind"] < mark + WIDTH]
    seconds = sum(batch["cpu_seconds"] for batch in here)
    decodings = seconds / sum(batch["decode_seconds"] for batch in here)
    return 1e6 * seconds / sum(batch["records"] for batch in here), decodings


def _memory(batches: list[dict[str, Any]]) -> dict[str, float]:
    """Resident memory at tenths of a run, by records folded."""
    last = len(batches) - 1
    shown = sorted({last * part // 10 for part in range(11)})
    return {
        str(batches[at]["behind"] + batches[at]["records"]): batches[at]["resident_megabytes"]
        for at in shown
    }


def _median(values: Iterable[float]) -> float:
    return round(statistics.median(values), 3)

"""Asks a store again and again for one tenant's figure, and tells when it changed.

Run as ``python -m benchmarks.probing --store S --markers N --seconds N``; prints one line of JSON:
milliseconds since 1970 and the figure, each time that it was another one than before. It ends when
the figure is N, or after so many seconds. The question is the one that a route asks, over a reader
that is kept open; what it takes is part of what is measured, and so is the pause between two.
"""

from __future__ import annotations

import argparse
import time
from contextlib import closing
from datetime import UTC
from typing import Final

from benchmarks.measuring import report
from benchmarks.pacing import MARKER_TENANT, MARKER_TYPE
from meterstream_aggregator.answering import Scope, figures
from meterstream_aggregator.periods import period_bounds
from meterstream_aggregator.questions import ask, folded_until
from meterstream_aggregator.store.address import parse_address
from meterstream_aggregator.store.opening import open_reader
from meterstream_aggregator.store.port import StoreReader

_PAUSE_SECONDS: Final = 0.004
_HOUR: Final = 3_600_000_000


def main() -> None:
    """Ask until there is nothing more to come."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store", required=True)
    parser.add_argument("--markers", type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    arguments = parser.parse_args()
    begins = time.time_ns() // 1_000 // _HOUR * _HOUR
    deadline = time.monotonic() + arguments.seconds
    seen: list[tuple[float, int]] = []
    figure = questions = 0
    with closing(open_reader(parse_address(arguments.store))) as reader:
        while figure < arguments.markers and time.monotonic() < deadline:
            now = _ask(reader, begins)
            questions += 1
            if now != figure:
                seen.append((time.time_ns() / 1e6, now))
                figure = now
            time.sleep(_PAUSE_SECONDS)
    report({"seen": seen, "questions": questions})


def _ask(reader: StoreReader, begins: int) -> int:
    with reader.snapshot():
        catalogue = reader.catalogue()
        meters = catalogue.definitions(MARKER_TYPE)
        bounds = period_bounds(
            begins - _HOUR, begins + 3 * _HOUR, "total", UTC, window=meters[-1].window
        )
        question = ask(meters, bounds, metering_since=catalogue.metering_since)
        binding = reader.topic()
        progress = folded_until(reader.positions(), binding.partitions if binding else 0)
        found = figures(
            reader,
            question,
            scope=Scope((MARKER_TENANT,)),
            progress=progress,
            now=time.time_ns() // 1_000,
        )
    # The meter counts: its figure and its events are one.
    return sum(figure.events for figure in found)


if __name__ == "__main__":
    main()

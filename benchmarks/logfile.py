"""A log in a file, batch by batch: the same bytes for every measurement that needs no broker.

Run as ``python -m benchmarks.logfile --events N --file F``; prints one line of JSON. Batches are as
a worker collects them: records of all partitions, in log order within each.
"""

from __future__ import annotations

import argparse
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from benchmarks.measuring import report
from benchmarks.traffic import CHUNK, EVENTS_PER_MINUTE, MINUTE, PRODUCERS, Fleet
from meterstream_consumers.records import Message, RawBatch

PARTITIONS: Final = 8
BEGINS: Final = 1_767_225_600_000_000
"""When the first event is: 2026-01-01, so that a log is the same whenever it is made."""
SINCE: Final = BEGINS - 2 * 86_400_000_000
"""Before every event, late ones included."""


class _Message:
    """What a dead letter would ask of a record."""

    def headers(self) -> None:
        """None."""

    def key(self) -> bytes | None:
        """None either."""
        return None


def main() -> None:
    """Write the file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, required=True)
    parser.add_argument("--file", type=Path, required=True)
    arguments = parser.parse_args()
    report({"records": write(arguments.file, arguments.events)})


def write(path: Path, events: int) -> int:
    """Write a log of about so many events; how many records it has."""
    pace = MINUTE // EVENTS_PER_MINUTE
    fleet = Fleet(seed=1, producers=PRODUCERS, first_time=BEGINS, pace=pace)
    ends = [0] * PARTITIONS
    written = 0
    with path.open("wb") as file:
        for start in range(0, events, CHUNK):
            columns = fleet.chunk(min(CHUNK, events - start))
            appended = (BEGINS + fleet.said * pace) // 1000 + 1
            partitions: list[int] = []
            offsets: list[int] = []
            texts: list[bytes] = []
            for partition, _, values in fleet.records(columns, PARTITIONS):
                texts += values
                partitions += [partition] * len(values)
                offsets += range(ends[partition], ends[partition] + len(values))
                ends[partition] += len(values)
            batch = (texts, partitions, offsets, [appended] * len(texts))
            pickle.dump(batch, file, protocol=pickle.HIGHEST_PROTOCOL)
            written += len(texts)
    return written


def batches(path: Path) -> Iterator[RawBatch]:
    """Every batch of a log, as a worker's source hands it out."""
    message: Message = _Message()
    with path.open("rb") as file:
        while True:
            try:
                values, partitions, offsets, append_times = pickle.load(file)
            except EOFError:
                return
            yield RawBatch(values, partitions, offsets, append_times, [message] * len(values))


if __name__ == "__main__":
    main()

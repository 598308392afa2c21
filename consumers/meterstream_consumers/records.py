"""Raw records as they come from the log: parallel lists, one entry a record."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from meterstream_aggregator.batch import rises


class Message(Protocol):
    """The part of a consumed message that is asked for rarely: what a dead letter keeps."""

    def headers(self) -> list[tuple[str, bytes | None]] | None:
        """The record's own headers, in order."""
        ...

    def key(self) -> bytes | None:
        """The record's key."""
        ...


class Places(NamedTuple):
    """Where records lie, as parallel arrays. ``append_time`` is microseconds."""

    partition: npt.NDArray[np.int64]
    offset: npt.NDArray[np.int64]
    append_time: npt.NDArray[np.int64]


@dataclass(slots=True)
class RawBatch:
    """Records in the order they came. ``append_times`` are milliseconds, as the log has them."""

    values: list[bytes | None] = field(default_factory=list)
    partitions: list[int] = field(default_factory=list)
    offsets: list[int] = field(default_factory=list)
    append_times: list[int] = field(default_factory=list)
    messages: list[Message] = field(default_factory=list)
    _places: Places | None = None

    def __len__(self) -> int:
        return len(self.values)

    def places(self) -> Places:
        """Positions and append times as arrays; made once, when the batch is complete."""
        if self._places is None or len(self._places.partition) != len(self):
            self._places = Places(
                np.array(self.partitions, dtype=np.int64),
                np.array(self.offsets, dtype=np.int64),
                np.array(self.append_times, dtype=np.int64) * 1000,
            )
        return self._places

    def read_at(self, times: npt.NDArray[np.int64]) -> None:
        """Put the log's times, microseconds, in place of the append times of `places`.

        ``append_times`` stay what the broker wrote.
        """
        self._places = self.places()._replace(append_time=times)

    def kept(self, rows: npt.NDArray[np.int64]) -> RawBatch:
        """Only these rows, in their order."""
        chosen = rows.tolist()
        return RawBatch(
            [self.values[row] for row in chosen],
            [self.partitions[row] for row in chosen],
            [self.offsets[row] for row in chosen],
            [self.append_times[row] for row in chosen],
            [self.messages[row] for row in chosen],
        )


def rows_to_fold(raw: RawBatch, positions: dict[int, int]) -> npt.NDArray[np.int64]:
    """The rows of owned partitions that lie at or after the position, each offset once.

    A rebalance in the middle of collecting can hand out a record twice, and records of partitions
    that are not ours any more. ``positions``: owned partition → first offset that is not folded.
    """
    partitions, offsets, _ = raw.places()
    if not len(raw) or rises(partitions, offsets, positions, by=1):
        return np.arange(len(raw))
    keep = np.zeros(len(raw), dtype=np.bool_)
    for partition, position in positions.items():
        rows = np.flatnonzero(partitions == partition)
        if not len(rows):
            continue
        of_partition = offsets[rows]
        highest_before = np.maximum.accumulate(np.r_[position - 1, of_partition[:-1]])
        keep[rows] = of_partition > highest_before
    return np.flatnonzero(keep)

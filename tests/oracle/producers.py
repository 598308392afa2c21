"""The oracle's memory of producers: numbers taken, holes and since when, horizons.

A lane is whole while the numbers that came are 1 to the highest that came or was claimed by a mark.
Since when it is not is the log time of the record that broke it, until it is whole again.
"""

from __future__ import annotations

from dataclasses import dataclass, field

PRODUCER_HORIZON = 90 * 86_400_000_000


@dataclass
class OracleLane:
    """The numbers of one lane of one producer, in one partition."""

    taken: set[int] = field(default_factory=set[int])
    refused: set[int] = field(default_factory=set[int])
    """Numbers that are taken, refused, and may still be counted."""
    claimed: int = 0
    broken_since: int | None = None

    def holes(self) -> list[tuple[int, int]]:
        """The runs of numbers that never came."""
        runs: list[tuple[int, int]] = []
        expected = 1
        for number in [*sorted(self.taken), max([self.claimed, *self.taken]) + 1]:
            if number > expected:
                runs.append((expected, number - 1))
            expected = max(expected, number + 1)
        return runs

    def note(self, log_time: int) -> None:
        """Look whether the lane is whole, after whatever came at that log time."""
        highest = max([self.claimed, *self.taken])
        if len(self.taken) == highest:
            self.broken_since = None
        elif self.broken_since is None:
            self.broken_since = log_time


@dataclass
class OracleProducer:
    """What one partition knows of one producer."""

    last_append: int | None = None
    closed: bool = False
    counted: int = 0
    duplicates: int = 0
    refused: int = 0
    lanes: dict[int, OracleLane] = field(default_factory=dict[int, OracleLane])

    def lane(self, number: int) -> OracleLane:
        """A lane, begun when it is first used."""
        return self.lanes.setdefault(number, OracleLane())

    def is_expired(self, log_time: int) -> bool:
        """Whether it was silent for longer than the horizon."""
        return self.last_append is not None and log_time > self.last_append + PRODUCER_HORIZON

    def missing(self) -> list[tuple[int, int, int, int]]:
        """(lane, from, to, since when) of every hole."""
        return [
            (number, first, last, lane.broken_since or 0)
            for number, lane in sorted(self.lanes.items())
            for first, last in lane.holes()
        ]

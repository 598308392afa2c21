"""A flood of dead letters stops the worker: then the fault is ours, and draining would hide it.

One bad record never stops a partition. Thousands in a row, or most of the last ten thousand, mean a
catalogue without a meter, a schema nobody knows, a clock gone wrong: something to be mended before
the topic is drained into dead letters.

Two limits, judged at every refused record of a partition before anything of its batch is committed:

- the *run*: refused records that follow each other with no other record between;
- the *ratio*: refused records among the last `WINDOW`, once the partition has had as many.

Both are judged record by record, so they do not depend on how the log was cut into batches; only
how much before the flood is committed does, since a batch goes whole or not at all. A repeat of a
refused event is a duplicate and no new refusal. What was refused before this worker took the
partition is asked of the store, so that starting again meets the same wall.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from meterstream_aggregator.changes import DeadLetter
from meterstream_consumers.errors import DeadLetterFlood
from meterstream_consumers.records import RawBatch

WINDOW: Final = 10_000
"""Records of a partition that the ratio is taken over."""

_Ordinals = npt.NDArray[np.int64]


class FloodLimits(NamedTuple):
    """``run_max`` refused in a row, 0 for any number; ``ratio_max`` of ``window``, 1 for all."""

    run_max: int
    ratio_max: float
    window: int = WINDOW

    @property
    def reach(self) -> int:
        """How many records back a limit looks."""
        return max(self.run_max + 1, self.window)


@dataclass(frozen=True, slots=True)
class _Past:
    """What one partition had: records are counted from the one at ``next``, backwards below 0.

    ``first`` is the ordinal of the oldest record that is known of, ``refused`` those of refused
    ones within reach, rising.
    """

    first: int
    next: int
    refused: _Ordinals


class FloodGuard:
    """Watches the refusals of owned partitions. One thread."""

    def __init__(self, limits: FloodLimits) -> None:
        self._limits = limits
        self._past: dict[int, _Past] = {}
        self._to_come: dict[int, _Past] = {}

    def begins_at(self, next_offset: int) -> int:
        """From which offset on earlier refusals matter to a partition that is taken there."""
        return max(next_offset - self._limits.reach, 0)

    def take(self, partition: int, next_offset: int, refused: Sequence[int]) -> None:
        """A partition comes, with the offsets refused before ``next_offset`` and within reach.

        ``next_offset`` is 0 for one that nothing was folded of.
        Offsets stand for records here: markers of transactions between them make it milder.
        """
        ordinals = np.array(refused, dtype=np.int64) - next_offset
        self._past[partition] = _Past(-next_offset, 0, ordinals)

    def let_go(self, partition: int) -> None:
        """A partition goes."""
        self._past.pop(partition, None)

    def check(self, raw: RawBatch, letters: Sequence[DeadLetter]) -> None:
        """Raise `DeadLetterFlood` when a batch with these new dead letters goes beyond a limit.

        Otherwise `committed` must follow once the batch is committed.
        """
        partitions, offsets, _ = raw.places()
        by_partition: dict[int, list[DeadLetter]] = {}
        for letter in letters:
            by_partition.setdefault(letter.partition, []).append(letter)
        self._to_come = {}
        for partition in np.unique(partitions).tolist():
            rows = np.flatnonzero(partitions == partition)
            past = self._past[partition]
            new = by_partition.get(partition, [])
            refused = past.refused
            if new:
                hits = np.isin(offsets[rows], [letter.offset for letter in new])
                refused = np.concatenate([refused, past.next + np.flatnonzero(hits)])
                self._judge(partition, past, refused, new)
            upto = past.next + len(rows)
            refused = refused[np.searchsorted(refused, upto - self._limits.reach) :]
            self._to_come[partition] = _Past(past.first, upto, refused)

    def committed(self) -> None:
        """What was checked last is in the store."""
        self._past.update(self._to_come)

    def refused_lately(self) -> dict[int, int]:
        """Refused records among the last `FloodLimits.window`, by partition."""
        window = self._limits.window
        return {
            partition: int(len(past.refused) - np.searchsorted(past.refused, past.next - window))
            for partition, past in self._past.items()
        }

    def _judge(
        self, partition: int, past: _Past, refused: _Ordinals, new: list[DeadLetter]
    ) -> None:
        run_max, ratio_max, window = self._limits
        known = len(refused) - len(new)
        found: list[tuple[int, str]] = []
        at = _first_after(refused, known, others=run_max, within=run_max + 1) if run_max else None
        if at is not None:
            found.append((at, f"{run_max + 1:,} records in a row were refused"))
        whole = np.searchsorted(refused, past.first + window - 1)
        others = int(ratio_max * window)
        at = _first_after(refused, max(known, int(whole)), others=others, within=window)
        if at is not None:
            found.append((at, f"more than {ratio_max:.4g} of the last {window:,} were refused"))
        if found:
            first, what = min(found)
            raise _flood(partition, new[: first - known + 1], what)


def _first_after(refused: _Ordinals, begin: int, *, others: int, within: int) -> int | None:
    """The first refusal from ``begin`` on that has so many others before it within so many records.

    ``within`` counts the refused record itself.
    """
    begin = max(begin, others)
    spans = refused[begin:] - refused[begin - others : max(len(refused) - others, 0)]
    hits = np.flatnonzero(spans < within)
    return begin + int(hits[0]) if len(hits) else None


def _flood(partition: int, letters: list[DeadLetter], what: str) -> DeadLetterFlood:
    """``letters`` are the new ones up to the one that is too much."""
    reasons = Counter(letter.refusal.reason.value for letter in letters)
    [(reason, times)] = reasons.most_common(1)
    example = next(letter for letter in letters if letter.refusal.reason.value == reason)
    return DeadLetterFlood(
        partition=partition,
        offset=letters[-1].offset,
        what=what,
        reason=reason,
        share=f"{times:,} of the {len(letters):,} of this batch",
        example=f"{example.partition}-{example.offset} ({example.refusal.detail})",
    )

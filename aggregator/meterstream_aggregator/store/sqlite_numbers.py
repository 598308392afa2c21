"""Numbers of many producers in their stored form, in one go: see `dedup.pack` for the form.

A commit writes each producer that sent anything, so that with hundreds of them packing one after
the other costs more than writing them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from meterstream_aggregator.dedup import Numbers, ProducerKey, pack


def rows_of_numbers(changed: Mapping[ProducerKey, Numbers]) -> list[tuple[Any, ...]]:
    """Rows of the table ``producer``, but "" for an absent ``irregular``."""
    return [
        (
            key[0],
            key[1],
            upto,
            irregular,
            int(numbers.closed),
            numbers.counted,
            numbers.duplicates,
            numbers.refusals,
            numbers.last_append,
        )
        for (key, numbers), (upto, irregular) in zip(
            changed.items(), packed(list(changed.values())), strict=True
        )
    ]


def packed(many: Sequence[Numbers]) -> list[tuple[bytearray, str]]:
    """What `dedup.pack` gives for each, as bytearrays, and "" in place of None."""
    if not many:
        return []
    upto = np.stack([numbers.upto for numbers in many])
    owner, lane = np.nonzero(upto)
    lanes = lane.astype(np.uint8).tobytes()
    values = upto[owner, lane].astype("<i8").tobytes()
    ends = np.searchsorted(owner, np.arange(len(many)), side="right").tolist()
    told: list[tuple[bytearray, str]] = []
    first = 0
    for numbers, end in zip(many, ends, strict=True):
        own = bytearray(lanes[first:end])
        own += values[8 * first : 8 * end]
        is_whole = not (numbers.beyond or numbers.claimed)
        told.append((own, "" if is_whole else pack(numbers)[1] or ""))
        first = end
    return told

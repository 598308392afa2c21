"""What was kept of batches that come again as they are, from clients without ids."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Collection
from typing import Final

PARTS_REMEMBERED: Final = 10_000
EQUAL_REMEMBERED: Final = 16
"""Batches of the very same bytes at a time."""


class PartlyKept:
    """Which events of batches that were told to come again are kept all the same. For any thread.

    A batch stands for its bytes: whichever client sends the same ones next takes over what was kept
    for the other, so that as many events are counted as successes are answered.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: OrderedDict[bytes, list[frozenset[int]]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def take(self, batch: bytes) -> frozenset[int]:
        """What was kept of a batch before; forgotten with this."""
        with self._lock:
            parts = self._kept.get(batch)
            if parts is None:
                return frozenset()
            kept = parts.pop()
            if not parts:
                del self._kept[batch]
            return kept

    def note(self, batch: bytes, kept: Collection[int]) -> None:
        """Remember what is kept of a batch that is to come again; of each that has these bytes."""
        if not kept:
            return
        with self._lock:
            parts = self._kept.setdefault(batch, [])
            parts.append(frozenset(kept))
            del parts[:-EQUAL_REMEMBERED]
            if len(self._kept) > PARTS_REMEMBERED:
                self._kept.popitem(last=False)

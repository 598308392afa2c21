"""What makes a row the same row when its file is imported again.

A row's key is a 128-bit hash over the event type and the row's own content, as text, and the
number of the occurrence of that content within the file. So:

* the same file, or the same file with rows appended, gives the same keys: nothing changes;
* two honest identical rows of one file have occurrence 1 and 2: both count;
* the columns chosen are no part of it: the same rows of one type with another mapping are a
  conflict that the worker reports, not a second count.

The same content in two different files is one event. Where that is wrong, ``source`` (a word of
the caller's, part of the hash) tells the files apart, or the file's own key column is used.
"""

from __future__ import annotations

from array import array
from hashlib import blake2b
from typing import Final

_SLOTS_AT_START: Final = 1024


class RowIdentity:
    """Gives the keys of one file's rows, in the file's order. Not thread-safe.

    Memory: 12 to 24 bytes per row (see `Occurrences`), whatever the rows' size.
    """

    def __init__(self, event_type: str, *, source: str = "") -> None:
        self._prefix = _joined([event_type, source])
        self._occurrences = Occurrences()

    def key(self, content: str) -> str:
        """The key of the next row with this content: 32 hexadecimal digits.

        The second and later occurrences of a content have ``-2``, ``-3`` and so on behind them.
        """
        digest = blake2b(
            (self._prefix + content).encode("utf-8", "surrogateescape"), digest_size=16
        ).digest()
        occurrence = self._occurrences.add(int.from_bytes(digest[:8], "big"))
        return digest.hex() if occurrence == 1 else f"{digest.hex()}-{occurrence}"


class Occurrences:
    """Counts 64-bit digests in a flat table: eight bytes a slot, at most two thirds full.

    Only digests seen more than once take an entry of a ``dict`` besides. Two contents whose digests
    collide share a count; their keys differ all the same, because a key holds the whole hash.
    """

    def __init__(self) -> None:
        self._slots = array("Q", bytes(8 * _SLOTS_AT_START))
        self._used = 0
        self._repeats: dict[int, int] = {}

    def add(self, digest: int) -> int:
        """Count one more of ``digest`` and say the how-many-eth it is, from 1."""
        digest = digest or 1  # zero marks an empty slot
        slots = self._slots
        mask = len(slots) - 1
        at = digest & mask
        while slots[at] and slots[at] != digest:
            at = (at + 1) & mask
        if slots[at]:
            occurrence = self._repeats.get(digest, 1) + 1
            self._repeats[digest] = occurrence
            return occurrence
        slots[at] = digest
        self._used += 1
        if self._used * 3 > len(slots) * 2:
            self._grow()
        return 1

    def _grow(self) -> None:
        grown = array("Q", bytes(16 * len(self._slots)))
        mask = len(grown) - 1
        for digest in self._slots:
            if digest:
                at = digest & mask
                while grown[at]:
                    at = (at + 1) & mask
                grown[at] = digest
        self._slots = grown


def content_of(values: list[str]) -> str:
    """A list of cells as one text from which the cells could be told again."""
    return _joined(values)


def _joined(values: list[str]) -> str:
    return "".join([f"{len(value)}:{value}" for value in values])

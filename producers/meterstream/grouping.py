"""Entries on their way from the buffer to disk, as columns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

    from meterstream.encoding import Entry


class Group:
    """Entries on their way to disk, with the bodies of their records. Tickets have no holes."""

    def __init__(self) -> None:
        self.first = 0
        """The ticket of the first."""
        self.entries: Final[list[Entry]] = []
        self.bodies: Final[list[bytes]] = []

    def __len__(self) -> int:
        return len(self.entries)

    def add(self, ticket: int, entries: Sequence[Entry], bodies: Sequence[bytes]) -> None:
        """Further entries, ``ticket`` that of the first of them."""
        if not self.entries:
            self.first = ticket
        self.entries.extend(entries)
        self.bodies.extend(bodies)

    def drop(self, count: int) -> None:
        """The first so many go without the disk."""
        self.first += count
        del self.entries[:count]
        del self.bodies[:count]

    def clear(self) -> None:
        """All are on disk."""
        self.drop(len(self.entries))

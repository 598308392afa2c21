"""Errors of the aggregator, by what must happen next.

::

    AggregatorError
    ├── CatalogueError      the operator mends the catalogue; nothing started
    ├── UnknownMeter        the asker names another meter
    └── StoreError
        ├── StoreUnavailable   wait, keep the position, try again
        ├── StoreMismatch      stop: this store belongs to another topic, catalogue or version
        └── Fenced             stop: somebody newer owns the partition; nothing was written
"""

from __future__ import annotations

from collections.abc import Iterable


class AggregatorError(Exception):
    """Base of this package's errors; the message is one sentence for a person."""


class CatalogueError(AggregatorError):
    """A mistake in a catalogue file: which file, which line, which field, what to write."""


class UnknownMeter(AggregatorError):
    """A meter name that the catalogue does not hold."""

    def __init__(self, name: str, known: Iterable[str]) -> None:
        names = ", ".join(sorted(known)) or "none"
        super().__init__(f"no meter is called {name!r}; the catalogue has: {names}")
        self.name = name


class StoreError(AggregatorError):
    """Base of what a store can say."""


class StoreUnavailable(StoreError):
    """The store cannot be reached or written now; positions have not moved."""


class StoreMismatch(StoreError):
    """The store holds something else than this process was told to keep in it."""


class Fenced(StoreError):
    """A partition's compare-and-set failed: its epoch or position is not ours any more."""

    def __init__(self, partition: int, epoch: int, position: int) -> None:
        super().__init__(
            f"partition {partition} is no longer ours at epoch {epoch} and offset {position}; "
            "nothing was written, its new owner goes on from the stored offset"
        )
        self.partition = partition

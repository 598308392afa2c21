"""What a store tells: the rows that questions get.

Times are integer microseconds UTC; amounts are ``quantity * 10**-scale``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from meterstream_aggregator.changes import Item


class UsageRow(NamedTuple):
    """One part of one window's usage. Several rows may describe the same window: merge them.

    ``arrival`` is 0 for what came in time, else see `windows.arrival_of`. A scale of
    `catalogue.MOMENT` or more marks a first moment. ``group`` follows the meter's ``group_by``,
    empty text where the attribute was absent. For session meters the amount is seconds, and
    ``events`` the sessions that started in the window.
    """

    tenant: str
    group: tuple[str, ...]
    start: int
    events: int
    quantity: int
    scale: int
    arrival: int


class ItemRow(NamedTuple):
    """One item that a window of a `catalogue.KEPT` meter keeps: see `changes.ItemKey`."""

    tenant: str
    group: tuple[str, ...]
    start: int
    arrival: int
    item: str
    by: Item


class ReadingRow(NamedTuple):
    """From this offset on the partition was read by this version of the catalogue."""

    partition: int
    first_offset: int
    version: str


class SessionRow(NamedTuple):
    """A session as its boundaries tell it. ``state``: open, closed, timed_out or unstarted.

    ``session`` is empty for one without an id: its start tells it from the subject's others, and
    ``conflicts`` are the subject's.
    """

    partition: int
    tenant: str
    type: str
    session: str
    subject: str | None
    attributes: Mapping[str, str]
    start: int | None
    end: int | None
    last_sign: int
    last_append: int
    state: str
    conflicts: int


class PositionRow(NamedTuple):
    """How far a partition is folded, by whom, and what became of its events."""

    partition: int
    next_offset: int
    appended: int
    epoch: int
    owner: str
    counted: int
    duplicates: int
    refused: int


class ProducerRow(NamedTuple):
    """A producer incarnation as one partition knows it.

    ``missing`` are (lane, from, to inclusive, append time since when it is known to be missing).
    ``lanes`` are (lane, highest number seen) of the lanes it used.
    """

    producer: str
    partition: int
    seen: int
    counted: int
    duplicates: int
    refused: int
    missing: tuple[tuple[int, int, int, int], ...]
    lanes: tuple[tuple[int, int], ...]
    last_append: int
    closed: bool


class DeadLetterRow(NamedTuple):
    """A record that was not counted, and why. The original bytes are on the dead-letter topic."""

    partition: int
    offset: int
    reason: str
    detail: str
    tenant: str | None
    type: str | None
    producer: str
    lane: int
    sequence: int
    append_time: int


class DeadLettersWanted(NamedTuple):
    """Which dead letters: those that fit all that is named. Appended in [since, until)."""

    producer: str | None = None
    reason: str | None = None
    tenant: str | None = None
    type: str | None = None
    partition: int | None = None
    since: int | None = None
    until: int | None = None

    def fits(self, row: DeadLetterRow) -> bool:
        """Whether a dead letter is wanted."""
        named = (self.producer, self.reason, self.tenant, self.type, self.partition)
        theirs = (row.producer, row.reason, row.tenant, row.type, row.partition)
        return (
            all(want in (None, has) for want, has in zip(named, theirs, strict=True))
            and (self.since is None or row.append_time >= self.since)
            and (self.until is None or row.append_time < self.until)
        )


ALL_DEAD_LETTERS: Final = DeadLettersWanted()

"""What is to be imported, who is told how it goes, and what became of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from pathlib import Path

    from meterstream_services.importer.mapping import Mapping
    from meterstream_services.importer.reading import Layout

REFUSALS_KEPT_MAX: Final = 1000
"""Refused rows that a report names one by one. All are counted."""


class Watcher(Protocol):
    """Who is told how an import goes. Called from the importing thread."""

    def reading(self, *, rows: int, bytes_read: int, bytes_total: int) -> None:
        """So far into the file, in rows and in bytes of it."""
        ...

    def counting(self, *, seen: int, events: int) -> None:
        """So many of the events have reached the store."""
        ...

    def say(self, sentence: str) -> None:
        """A person should know this."""
        ...


@dataclass(frozen=True, slots=True)
class Job:
    """What to import and how. ``patience_seconds``: the longest wait without any progress."""

    path: Path
    mapping: Mapping
    layout: Layout | None = None
    delimiter: str | None = None
    patience_seconds: float = 300.0


@dataclass(frozen=True, slots=True)
class Refusal:
    """One refused row: where, which cell, why. ``column`` is empty when the row as a whole is."""

    row: int | None
    line: int | None
    column: str
    value: str
    reason: str


@dataclass(slots=True)
class Report:
    """What became of a file.

    ``rows`` were read; ``events`` were recorded (two for a session with an end); of these
    ``undelivered`` the broker refused for good; the rest is ``counted``, ``duplicates`` or refused
    by the worker, all None while nobody waited for it.
    ``rows_refused`` never became events. ``events_of_rows`` says for each row how many events it
    became, one byte a row.
    """

    producer: str
    rows: int = 0
    events: int = 0
    rows_refused: int = 0
    quantities_empty: int = 0
    counted: int | None = None
    duplicates: int | None = None
    events_refused: int | None = None
    undelivered: int = 0
    unfinished: str = ""
    events_of_rows: bytearray = field(default_factory=bytearray, repr=False)
    refusals: list[Refusal] = field(default_factory=list)

    @property
    def refused(self) -> int:
        """Rows that became no event, and events that the worker refused."""
        return self.rows_refused + (self.events_refused or 0)

    @property
    def is_clean(self) -> bool:
        """Every row of the whole file became an event that was counted or known already."""
        return not self.refused and not self.unfinished

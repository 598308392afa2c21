"""Errors of the importer, by what the person at the terminal does next.

::

    ImporterError (Exception)
    ├── MappingError     name other columns or options: nothing was sent
    ├── FileUnreadable   mend the file: rows before the fault were sent, and count once
    ├── RowRefused       mend the row: the others go on
    └── NotCounted       start the worker: everything is in Kafka, or importing again is safe
"""

from __future__ import annotations


class ImporterError(Exception):
    """Base of this package's errors; the message is one sentence for a person."""


class MappingError(ImporterError):
    """The columns or options do not fit each other or the file. Nothing was sent."""


class FileUnreadable(ImporterError):
    """The file cannot be read, or not further."""


class RowRefused(ImporterError):
    """One row cannot become an event. ``column`` and ``value`` say which cell, ``reason`` why."""

    def __init__(self, column: str, value: str, reason: str) -> None:
        super().__init__(f"{column}: {reason}" if column else reason)
        self.column = column
        self.value = value
        self.reason = reason


class NotCounted(ImporterError):
    """The wait for the events to be counted ended before they were."""

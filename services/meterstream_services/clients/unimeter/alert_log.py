"""Alerts with offsets that stay: a dense log in the book.

An alert is the entry at its offset, written only where nothing is. So whoever appends has seen
every alert before it, and none is there twice, however many processes append.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import Final, NamedTuple

from meterstream_services.clients.book import Book, Content
from meterstream_services.clients.unimeter.wire_questions import AlertRow

ALERT_KIND: Final = "unimeter.alert"
_PAGE: Final = 1_000


class Reached(NamedTuple):
    """A threshold that an account reached in a period. ``at`` is nanoseconds."""

    account: int
    metric: str
    threshold: str
    limit: int
    start: int
    value: int
    at: int

    @property
    def identity(self) -> str:
        """What makes it another alert: a period has each once."""
        return "\0".join(
            [str(self.account), self.metric, self.threshold, str(self.limit), str(self.start)]
        )


class _Taken(Exception):
    """Somebody else has appended at this offset."""


class AlertLog:
    """The alerts of one owner. Safe from several threads and processes; blocks on the book."""

    def __init__(self, book: Book, owner: str) -> None:
        self._book: Final = book
        self._owner: Final = owner
        self._lock: Final = threading.Lock()
        self._rows: Final[list[AlertRow]] = []
        self._identities: Final[set[str]] = set()

    @property
    def end(self) -> int:
        """The offset of the next alert, as far as it was read; the first is 1."""
        return len(self._rows) + 1

    def read(self) -> None:
        """Take in what others have appended. Raises `BookUnavailable`."""
        with self._lock:
            self._read()

    def append(self, found: Iterable[Reached]) -> None:
        """Append what is not there yet. Raises `BookUnavailable` and `BookFull`."""
        with self._lock:
            self._read()
            for one in sorted(found, key=lambda each: (each.at, each.limit, each.identity)):
                while one.identity not in self._identities:
                    try:
                        self._write(one)
                    except _Taken:
                        self._read()

    def since(self, offset: int, *, account: int = 0, limit: int) -> list[AlertRow]:
        """Alerts from an offset on, of one account or of all (0), as far as they were read."""
        found: list[AlertRow] = []
        for row in self._rows[max(offset, 1) - 1 :]:
            if account in {0, row.account}:
                found.append(row)
                if len(found) == limit:
                    break
        return found

    def _read(self) -> None:
        while True:
            after = _name(self.end - 1)
            page = self._book.all(self._owner, ALERT_KIND, after=after, limit=_PAGE)
            for _, _, content in page:
                self._take_in(content)
            if len(page) < _PAGE:
                return

    def _write(self, one: Reached) -> None:
        content: Content = {
            "account": str(one.account),
            "metric": one.metric,
            "threshold": one.threshold,
            "limit": str(one.limit),
            "start": one.start,
            "value": str(one.value),
            "at": str(one.at),
        }

        def put(before: Content | None) -> Content:
            if before is not None:
                raise _Taken
            return content

        self._book.change(self._owner, ALERT_KIND, _name(self.end), put)
        self._take_in(content)

    def _take_in(self, content: Content) -> None:
        one = Reached(
            int(content["account"]),
            content["metric"],
            content["threshold"],
            int(content["limit"]),
            content["start"],
            int(content["value"]),
            int(content["at"]),
        )
        self._rows.append(
            AlertRow(self.end, one.account, one.metric, one.threshold, one.value, one.at)
        )
        self._identities.add(one.identity)


def _name(offset: int) -> str:
    return f"{offset:012d}"

"""What clients define by calls, kept: projects, metrics, wallets, limits. A port and its memory.

An entry is a small JSON object under (owner, kind, name); the owner is `Principal.owner`, so that
keys of other tenants never see it. Amounts in it are text.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable
from typing import Any, Final, Protocol

Content = dict[str, Any]
NAME_BYTES_MAX: Final = 512
CONTENT_BYTES_MAX: Final = 65_536
ENTRIES_MAX: Final = 100_000
"""Of one owner and kind; more are refused with `BookFull`."""


class BookFull(Exception):
    """An owner keeps too many entries of a kind, or one that is too large. Nothing was kept."""


class BookUnavailable(Exception):
    """The book cannot be read or written now; waiting may help."""


class Book(Protocol):
    """The port. Implementations are safe from several threads and processes, and may block."""

    def get(self, owner: str, kind: str, name: str) -> Content | None:
        """One entry; None where there is none."""
        ...

    def all(
        self, owner: str | None, kind: str, *, after: str = "", limit: int = 1000
    ) -> list[tuple[str, str, Content]]:
        """(owner, name, content) of a kind, by name, those greater than ``after``.

        ``owner`` None: of all owners, for those who serve several.
        """
        ...

    def change(
        self,
        owner: str,
        kind: str,
        name: str,
        change: Callable[[Content | None], Content | None],
    ) -> Content | None:
        """Replace an entry by what ``change`` makes of it, as one step; durable when it returns.

        None is no entry, before and after. What ``change`` raises is raised, and nothing changes.
        ``change`` must not call the book.
        """
        ...

    def close(self) -> None:
        """Let go of files and connections. Idempotent."""
        ...


class MemoryBook:
    """A `Book` that forgets at the end of the process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._entries: dict[tuple[str, str, str], Content] = {}

    def get(self, owner: str, kind: str, name: str) -> Content | None:
        """See `Book`."""
        with self._lock:
            return copy.deepcopy(self._entries.get((owner, kind, name)))

    def all(
        self, owner: str | None, kind: str, *, after: str = "", limit: int = 1000
    ) -> list[tuple[str, str, Content]]:
        """See `Book`."""
        with self._lock:
            found = sorted(
                (name, whose)
                for whose, what, name in self._entries
                if what == kind and owner in {None, whose} and name > after
            )
            return [
                (whose, name, copy.deepcopy(self._entries[whose, kind, name]))
                for name, whose in found[:limit]
            ]

    def change(
        self,
        owner: str,
        kind: str,
        name: str,
        change: Callable[[Content | None], Content | None],
    ) -> Content | None:
        """See `Book`."""
        with self._lock:
            place = owner, kind, name
            made = change(copy.deepcopy(self._entries.get(place)))
            if made is None:
                self._entries.pop(place, None)
            else:
                self._entries[place] = copy.deepcopy(made)
            return made

    def close(self) -> None:
        """See `Book`."""

"""What clients define by calls, kept: projects, metrics, wallets, limits. A port and its memory.

An entry is a small JSON object under (owner, kind, name); the owner is `Principal.owner`, so that
keys of other tenants never see it. Amounts in it are text.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from typing import Any, Final, Protocol

Content = dict[str, Any]
NAME_BYTES_MAX: Final = 512
CONTENT_BYTES_MAX: Final = 65_536
ENTRIES_MAX: Final = 100_000
"""Of one owner and kind; more are refused with `BookFull`."""


class BookFull(Exception):
    """An owner keeps too many entries of a kind. Nothing was kept."""


class EntryTooLarge(BookFull):
    """An entry, or its name, is larger than one may be. Nothing was kept."""


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

        Names are in the order of their code points. ``owner`` None: of all owners, for those who
        serve several; a name is then never divided between two pages, so one may have more than
        ``limit``.
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
        ``change`` must not call the book. Raises `BookFull`.
        """
        ...

    def close(self) -> None:
        """Let go of files and connections. Idempotent."""
        ...


def kept_content(name: str, content: Content) -> str:
    """An entry as the JSON that is kept, in ASCII. Raises `EntryTooLarge`."""
    if len(name.encode("utf-8", "surrogatepass")) > NAME_BYTES_MAX:
        raise EntryTooLarge(
            f"the name {name[:64]!r}… is longer than {NAME_BYTES_MAX} bytes; use a shorter one"
        )
    text = json.dumps(content, allow_nan=False, separators=(",", ":"))
    if len(text) > CONTENT_BYTES_MAX:
        raise EntryTooLarge(
            f"{name[:64]!r} would be {len(text)} bytes; an entry has at most {CONTENT_BYTES_MAX}"
        )
    return text


def no_room(kind: str) -> BookFull:
    """What is raised for one entry too many."""
    return BookFull(f"{ENTRIES_MAX} entries of the kind {kind!r} are kept; delete some first")


class MemoryBook:
    """A `Book` that forgets at the end of the process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._entries: dict[tuple[str, str], dict[str, str]] = {}

    def get(self, owner: str, kind: str, name: str) -> Content | None:
        """See `Book`."""
        with self._lock:
            text = self._entries.get((owner, kind), {}).get(name)
        return None if text is None else json.loads(text)

    def all(
        self, owner: str | None, kind: str, *, after: str = "", limit: int = 1000
    ) -> list[tuple[str, str, Content]]:
        """See `Book`."""
        with self._lock:
            found = sorted(
                (name, whose, text)
                for (whose, what), entries in self._entries.items()
                if what == kind and owner in {None, whose}
                for name, text in entries.items()
                if name > after
            )
        page = found[:limit]
        if page:
            page += (entry for entry in found[limit:] if entry[0] == page[-1][0])
        return [(whose, name, json.loads(text)) for name, whose, text in page]

    def change(
        self,
        owner: str,
        kind: str,
        name: str,
        change: Callable[[Content | None], Content | None],
    ) -> Content | None:
        """See `Book`."""
        with self._lock:
            entries = self._entries.setdefault((owner, kind), {})
            before = entries.get(name)
            made = change(None if before is None else json.loads(before))
            if made is None:
                entries.pop(name, None)
                return None
            text = kept_content(name, made)
            if before is None and len(entries) >= ENTRIES_MAX:
                raise no_room(kind)
            entries[name] = text
            return made

    def close(self) -> None:
        """See `Book`."""

"""A directory in a file that somebody else writes: YAML, JSON or CSV, in the form of an import.

The file is looked at once a second at most, when somebody asks, and read anew when it changed. A
version that cannot be taken changes nothing: the one before stays, and the log says why, once.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from meterstream_services.accounts.errors import AccountsUnavailable, InvalidChanges, NotEditable
from meterstream_services.accounts.history import History
from meterstream_services.accounts.imports import (
    BadRow,
    Import,
    InvalidImport,
    read_csv,
    read_json,
    read_yaml,
)
from meterstream_services.accounts.memory import MemoryDirectory
from meterstream_services.accounts.model import Account, Change
from meterstream_services.accounts.port import Applied, Expected, Feed

BYTES_MAX: Final = 256 << 20
LOOK_SECONDS: Final = 1.0

_READERS: Final[dict[str, Callable[[bytes], Import]]] = {
    ".csv": read_csv,
    ".json": read_json,
    ".yaml": read_yaml,
    ".yml": read_yaml,
}
_log: Final = logging.getLogger("meterstream.accounts")

_Version = tuple[int, int, int]


class StaticDirectory:
    """An `EditableDirectory` that refuses changes. Thread-safe."""

    def __init__(self, path: Path, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._path = path
        self._clock = clock
        self._lock = threading.Lock()
        self._current: MemoryDirectory | None = None
        self._seen: _Version | None = None
        self._look_at = float("-inf")
        self.problem: str | None = None
        """Why the file as it is now is not the one in use."""

    def account(self, account_id: str) -> Account | None:
        """See `Directory`."""
        return self._directory().account(account_id)

    def accounts(self, *, after: str | None = None, limit: int = 1000) -> list[Account]:
        """See `Directory`."""
        return self._directory().accounts(after=after, limit=limit)

    def histories(self, tenants: Sequence[str]) -> dict[str, History]:
        """See `Directory`."""
        return self._directory().histories(tenants)

    def tenants_of(self, account_id: str) -> list[str]:
        """See `Directory`."""
        return self._directory().tenants_of(account_id)

    def external_ids(self, account_id: str) -> list[tuple[str, str]]:
        """See `Directory`."""
        return self._directory().external_ids(account_id)

    def account_of(self, system: str, external_id: str) -> str | None:
        """See `Directory`."""
        return self._directory().account_of(system, external_id)

    def apply(
        self,
        changes: Sequence[Change],
        *,
        expected: Expected | None = None,
        dry_run: bool = False,
        detailed: bool = False,
    ) -> Applied:
        """Refused: the file is changed where it is written."""
        del changes, expected, dry_run, detailed
        raise NotEditable(f"{self._path}: accounts are kept in this file; change it there")

    def changes(self, *, after: int, limit: int = 1000) -> Feed:
        """Refused: a file tells what is, not what was."""
        del after, limit
        raise NotEditable(f"{self._path}: accounts are kept in this file, which has no history")

    def close(self) -> None:
        """See `EditableDirectory`."""
        return

    def _directory(self) -> MemoryDirectory:
        with self._lock:
            now = self._clock()
            if now >= self._look_at:
                self._look_at = now + LOOK_SECONDS
                self._look()
            if self._current is None:
                raise AccountsUnavailable(f"accounts: {self.problem}")
            return self._current

    def _look(self) -> None:
        """Take the file's new version, if there is one and it can be."""
        try:
            found = self._path.stat()
            version = (found.st_mtime_ns, found.st_size, found.st_ino)
            if version == self._seen:
                return
            self._current = self._read(found.st_size)
            self._seen, self.problem = version, None
            _log.info("%s: accounts are read", self._path)
        except (OSError, InvalidImport, InvalidChanges) as problem:
            said = f"{self._path}: {problem}"
            if said != self.problem:
                stays = "; the version before stays" if self._current is not None else ""
                _log.warning("%s%s", said, stays)
            self.problem = said

    def _read(self, size: int) -> MemoryDirectory:
        if size > BYTES_MAX:
            reason = f"is larger than {BYTES_MAX} bytes; keep so many accounts in tables"
            raise InvalidImport([BadRow(0, "file", f"{size} bytes", reason)])
        found = _READERS[self._path.suffix.lower()](self._path.read_bytes())
        directory = MemoryDirectory(records=False)
        try:
            directory.apply(found.changes)
        except InvalidChanges as problem:
            raise found.invalid(problem) from problem
        return directory

"""What SQLite's errors mean to whoever uses the store, and what is to be done about each."""

from __future__ import annotations

import sqlite3
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from meterstream_aggregator.errors import StoreMismatch, StoreUnavailable

_REMEDIES: Final = {
    sqlite3.SQLITE_FULL: "make room on its disk, and the work goes on",
    sqlite3.SQLITE_READONLY: "let this user write the file and its directory",
    sqlite3.SQLITE_IOERR: "look at the disk, and at the system's log",
    sqlite3.SQLITE_CANTOPEN: "its directory must be there, and open to this user",
    sqlite3.SQLITE_BUSY: "another process holds it: a long migration, backup or VACUUM",
    sqlite3.SQLITE_PERM: "let this user read and write the file",
    sqlite3.SQLITE_AUTH: "let this user read and write the file",
}
_DAMAGED: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})


@contextmanager
def unavailable(path: Path) -> Generator[None]:
    """A writer's errors as ours: a full disk, a lock, no directory are all to be waited out."""
    try:
        yield
    except sqlite3.DatabaseError as problem:
        refuse_damaged(path, problem)
        if isinstance(problem, sqlite3.OperationalError):
            raise StoreUnavailable(
                f"{path}: {problem}; nothing was written{_remedy(problem)}"
            ) from problem
        raise


@contextmanager
def unreadable(path: Path) -> Generator[None]:
    """A reader's errors as ours."""
    try:
        yield
    except sqlite3.DatabaseError as problem:
        refuse_damaged(path, problem)
        raise StoreUnavailable(
            f"{path}: cannot be read now: {problem}{_remedy(problem)}"
        ) from problem


def refuse_damaged(path: Path, problem: sqlite3.DatabaseError) -> None:
    """Raise `StoreMismatch` where waiting cannot help: the file is no database, or a broken one."""
    code = _code(problem)
    if code == sqlite3.SQLITE_NOTADB:
        raise StoreMismatch(
            f"{path}: is not a SQLite database ({problem}); name another file, or, where it was "
            "a store, move it away and make it again from the log: meterstream rebuild --into FILE"
        ) from problem
    if code in _DAMAGED:
        raise StoreMismatch(
            f"{path}: the file is damaged ({problem}); keep it aside, look at its disk, and make "
            "the store again from the log: meterstream rebuild --into FILE --catalogue FILE"
        ) from problem


def _remedy(problem: sqlite3.DatabaseError) -> str:
    remedy = _REMEDIES.get(_code(problem))
    return f"; {remedy}" if remedy else ""


def _code(problem: sqlite3.DatabaseError) -> int:
    """SQLite's primary result code; -1 where the error is of the Python module's own making."""
    code: int = getattr(problem, "sqlite_errorcode", -1)
    return code & 0xFF if code >= 0 else code

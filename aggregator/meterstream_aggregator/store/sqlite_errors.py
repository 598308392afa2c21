"""What SQLite's errors mean to whoever uses the store."""

from __future__ import annotations

import sqlite3
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from meterstream_aggregator.errors import StoreMismatch, StoreUnavailable


@contextmanager
def unavailable(path: Path) -> Generator[None]:
    """SQLite's errors as ours: a full disk, a lock, no directory are all to be waited out."""
    try:
        yield
    except sqlite3.DatabaseError as problem:
        if isinstance(problem, sqlite3.OperationalError):
            raise StoreUnavailable(f"{path}: {problem}; nothing was written") from problem
        if "not a database" in str(problem) or "malformed" in str(problem):
            raise StoreMismatch(
                f"{path}: is not a SQLite database ({problem}); name another file"
            ) from problem
        raise

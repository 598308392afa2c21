"""One small JSON document that survives its process: read, changed and replaced in one step.

For ledgers and definitions, which are small and change seldom. Every change reads the file, writes
a new one beside it and puts that in its place, under a lock that other processes respect; a crash
leaves the old document or the new one. Without a path the document lives in memory.
"""

from __future__ import annotations

import copy
import fcntl
import json
import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from meterstream.compat.forks import ForkLock
from meterstream.errors import MeterError

if TYPE_CHECKING:
    from collections.abc import Generator

DATA: Final = "METERSTREAM_DATA"
DIRECTORY: Final = "compat"


class FileUnfit(MeterError):
    """A document cannot be read or written. The message names the file."""


class JsonFile:
    """A JSON object on disk or in memory. Safe from any thread; blocks on the disk."""

    def __init__(self, path: Path | None) -> None:
        self.path: Final = path
        self._lock: Final = ForkLock()
        self._memory: dict[str, Any] = {}

    def read(self) -> dict[str, Any]:
        """The document as it is; the caller may keep and change its copy."""
        if self.path is None:
            with self._lock:
                return copy.deepcopy(self._memory)
        return _read(self.path)

    @contextmanager
    def changed(self) -> Generator[dict[str, Any]]:
        """The document to be changed in place; kept when the block ends without an error."""
        with self._lock:
            if self.path is None:
                document = copy.deepcopy(self._memory)
                yield document
                self._memory = document
                return
            with _locked(self.path):
                document = _read(self.path)
                yield document
                _replace(self.path, document)


def file_of(name: str) -> Path | None:
    """Where the environment wants a document of this name; None: in memory."""
    directory = os.environ.get(DATA)
    return Path(directory) / DIRECTORY / name if directory else None


def _read(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as problem:
        raise FileUnfit(f"{path}: not a readable JSON file: {problem}") from problem
    if not isinstance(document, dict):
        raise FileUnfit(f"{path}: not a JSON object; take the file away to begin anew")
    return document


@contextmanager
def _locked(path: Path) -> Generator[None]:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as problem:
        raise FileUnfit(f"{path}: cannot be locked: {problem}") from problem
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        # Said, and not left to closing: the child of a fork at this moment has it open too.
        fcntl.flock(descriptor, fcntl.LOCK_UN)
        os.close(descriptor)


def _replace(path: Path, document: dict[str, Any]) -> None:
    partial = path.with_suffix(".partial")
    try:
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            json.dump(document, stream, indent=1)
            stream.flush()
            os.fsync(stream.fileno())
        partial.replace(path)
    except OSError as problem:
        raise FileUnfit(f"{path}: cannot be written: {problem}") from problem

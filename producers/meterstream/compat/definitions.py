"""What a client defines by calls rather than by a catalogue: metrics, projects, prices.

A definition is a small JSON object with a kind and a name. It is kept beside the events, not in the
catalogue: the worker's meters change by file only, so that every figure can be told from the log.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Protocol

from meterstream.compat.json_file import JsonFile

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

Definition = dict[str, Any]
"""A JSON object. Amounts in it are text."""


class Definitions(Protocol):
    """The port. Implementations are safe from any thread."""

    def get(self, kind: str, name: str) -> Definition | None:
        """One definition; None where there is none."""
        ...

    def put(self, kind: str, name: str, definition: Definition) -> None:
        """Keep a definition, in place of an earlier one of its kind and name."""
        ...

    def remove(self, kind: str, name: str) -> bool:
        """Forget a definition. Whether there was one."""
        ...

    def all(self, kind: str) -> Mapping[str, Definition]:
        """All definitions of a kind by name, in the order in which they came."""
        ...


class LocalDefinitions:
    """`Definitions` in one JSON file, or in memory without a path. Blocks on the disk."""

    def __init__(self, path: Path | None = None) -> None:
        self._file: Final = JsonFile(path)

    def get(self, kind: str, name: str) -> Definition | None:
        """See `Definitions`."""
        found: Definition | None = self._file.read().get(kind, {}).get(name)
        return found

    def put(self, kind: str, name: str, definition: Definition) -> None:
        """See `Definitions`."""
        with self._file.changed() as document:
            document.setdefault(kind, {})[name] = definition

    def remove(self, kind: str, name: str) -> bool:
        """See `Definitions`."""
        with self._file.changed() as document:
            return document.get(kind, {}).pop(name, None) is not None

    def all(self, kind: str) -> Mapping[str, Definition]:
        """See `Definitions`."""
        found: dict[str, Definition] = self._file.read().get(kind, {})
        return found

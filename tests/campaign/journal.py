"""A producer's journal: what it intends, written and synced before; what became of it, after.

Lines of JSON, each written with one call, so that they outlive whoever is killed::

    ["begin", PRODUCER]                                   an incarnation begins
    ["i", n, id, kind, tenant, type, time, until, quantity, scale, session, subject, attributes,
     key]                                                 the n-th event is about to be recorded;
                                                          with ``until``, at a time between the two
    ["x", n]                                              the n-th was not taken, said the call
    ["k", n]                                              all up to the n-th are on disk
    ["a", n]                                              all up to the n-th are in the log
    ["d", n]                                              the n-th is; of events of foreign
                                                          producers, which k and a leave out
    ["o", PRODUCER, lane, sequence, partition, offset]    this number is there, said the log
    ["f", PRODUCER, lane, sequence, error]                this number is refused for good
    ["closed", left]                                      closed, with so many events left
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


class Journal:
    """An open journal. Lines may be written from any thread."""

    def __init__(self, path: Path) -> None:
        self._file: Final = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def write(self, lines: Iterable[list[object]], *, sync: bool = True) -> None:
        """Write lines in one piece; with ``sync`` they are on disk when this returns."""
        text = "".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines)
        os.write(self._file, text.encode())
        if sync:
            os.fdatasync(self._file)

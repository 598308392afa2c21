"""Spools on this machine's disk, for the person on call: looked at, and sent.

`look` changes nothing: it opens files for reading, recovers nothing, removes nothing, and asks for
a lock only to see whether a living process has it. What it counts is therefore an upper bound:
entries behind the point up to which everything was known to have arrived.
"""

from __future__ import annotations

import os
import time as clock
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from meterstream.spool_directory import Directory, first_of, is_producer
from meterstream.spool_progress import Progress
from meterstream.spool_records import (
    HEADER_BYTES,
    SEGMENT_BYTES_MAX,
    Search,
    marker_of,
    read_header,
)
from meterstream.spool_route import read_route
from meterstream_services.wording import counted

if TYPE_CHECKING:
    from meterstream import Meter

IN_USE: Final = "in use"
LEFT_BEHIND: Final = "left behind"
UNREADABLE: Final = "unreadable"
_PAUSE_SECONDS: Final = 0.2


class Found(NamedTuple):
    """One producer's directory. ``entries`` counts marks of the SDK's own too.

    ``oldest`` is when its oldest segment was begun or last written, as Unix time; None without any.
    ``topic`` is None while it is not known.
    """

    path: Path
    state: str
    entries: int
    bytes: int
    files: int
    oldest: float | None
    topic: str | None
    problem: str | None

    @property
    def producer(self) -> str:
        """The producer's id."""
        return self.path.name


def look(root: Path) -> list[Found]:
    """Every spool below ``root``, the oldest first. Changes nothing.

    None where there is no directory: the SDK makes it with the first event. OSError when it cannot
    be read.
    """
    found: list[Found] = []
    try:
        paths = sorted(root.iterdir())
    except FileNotFoundError:
        return found
    for path in paths:
        if is_producer(path.name) and path.is_dir() and not path.is_symlink():
            with suppress(FileNotFoundError):  # Delivered and removed in this moment.
                found.append(_look_at(path))
    return sorted(found, key=lambda each: each.oldest or 0.0)


class Stuck(Exception):
    """Nothing moved for as long as was allowed; the message says what is known about it."""


def send(
    meter: Meter,
    left: list[Found],
    *,
    patience_seconds: float,
    told: Callable[[int, int], object],
) -> int:
    """Let ``meter``, whose spool is their root, deliver what was left behind; how many entries.

    ``told`` hears how many events are delivered and how many directories still hold some. Raises
    `Stuck` when neither changes for ``patience_seconds``.
    """
    meter.current().wake()  # It begins with the first event otherwise, and there is none.
    moved_at, last = clock.monotonic(), (-1, -1)
    while True:
        held = sum(_has_segments(each.path) for each in left)
        state = meter.status().adopted, held  # Asked in this order: events count before they go.
        if state != last:
            moved_at, last = clock.monotonic(), state
            told(*state)
        delivered, directories = state
        if not directories:
            return delivered
        if clock.monotonic() - moved_at > patience_seconds:
            why = meter.status().last_error or "no reason is known"
            raise Stuck(
                f"{counted(delivered, 'event')} delivered, {counted(directories, 'spool')} to go: "
                f"{why}; is the broker up, and does another process hold them "
                "(`meterstream spool list`)?"
            )
        clock.sleep(_PAUSE_SECONDS)


def _look_at(path: Path) -> Found:
    topic, _ = read_route(path)
    try:
        held = Directory.take(path, shared=True)
        if held is not None:
            held.release()
        state = IN_USE if held is None else LEFT_BEHIND
        directory = Directory(path, os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW))
    except FileNotFoundError:
        raise
    except OSError as trouble:
        return Found(path, UNREADABLE, 0, 0, 0, None, topic, trouble.strerror)
    try:
        names = directory.segment_names()
        entries, problem = _entries(directory, names)
        sizes = [directory.size_of(name) for name in names]
        oldest = min((_written(path / name) for name in names), default=None)
        return Found(path, state, entries, sum(sizes), len(names), oldest, topic, problem)
    finally:
        directory.abandon()


def _entries(directory: Directory, names: list[str]) -> tuple[int, str | None]:
    """How many entries may wait, and what is wrong with the last segment."""
    if not names:
        return 0, None
    producer = directory.path.name
    acknowledged = max(Progress(directory, producer).load(), first_of(names[0]) - 1)
    try:
        data = _read(directory, names[-1])
        problem = None if read_header(data) else "a damaged header"
    except OSError as trouble:
        return 0, trouble.strerror or str(trouble)
    index, position = first_of(names[-1]), HEADER_BYTES
    search = Search(data, marker_of(producer), None)
    while position < len(data):
        if ends := search.run(position, index):
            index, position = index + len(ends), ends[-1]
        elif place := search.next(position, index):
            position, index = place
            problem = "damaged records"
        else:
            break
    return max(0, index - 1 - acknowledged), problem


def _read(directory: Directory, name: str) -> bytes:
    descriptor = directory.open(name, os.O_RDONLY)
    if descriptor is None:
        return b""
    with os.fdopen(descriptor, "rb") as file:
        return file.read(SEGMENT_BYTES_MAX)


def _written(path: Path) -> float:
    try:
        return path.lstat().st_mtime
    except OSError:
        return clock.time()  # Delivered in this moment.


def _has_segments(path: Path) -> bool:
    """Whether anything waits there; notes and what was set aside do not."""
    try:
        return any(name.suffix == ".segment" for name in path.iterdir())
    except OSError:
        return False

"""How an import shows its progress: a bar in a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, Final, Protocol, Self

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

LINE_SECONDS: Final = 5.0


class Shown(Protocol):
    """A watcher of an import that is shown while a ``with`` block lasts."""

    def reading(self, *, rows: int, bytes_read: int, bytes_total: int) -> None:
        """So far into the file."""
        ...

    def counting(self, *, seen: int, events: int) -> None:
        """So many of the events have reached the store."""
        ...

    def say(self, sentence: str) -> None:
        """A person should know this."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


def watcher() -> Shown:
    """A bar when stderr is a terminal, lines otherwise."""
    return BarWatcher() if sys.stderr.isatty() else LineWatcher()


class LineWatcher:
    """A line on stderr at most every five seconds, and whatever a person should know."""

    def __init__(self) -> None:
        self._next = time.monotonic() + LINE_SECONDS

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        return None

    def reading(self, *, rows: int, bytes_read: int, bytes_total: int) -> None:
        """So far into the file."""
        percent = 100 * bytes_read // max(1, bytes_total)
        self._line(f"{rows:,} rows read ({percent} %)")

    def counting(self, *, seen: int, events: int) -> None:
        """So many of the events have reached the store."""
        self._line(f"{seen:,} of {events:,} events counted")

    def say(self, sentence: str) -> None:
        """A person should know this."""
        print(f"meterstream: {sentence}", file=sys.stderr, flush=True)

    def _line(self, sentence: str) -> None:
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + LINE_SECONDS
            self.say(sentence)


class BarWatcher:
    """Two bars of rich on stderr: the file read, the events counted."""

    def __init__(self) -> None:
        # Imported here: only a terminal shows bars.
        from rich.console import Console  # noqa: PLC0415 - loaded by its command
        from rich.progress import (  # noqa: PLC0415 - loaded by its command
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
        )

        self._progress: Progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[unit]}"),
            TimeElapsedColumn(),
            console=Console(stderr=True),
            transient=True,
        )
        self._reading: TaskID | None = None
        self._counting: TaskID | None = None

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._progress.stop()

    def reading(self, *, rows: int, bytes_read: int, bytes_total: int) -> None:
        """So far into the file."""
        if self._reading is None:
            self._reading = self._progress.add_task("reading", total=bytes_total, unit="bytes")
        self._progress.update(self._reading, completed=bytes_read, unit=f"bytes, {rows:,} rows")

    def counting(self, *, seen: int, events: int) -> None:
        """So many of the events have reached the store."""
        if self._counting is None:
            self._counting = self._progress.add_task("counting", total=events, unit="events")
        self._progress.update(self._counting, completed=seen)

    def say(self, sentence: str) -> None:
        """A person should know this."""
        self._progress.console.print(f"meterstream: {sentence}", markup=False, highlight=False)

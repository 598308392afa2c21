"""One session of a tenant, from its start to its end, with signs of life between.

::

    NEW ──start──▶ OPEN ──end──▶ ENDED

Times are taken as the wall clock at the start plus the monotonic time since, so that a clock that
jumps changes no duration. A session belongs to the process and incarnation that started it: in the
child of a fork it sends nothing.
"""

from __future__ import annotations

import os
import time
from enum import StrEnum
from typing import TYPE_CHECKING, Final, Protocol, Self

from meterstream.encoding import SESSION_END, SESSION_HEARTBEAT, SESSION_START

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType


class State(StrEnum):
    """Where a session is in its life."""

    NEW = "new"
    OPEN = "open"
    ENDED = "ended"


class Boundaries(Protocol):
    """What a session says its boundaries to; the meter."""

    @property
    def producer(self) -> str:
        """The incarnation that boundaries are sent under now."""
        ...

    def boundary(
        self,
        kind: int,
        type: str,  # noqa: A002 - the event's own field
        *,
        tenant: str,
        session: str,
        subject: str | None,
        attributes: Mapping[str, str] | None,
        time: int | None,
    ) -> bool:
        """Take one boundary or sign of life. Does not wait."""
        ...

    def follow(self, session: Session) -> None:
        """Send signs of life for a session until it is forgotten or ended."""
        ...

    def forget(self, session: Session) -> None:
        """Send no more signs of life."""
        ...


class Session:
    """A context manager, sync and async alike; nothing in it waits. Safe from any thread.

    ``start`` and ``end`` may be called by hand instead. Further calls of either do nothing.
    """

    def __init__(
        self,
        boundaries: Boundaries,
        type: str,  # noqa: A002 - the event's own field
        *,
        tenant: str,
        session: str | None,
        subject: str | None,
        attributes: Mapping[str, str] | None,
    ) -> None:
        self.id: Final = os.urandom(16).hex() if session is None else session
        self.state = State.NEW
        self._boundaries: Final = boundaries
        self._type: Final = type
        self._tenant: Final = tenant
        self._subject: Final = subject
        self._attributes: Final = attributes
        self._producer = ""
        self._started_microseconds = 0
        self._started_monotonic = 0

    def start(self) -> Self:
        """Begin now. Raises in ``strict`` only."""
        if self.state is State.NEW:
            self.state = State.OPEN
            self._producer = self._boundaries.producer
            self._started_microseconds = time.time_ns() // 1000
            self._started_monotonic = time.monotonic_ns()
            if self._say(SESSION_START):
                self._boundaries.follow(self)
        return self

    def heartbeat(self) -> bool:
        """Say that the session is alive; the background thread does so at intervals by itself."""
        return self.state is State.OPEN and self._say(SESSION_HEARTBEAT)

    def end(self) -> bool:
        """End now. False when the session is not open, belongs to a parent process, or was dropped."""
        if self.state is not State.OPEN:
            return False
        self.state = State.ENDED
        self._boundaries.forget(self)
        return self._say(SESSION_END)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.end()

    async def __aenter__(self) -> Self:
        return self.start()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.end()

    def _say(self, kind: int) -> bool:
        if self._producer != self._boundaries.producer:
            return False
        elapsed = (time.monotonic_ns() - self._started_monotonic) // 1000
        return self._boundaries.boundary(
            kind,
            self._type,
            tenant=self._tenant,
            session=self.id,
            subject=self._subject,
            attributes=self._attributes,
            time=self._started_microseconds + elapsed,
        )

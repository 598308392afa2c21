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
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

from meterstream.context import completed
from meterstream.encoding import SESSION_END, SESSION_HEARTBEAT, SESSION_START
from meterstream.functions import Kind, async_generator, kind_of, rewrapped, wraps
from meterstream.streaming import watch_async
from meterstream_schemas.errors import InvalidEvent

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping
    from types import TracebackType

    from meterstream.incarnation import Incarnation


Function = TypeVar("Function")


class State(StrEnum):
    """Where a session is in its life."""

    NEW = "new"
    OPEN = "open"
    ENDED = "ended"


class Session:
    """A context manager, sync and async alike; nothing in it waits. Safe from any thread.

    ``start`` and ``end`` may be called by hand instead. Further calls of either do nothing. As a
    decorator it stands for sessions like it, one for each call.
    """

    def __init__(
        self,
        incarnation: Callable[[], Incarnation],
        type: str,  # noqa: A002 - the event's own field
        *,
        tenant: str | None,
        session: str | None,
        subject: str | None,
        attributes: Mapping[str, str] | None,
    ) -> None:
        self._said: Final = (tenant, session, subject, attributes)
        self.id: Final = os.urandom(16).hex() if session is None else session
        self.state = State.NEW
        self._incarnation: Final = incarnation
        self._home: Incarnation | None = None
        self._type: Final = type
        self._tenant, self._subject, _, self._attributes = completed(
            tenant, subject, None, attributes
        )
        self._started_microseconds = 0
        self._started_monotonic = 0

    def start(self) -> Self:
        """Begin now. Raises in ``strict`` only."""
        if self.state is State.NEW:
            self.state = State.OPEN
            self._home = self._incarnation()
            self._started_microseconds = time.time_ns() // 1000
            self._started_monotonic = time.monotonic_ns()
            if self._say(SESSION_START):
                self._home.follow(self)
        return self

    def heartbeat(self) -> bool:
        """Say that the session is alive; the background thread does so at intervals by itself."""
        return self.state is State.OPEN and self._say(SESSION_HEARTBEAT)

    def end(self) -> bool:
        """End now. False when it is not open, belongs to a parent process, or was dropped."""
        if self.state is not State.OPEN:
            return False
        self.state = State.ENDED
        if self._home is not None:
            self._home.forget(self)
        return self._say(SESSION_END)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._leave(problem)

    async def __aenter__(self) -> Self:
        return self.start()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._leave(problem)

    def _leave(self, problem: BaseException | None) -> None:
        """End; what that raises by policy takes the place of no exception of the host."""
        try:
            self.end()
        except Exception:
            if problem is None:
                raise

    def __call__(self, function: Function) -> Function:
        """``function``, each call of it in a session of its own; a generator until it ends."""
        return rewrapped(function, self._around)

    def _again(self) -> Session:
        """One like this, begun anew, with what the context says now."""
        tenant, session, subject, attributes = self._said
        return Session(
            self._incarnation,
            self._type,
            tenant=tenant,
            session=session,
            subject=subject,
            attributes=attributes,
        )

    def _around(self, function: Callable[..., Any]) -> Callable[..., Any]:
        kind = kind_of(function)
        if kind is Kind.COROUTINE:

            @wraps(function)
            async def awaited(*args: object, **kwargs: object) -> object:
                with self._again():
                    return await function(*args, **kwargs)

            return awaited
        if kind is Kind.GENERATOR:

            @wraps(function)
            def steps(*args: object, **kwargs: object) -> Generator[Any, Any, Any]:
                with self._again():
                    return (yield from function(*args, **kwargs))

            return steps
        if kind is Kind.ASYNC_GENERATOR:
            return async_generator(function, self._begun(function))

        @wraps(function)
        def called(*args: object, **kwargs: object) -> object:
            with self._again():
                return function(*args, **kwargs)

        return called

    def _begun(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def begin(args: tuple[Any, ...], kwargs: dict[str, Any]) -> object:
            session = self._again().start()

            def end(_: BaseException | None) -> None:
                session.end()

            return watch_async(function(*args, **kwargs), on_item=_ignore, on_end=end)

        return begin

    def _say(self, kind: int) -> bool:
        home = self._home
        if home is None or home is not self._incarnation():
            return False
        elapsed = (time.monotonic_ns() - self._started_monotonic) // 1000
        return boundary(
            home,
            kind,
            self._type,
            tenant=self._tenant,
            session=self.id,
            subject=self._subject,
            attributes=self._attributes,
            time=self._started_microseconds + elapsed,
            key=None,
        )


def _ignore(_: object) -> None:
    """What a session makes of an item."""


def boundary(
    incarnation: Incarnation,
    kind: int,
    event_type: object,
    *,
    tenant: object,
    session: object,
    subject: object,
    attributes: object,
    time: object,
    key: object,
) -> bool:
    """Take one boundary or sign of life. Returns and raises as `meterstream.meter.Meter.record`."""
    if session is None:
        return incarnation.refused(
            InvalidEvent("session", "is missing; pass the session's id"), event_type
        )
    try:
        number = incarnation.intake.take(
            kind, event_type, tenant, 0, time, session, subject, attributes, key
        )
        return number > 0
    except Exception as problem:  # noqa: BLE001 - nothing may reach the host
        return incarnation.refused(problem, event_type)

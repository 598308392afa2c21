"""The calls of a meter that are about sessions."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING

from meterstream.encoding import SESSION_END, SESSION_HEARTBEAT, SESSION_START
from meterstream.session import Session, boundary

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from meterstream.incarnation import Incarnation


class Boundaries:
    """Starts, signs of life and ends of sessions. A part of `meterstream.meter.Meter`."""

    @abstractmethod
    def current(self) -> Incarnation:
        """The incarnation that takes events now; a fork gives the child another."""

    def session(
        self,
        type: str,  # noqa: A002 - the event's own field
        *,
        tenant: str,
        session: str | None = None,
        subject: str | None = None,
        attributes: Mapping[str, str] | None = None,
    ) -> Session:
        """A session for a ``with`` or ``async with`` block, with signs of life while it is open.

        ``session`` is its id; a random one by default. Nothing is sent before the block begins.
        """
        return Session(
            self.current,
            type,
            tenant=tenant,
            session=session,
            subject=subject,
            attributes=attributes,
        )

    def session_start(
        self,
        type: str,  # noqa: A002 - the event's own field
        *,
        tenant: str,
        session: str,
        subject: str | None = None,
        attributes: Mapping[str, str] | None = None,
        time: datetime | int | None = None,
        key: str | None = None,
    ) -> bool:
        """Say that a session started. Its signs of life are the caller's. Returns as `record`."""
        return boundary(
            self.current(),
            SESSION_START,
            type,
            tenant=tenant,
            session=session,
            subject=subject,
            attributes=attributes,
            time=time,
            key=key,
        )

    def session_heartbeat(
        self,
        type: str,  # noqa: A002 - the event's own field
        *,
        tenant: str,
        session: str,
        subject: str | None = None,
        attributes: Mapping[str, str] | None = None,
        time: datetime | int | None = None,
        key: str | None = None,
    ) -> bool:
        """Say that a session is alive. Returns as `record`."""
        return boundary(
            self.current(),
            SESSION_HEARTBEAT,
            type,
            tenant=tenant,
            session=session,
            subject=subject,
            attributes=attributes,
            time=time,
            key=key,
        )

    def session_end(
        self,
        type: str,  # noqa: A002 - the event's own field
        *,
        tenant: str,
        session: str,
        subject: str | None = None,
        attributes: Mapping[str, str] | None = None,
        time: datetime | int | None = None,
        key: str | None = None,
    ) -> bool:
        """Say that a session ended. Returns as `record`."""
        return boundary(
            self.current(),
            SESSION_END,
            type,
            tenant=tenant,
            session=session,
            subject=subject,
            attributes=attributes,
            time=time,
            key=key,
        )

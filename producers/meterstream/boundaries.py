"""The calls of a meter that are about sessions."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING

from meterstream.context import completed
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
        tenant: str | None = None,
        session: str | None = None,
        subject: str | None = None,
        attributes: Mapping[str, str] | None = None,
    ) -> Session:
        """A session for a ``with`` or ``async with`` block, with signs of life while it is open.

        ``session`` is its id; a random one by default. Nothing is sent before the block begins.
        Tenant, subject and attributes may come from `meterstream.context`, as it is at this call.
        As a decorator it makes each call of a function, of any kind, a session of its own.
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
        tenant: str | None = None,
        session: str | None = None,
        subject: str | None = None,
        attributes: Mapping[str, str] | None = None,
        time: datetime | int | None = None,
        key: str | None = None,
    ) -> bool:
        """Say that a session started. Its signs of life are the caller's. Returns as `record`."""
        return self._boundary(SESSION_START, type, tenant, session, subject, attributes, time, key)

    def session_heartbeat(
        self,
        type: str,  # noqa: A002 - the event's own field
        *,
        tenant: str | None = None,
        session: str | None = None,
        subject: str | None = None,
        attributes: Mapping[str, str] | None = None,
        time: datetime | int | None = None,
        key: str | None = None,
    ) -> bool:
        """Say that a session is alive. Returns as `record`."""
        return self._boundary(
            SESSION_HEARTBEAT, type, tenant, session, subject, attributes, time, key
        )

    def session_end(
        self,
        type: str,  # noqa: A002 - the event's own field
        *,
        tenant: str | None = None,
        session: str | None = None,
        subject: str | None = None,
        attributes: Mapping[str, str] | None = None,
        time: datetime | int | None = None,
        key: str | None = None,
    ) -> bool:
        """Say that a session ended. Returns as `record`."""
        return self._boundary(SESSION_END, type, tenant, session, subject, attributes, time, key)

    def _boundary(  # noqa: PLR0917 - by position, from the three calls above only
        self,
        kind: int,
        event_type: str,
        tenant: str | None,
        session: str | None,
        subject: str | None,
        attributes: Mapping[str, str] | None,
        time: datetime | int | None,
        key: str | None,
    ) -> bool:
        """A boundary, completed by what holds where it is told."""
        tenant, subject, session, attributes = completed(tenant, subject, session, attributes)
        return boundary(
            self.current(),
            kind,
            event_type,
            tenant=tenant,
            session=session,
            subject=subject,
            attributes=attributes,
            time=time,
            key=key,
        )

"""The calls of a meter that make metering short: blocks, functions, streams, hot counters."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING

from meterstream.context import Context

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime
    from decimal import Decimal

    from meterstream.incarnation import Incarnation


class Conveniences:
    """Everything here ends in ``record``. A part of `meterstream.meter.Meter`."""

    @abstractmethod
    def record(
        self,
        type: str,  # noqa: A002 - the event's own field
        *,
        tenant: str | None = None,
        quantity: int | Decimal | str = 1,
        time: datetime | int | None = None,
        session: str | None = None,
        subject: str | None = None,
        attributes: Mapping[str, str] | None = None,
        key: str | None = None,
    ) -> bool:
        """See `meterstream.meter.Meter.record`."""

    @abstractmethod
    def current(self) -> Incarnation:
        """The incarnation that takes events now; a fork gives the child another."""

    def context(
        self,
        *,
        tenant: str | None = None,
        subject: str | None = None,
        session: str | None = None,
        attributes: Mapping[str, str] | None = None,
    ) -> Context:
        """Say once what calls inside a ``with`` block or a decorated function need not say.

        Holds for every meter of the process, in this thread or task. See `meterstream.context`.
        """
        try:
            return Context(tenant=tenant, subject=subject, session=session, attributes=attributes)
        except Exception as problem:  # noqa: BLE001 - such as attributes that are no mapping
            self.current().refused(problem)
            return Context(tenant=tenant, subject=subject, session=session)

    def _coalesce(  # noqa: PLR0917 - by position: calls and keywords cost
        self,
        seconds: float,
        event_type: str,
        tenant: str | None,
        quantity: int | Decimal | str,
        time: datetime | int | None,
        session: str | None,
        subject: str | None,
        attributes: Mapping[str, str] | None,
        key: str | None,
    ) -> bool:
        """See `meterstream.coalescing`."""
        raise NotImplementedError

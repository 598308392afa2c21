"""The calls of a meter that make metering short: blocks, functions, streams, hot counters."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING

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

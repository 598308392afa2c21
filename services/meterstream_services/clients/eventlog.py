"""The events that the log has, for clients that list them: the port."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple, Protocol

from meterstream_schemas.events import MeterEvent


class Listed(NamedTuple):
    """One event, where the log has it, and its append time (microseconds UTC)."""

    event: MeterEvent
    partition: int
    offset: int
    appended: int


class EventLog(Protocol):
    """Safe from several threads; blocks on the broker."""

    def events(
        self,
        tenants: Collection[str],
        types: Collection[str],
        start: int,
        end: int,
        *,
        limit: int,
        newest_first: bool = False,
        subject: str | None = None,
    ) -> list[Listed]:
        """Events of some tenants and types with event times in [start, end), by event time.

        Each event that counted once, repeats left out; with ``subject`` only those of it, and
        ``limit`` of these. Raises `StoreUnavailable` when the log or
        the store cannot be read.
        """
        ...

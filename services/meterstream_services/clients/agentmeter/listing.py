"""Events of projects as the log has them, filtered."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Final, NamedTuple

from starlette.exceptions import HTTPException

from meterstream_aggregator.civil import TIME_MAX
from meterstream_schemas.events import EventKind, MeterEvent
from meterstream_schemas.quantity import to_decimal
from meterstream_services.clients.eventlog import Listed
from meterstream_services.http.parts import Parts

EVENTS_MAX: Final = 10_000
"""In one list."""
READ_MAX: Final = 100_000
"""Read from the log at most, for one answer."""


class Wanted(NamedTuple):
    """Which events: [start, end), ``end`` None is no end; None in ``where`` is any value."""

    tenants: tuple[str, ...]
    types: tuple[str, ...]
    start: int
    end: int | None
    where: Mapping[str, str | None]
    subject: str | None

    @property
    def until(self) -> int:
        """The first instant that is not wanted."""
        return TIME_MAX if self.end is None else min(self.end, TIME_MAX)


def listed_events(parts: Parts, wanted: Wanted, *, limit: int) -> list[Listed]:
    """The latest ``limit`` of them, the latest first. Raises 503 without a log."""
    if not wanted.tenants or wanted.start >= wanted.until:
        return []
    if parts.log is None:
        raise HTTPException(503, "events cannot be listed: this service is told of no broker")
    read = min(max(4 * limit, 1000), READ_MAX)
    while True:
        raw = parts.log.events(
            wanted.tenants,
            wanted.types,
            wanted.start,
            wanted.until,
            limit=read,
            newest_first=True,
        )
        found = [each for each in raw if is_wanted(each.event, wanted)]
        if len(found) >= limit or len(raw) < read:
            return found[:limit]
        if read == READ_MAX:
            raise HTTPException(
                422, f"more than {READ_MAX} other events come first; name a shorter time"
            )
        read = min(4 * read, READ_MAX)


def is_wanted(event: MeterEvent, wanted: Wanted) -> bool:
    """Whether an event that the log gave is one that was asked for."""
    return (
        event.kind is EventKind.USAGE
        and wanted.subject in {None, event.subject}
        and all(
            value is None or event.attributes.get(name) == value
            for name, value in wanted.where.items()
        )
    )


def quantity_of(event: MeterEvent) -> Decimal:
    """Its amount."""
    return to_decimal(event.quantity, event.scale)

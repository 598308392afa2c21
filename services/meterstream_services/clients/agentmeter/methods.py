"""What a meter type's ``aggregation_method`` makes of its events.

The package and its vendor name no methods but ``sum``; the others here are those that metering
services have. Counts and averages come from the figures, as sums do. The greatest, the least and
the latest quantity are no figures of the catalogue's meter, and are read from the log: the latest
of any number of events, the other two of at most `READ_MAX`. An unknown method is a sum.
"""

from __future__ import annotations

from decimal import Context, Decimal
from typing import Final

from starlette.exceptions import HTTPException

from meterstream_services.clients.agentmeter.listing import (
    READ_MAX,
    Wanted,
    is_wanted,
    listed_events,
    quantity_of,
)
from meterstream_services.clients.agentmeter.totals import Totals
from meterstream_services.http.parts import Parts

SUM: Final = "sum"
_AVERAGES: Final = {"avg", "average", "mean"}
_PICKED: Final = {"max": max, "maximum": max, "min": min, "minimum": min}
_LATEST: Final = {"last", "latest"}
_DIVIDING: Final = Context(prec=34)
"""An average is rounded half to even to this many digits."""


def measured(parts: Parts, wanted: Wanted, method: str, found: Totals) -> Decimal:
    """What the wanted events come to; 0 without any. Blocks. Raises 422 and 503."""
    name = method.strip().lower()
    if name == "count" or not found.events:
        return Decimal(found.events)
    if name in _AVERAGES:
        return _DIVIDING.divide(found.quantity, Decimal(found.events))
    if name in _PICKED:
        return _PICKED[name](_quantities(parts, wanted, found.events))
    if name in _LATEST:
        newest = listed_events(parts, wanted, limit=1)
        if not newest:
            raise _gone()
        return quantity_of(newest[0].event)
    return found.quantity


def _quantities(parts: Parts, wanted: Wanted, events: int) -> list[Decimal]:
    """Of all events, read from the log. Raises 422 where not all can be, 503 without a log."""
    if parts.log is None:
        raise HTTPException(503, "events cannot be compared: this service is told of no broker")
    raw = parts.log.events(
        wanted.tenants,
        wanted.types,
        wanted.start,
        wanted.until,
        limit=READ_MAX,
        subject=wanted.subject,
    )
    if len(raw) == READ_MAX:
        raise HTTPException(
            422, f"{READ_MAX} events or more cannot be compared; name a shorter time"
        )
    found = [quantity_of(each.event) for each in raw if is_wanted(each.event, wanted)]
    if len(found) < events:
        raise _gone()
    return found


def _gone() -> HTTPException:
    return HTTPException(422, "the log has no longer all events of this time; name a later start")

"""Which periods a case asks for."""

from __future__ import annotations

from typing import Final

from meterstream_aggregator.catalogue import MINUTE
from meterstream_aggregator.civil import day_start, local_time
from meterstream_aggregator.cycles import cycle_at, cycle_bounds
from meterstream_aggregator.periods import period_bounds
from meterstream_services.conformance.cases import Case
from meterstream_services.conformance.errors import Skipped
from meterstream_services.conformance.translating import WINDOWS
from meterstream_services.zones import find_zone

_EVERY: Final = {
    "minute": "1m",
    "15min": "15m",
    "hour": "1h",
    "day": "1d",
    "week": "1w",
    "month": "1mo",
    "quarter": "1q",
    "year": "1y",
}


def bounds_of(case: Case) -> list[int]:
    """The boundaries of the periods that the case asks for, microseconds UTC."""
    query, meter = case.query, case.meter
    zone = find_zone(query.timezone or meter.timezone or "UTC")
    word = meter.bucket or query.window
    if word is None:
        return [query.start, query.end]
    if word == "billing_period":
        anchor = meter.billing_anchor
        if anchor is None:
            day = meter.billing_cycle_day or 1
            anchor = day_start(local_time(query.start, zone).date().replace(day=1), zone)
            anchor = day_start(local_time(anchor, zone).date().replace(month=1, day=day), zone)
        low = cycle_at(query.start, anchor, meter.billing_months, zone)[0]
        return cycle_bounds(low, query.end, anchor, meter.billing_months, zone)
    if word not in _EVERY:
        raise Skipped(f"meterstream has no period called {word!r}")
    return period_bounds(query.start, query.end, _EVERY[word], zone, window=1)


def window_for(bounds: list[int]) -> int | None:
    """The largest window on whose boundaries all of these lie; None when no window does."""
    return next(
        (size * MINUTE for size in WINDOWS if not any(bound % (size * MINUTE) for bound in bounds)),
        None,
    )

"""Thresholds: which values of a meter are reached, when, and by which event. Pure.

A threshold watches one figure per period and tenant or account. The figure starts at nothing and
takes *steps* in log order, one per event (or per session whose charge moves). A value is reached by
the first step after which the figure is at it or beyond, even when a later step takes the figure
below again; each value of a period is reached once. Steps are facts of the log: however it is cut
into batches, the same step reaches the same value.
"""

from __future__ import annotations

import hashlib
import json
from bisect import bisect_right
from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC
from typing import Any, Final, NamedTuple
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt

from meterstream_aggregator.catalogue import DAY, Aggregate, Threshold, digest
from meterstream_aggregator.civil import TIME_MAX, TIME_MIN, InvalidQuestion, format_time
from meterstream_aggregator.periods import Every, Unit, parse_every, period_bounds
from meterstream_schemas.events import NOTICES_TOPIC
from meterstream_schemas.quantity import Amount, format_amount, parse_amount, rescale

WATCHED: Final = frozenset({Aggregate.COUNT, Aggregate.SUM, Aggregate.MAX, Aggregate.SESSION})
"""Aggregates of which a threshold may be watched."""
TENANT: Final = "tenant"
"""The scope of a threshold that watches each tenant by itself; the other is ``account``."""
NOBODY: Final = ""
"""In place of an account: whoever belongs to none."""
NO_OFFSET: Final = -1
"""In place of an offset where no record took the step: a session timed out."""

_SPAN_MAX: Final = 2**62
_PERIODS_CACHED_MAX: Final = 100_000


class Place(NamedTuple):
    """Where the log took a step. ``offset`` is `NO_OFFSET` where time alone did it."""

    partition: int
    offset: int
    log_time: int


@dataclass(frozen=True, slots=True)
class Movement:
    """The steps of one watched figure in one batch, in log order, as parallel columns.

    ``amounts`` are integers at ``scale`` (int64, or Python integers where sums might outgrow it),
    added up, or with ``greatest`` joined by the greater. ``waited`` are the ids of rows that waited
    for their account and are told of here. ``topic`` is where notices go.
    """

    threshold: Threshold
    who: str
    start: int
    end: int
    greatest: bool
    scale: int
    amounts: npt.NDArray[Any]
    places: npt.NDArray[np.int64]
    """One row per step: see `Place`."""
    waited: tuple[int, ...] = ()
    topic: str = NOTICES_TOPIC


class Waiting(NamedTuple):
    """A step of a tenant whose account could not be asked for. ``threshold`` is its `identity`.

    The period is [start, end). ``place`` has the log time 0 for what nobody watched when it came.
    """

    threshold: str
    tenant: str
    window: int
    start: int
    end: int
    amount: Amount
    place: Place


class Crossing(NamedTuple):
    """A value that is reached. ``place`` is None when it was before anybody watched."""

    at: str
    value: Amount
    place: Place | None


class TotalRow(NamedTuple):
    """A running total. ``threshold`` is its `identity`, ``who`` a tenant or an account."""

    threshold: str
    start: int
    who: str
    total: Amount


class FiredRow(NamedTuple):
    """A value that was told of; ``place`` has no log time where nobody watched before."""

    threshold: str
    start: int
    who: str
    at: str
    value: Amount
    place: Place


def identity(threshold: Threshold) -> str:
    """A name for what is added up: another meter, scope or period makes it another figure."""
    facts = [threshold.meter, threshold.scope, threshold.every, threshold.zone, threshold.anchor]
    return f"{threshold.name}:{digest(facts)}"


def advanced(
    total: Amount | None, movement: Movement, fired: Collection[str]
) -> tuple[Amount, list[Crossing]]:
    """The figure after the steps, and which values are reached that were not ``fired`` before.

    ``total`` is the figure before, None where there was none.
    """
    scale = movement.scale if total is None else max(movement.scale, total.scale)
    amounts = _at_scale(movement.amounts, scale - movement.scale)
    before = None if total is None else rescale(total.quantity, total.scale, scale)
    heights = _heights(before, amounts, movement.greatest)
    crossings: list[Crossing] = []
    for at in movement.threshold.at:
        if at in fired:
            continue
        wanted = parse_amount(at)
        # Compared at the finer of both scales; exact, and small numbers in all but odd cases.
        finer = max(scale, wanted.scale)
        level = rescale(wanted.quantity, wanted.scale, finer)
        if before is not None and before * 10 ** (finer - scale) >= level:
            crossings.append(Crossing(at, Amount(before, scale), None))
            continue
        least = -(-level // 10 ** (finer - scale))
        reached = np.flatnonzero(heights >= least)
        if len(reached):
            step = int(reached[0])
            place = Place(*movement.places[step].tolist())
            known = place if place.log_time else None
            crossings.append(Crossing(at, Amount(int(heights[step]), scale), known))
    return Amount(int(heights[-1]), scale), crossings


def joined(total: Amount | None, amount: Amount, *, greatest: bool) -> Amount:
    """A figure and one amount more."""
    if total is None:
        return amount
    scale = max(total.scale, amount.scale)
    one, other = rescale(*total, scale), rescale(*amount, scale)
    return Amount(max(one, other) if greatest else one + other, scale)


def _at_scale(amounts: npt.NDArray[Any], places: int) -> npt.NDArray[Any]:
    """Amounts with so many decimal places more."""
    if not places:
        return amounts
    factor = 10**places
    if amounts.dtype == object or _largest(amounts) * factor >= _SPAN_MAX:
        amounts = amounts.astype(object)
    scaled: npt.NDArray[Any] = amounts * factor
    return scaled


def _heights(before: int | None, amounts: npt.NDArray[Any], greatest: bool) -> npt.NDArray[Any]:
    """The figure after each step."""
    if greatest:
        if before is not None and abs(before) >= _SPAN_MAX:
            amounts = amounts.astype(object)
        highest: npt.NDArray[Any] = np.maximum.accumulate(amounts)
        return highest if before is None else np.maximum(highest, before)
    first = before or 0
    if amounts.dtype != object and _largest(amounts) * len(amounts) + abs(first) >= _SPAN_MAX:
        amounts = amounts.astype(object)
    heights: npt.NDArray[Any] = np.cumsum(amounts) + first
    return heights


def _largest(amounts: npt.NDArray[np.int64]) -> int:
    return max(abs(int(amounts.max())), abs(int(amounts.min())))


def notice(movement: Movement, crossing: Crossing) -> tuple[bytes, bytes]:
    """Key and value of the message that tells of a value reached. JSON, the same each time."""
    threshold, zone = movement.threshold, ZoneInfo(movement.threshold.zone)
    place = crossing.place
    name = "|".join((threshold.name, movement.who, format_time(movement.start, UTC), crossing.at))
    key = f"{identity(threshold)}|{name}".encode()
    told = {
        "id": f"notice_{hashlib.blake2b(key, digest_size=16).hexdigest()}",
        "type": "threshold.reached",
        "timestamp": None if place is None else format_time(place.log_time, UTC),
        "data": {
            "threshold": threshold.name,
            "meter": threshold.meter,
            threshold.scope: movement.who,
            "from": format_time(movement.start, zone),
            "to": format_time(movement.end, zone),
            "zone": threshold.zone,
            "at": crossing.at,
            "value": format_amount(*crossing.value),
            "partition": None if place is None else place.partition,
            "offset": None if place is None or place.offset == NO_OFFSET else place.offset,
        },
    }
    return name.encode(), json.dumps(told, ensure_ascii=False, separators=(",", ":")).encode()


def cut(every: str, anchor: int) -> Every:
    """How time is cut for a threshold. Raises `InvalidQuestion` where periods would need a start.

    Periods must be the same whoever asks: spans that divide a day, days, ISO weeks, months by an
    anchor, quarters and years.
    """
    found = parse_every(every, anchor_day=anchor)
    fixed = (
        (found.unit is Unit.SPAN and found.count < DAY and DAY % found.count == 0)
        or (found.unit in {Unit.DAY, Unit.WEEK, Unit.MONTH} and found.count == 1)
        or (found.aligned and every in {"1q", "1y"})
    )
    if not fixed:
        raise InvalidQuestion(
            "every",
            f"{every!r} has no first period that all agree on; "
            "write 15m, 1h, 6h, 1d, 1w, 1mo, 1q or 1y",
        )
    return found


class Periods:
    """The period of a threshold that holds an instant; a bounded cache."""

    def __init__(self, threshold: Threshold) -> None:
        self._every = cut(threshold.every, threshold.anchor)
        self._zone = ZoneInfo(threshold.zone)
        self._known: dict[int, tuple[int, int]] = {}

    def of(self, time: int) -> tuple[int, int]:
        """The period [start, end) that holds ``time``."""
        known = self._known.get(time)
        if known is None:
            if len(self._known) >= _PERIODS_CACHED_MAX:
                self._known.clear()
            known = self._known[time] = self._find(time)
        return known

    def _find(self, time: int) -> tuple[int, int]:
        """Cut a stretch that is certain to hold the whole period."""
        match self._every.unit:
            case Unit.MONTH:
                reach = 33 * DAY * self._every.count
            case Unit.WEEK:
                reach = 9 * DAY
            case _:
                reach = 3 * DAY
        low, high = max(time - reach, TIME_MIN), min(time + reach, TIME_MAX)
        # Any instant will do here: that periods lie on windows was seen to at the catalogue's door.
        bounds = period_bounds(low, high, self._every, self._zone, window=1)
        at = bisect_right(bounds, time)
        return bounds[at - 1], bounds[at]

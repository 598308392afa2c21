"""What a threshold of ``meters.yaml`` may say: see `catalogue_forms`."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from enum import StrEnum
from functools import lru_cache
from typing import Annotated, Final
from zoneinfo import ZoneInfo, available_timezones

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from meterstream_aggregator.catalogue import DAY, Aggregate, Meter, Threshold
from meterstream_aggregator.catalogue_texts import name
from meterstream_aggregator.civil import InvalidQuestion, day_start, local_time
from meterstream_aggregator.periods import period_bounds
from meterstream_aggregator.thresholds import WATCHED, cut
from meterstream_schemas.errors import InvalidQuantity
from meterstream_schemas.quantity import format_amount, parse_amount

_Name = Annotated[str, AfterValidator(name)]
_CHECKED_DAYS: Final = 730
"""Days over which the periods of a threshold must lie on the windows of its meter."""
_CHECKED_FROM: Final = 1_735_689_600_000_000


class Scope(StrEnum):
    """Whose usage is added up."""

    TENANT = "tenant"
    ACCOUNT = "account"


def _plain(value: object) -> str:
    """A value to be reached, as plain decimal text."""
    try:
        quantity, scale = parse_amount(value, field="at")
    except InvalidQuantity as problem:
        raise ValueError(str(problem).removeprefix("at: ")) from None
    if quantity <= 0:
        raise ValueError("is reached before anything is used; write a number above 0")
    return format_amount(quantity, scale)


def _every(value: str) -> str:
    value = "1mo" if value == "billing" else value
    try:
        cut(value, 1)
    except InvalidQuestion as problem:
        raise ValueError(problem.problem) from None
    return value


def _zone(value: str) -> str:
    if value not in _zone_names():
        near = difflib.get_close_matches(value[:64], _zone_names(), n=3, cutoff=0.7)
        hint = f"did you mean {', '.join(near)}?" if near else "write Europe/Berlin, or UTC"
        raise ValueError(f"is no IANA time zone; {hint}")
    return value


@lru_cache(maxsize=1)
def _zone_names() -> frozenset[str]:
    return frozenset(available_timezones())


class ThresholdEntry(BaseModel):
    """One entry under ``thresholds``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: _Name
    meter: _Name
    scope: Scope = Scope.TENANT
    of: list[str] = Field(default_factory=list)
    every: Annotated[str, AfterValidator(_every)] = "1mo"
    zone: Annotated[str, AfterValidator(_zone)] = "UTC"
    anchor: Annotated[int, Field(ge=1, le=31)] = 1
    at: Annotated[list[Annotated[str, BeforeValidator(_plain)]], Field(min_length=1, max_length=32)]

    def problem(self, definitions: Sequence[Meter]) -> str | None:
        """What is wrong with it beside these definitions of its meter, or None."""
        if not definitions:
            return f"meter: no meter is called {self.meter!r}; mend it, or add the meter"
        aggregates = {meter.aggregate for meter in definitions}
        if not aggregates <= WATCHED:
            return (
                f"meter: {self.meter!r} is {min(aggregates - WATCHED)}, whose value does not add "
                "up; name a meter of count, sum, max or session"
            )
        if Aggregate.MAX in aggregates and len(aggregates) > 1:
            return f"meter: {self.meter!r} is max at times and added at others; name another"
        amounts = [parse_amount(text).decimal() for text in self.at]
        if sorted(set(amounts)) != amounts:
            return 'at: is not ascending; write each value once, the smallest first: ["80", "100"]'
        if self.anchor != 1 and not self.every.endswith(("mo", "q", "y")):
            return "anchor: only months, quarters and years have an anchor; remove it"
        return self._off_windows(max(meter.window for meter in definitions))

    def _off_windows(self, window: int) -> str | None:
        zone = ZoneInfo(self.zone)
        first = day_start(local_time(_CHECKED_FROM, zone).date(), zone)
        last = day_start(local_time(first + _CHECKED_DAYS * DAY, zone).date(), zone)
        every = cut(self.every, self.anchor)
        try:
            period_bounds(first, last, "1d", zone, window=window)
            if every.unit == "span":
                period_bounds(first, first + 2 * DAY, every, zone, window=window)
        except InvalidQuestion as problem:
            return f"every: {problem.problem}"
        return None

    def value(self) -> Threshold:
        """The threshold that the entry describes."""
        return Threshold(
            name=self.name,
            meter=self.meter,
            scope=self.scope.value,
            of=tuple(sorted(set(self.of))),
            every=self.every,
            zone=self.zone,
            anchor=self.anchor,
            at=tuple(self.at),
        )

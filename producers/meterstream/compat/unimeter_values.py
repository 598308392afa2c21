"""What Unimeter's calls take and give: metrics, events, periods of time, figures, errors.

::

    UnimeterError (Exception)
    ├── BackpressureError   the buffer is full; ingest the same events again after a while
    ├── ServerError         the message says what is wrong and what to do
    │   └── NotFoundError
    ├── AlreadyExistsError  never raised: `create` replaces
    └── ConnectionError     nothing answers
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from decimal import ROUND_HALF_EVEN, Decimal
from enum import IntEnum
from typing import Final

SCALE: Final = 1_000_000
"""What `scale` multiplies with."""


class UnimeterError(Exception):
    """Base of what the client raises."""


class BackpressureError(UnimeterError):
    """The buffer is full. Events that were not taken are told apart when they come again."""


class ServerError(UnimeterError):
    """Something was refused, or did not come to an end in time."""


class NotFoundError(ServerError):
    """There is no such thing."""


class AlreadyExistsError(UnimeterError):
    """Never raised here: creating what is there replaces it."""


class ConnectionError(UnimeterError):  # noqa: A001 - the name that the package exports
    """Nothing answers, neither in time."""


class AggType(IntEnum):
    """How a metric joins values."""

    COUNT = 0
    SUM = 1
    MAX = 2
    LATEST = 3
    COUNT_UNIQUE = 4


class PeriodType(IntEnum):
    """How a metric cuts time, in UTC: 30 days since 1970, months from a day on, days, ISO weeks."""

    FIXED = 0
    CALENDAR = 1
    DAY = 2
    WEEK = 3


class OperationType(IntEnum):
    """What an event does to a count of unique values."""

    NONE = 0
    ADD = 1
    REMOVE = 2


class DeliveryMode(IntEnum):
    """Both wait here until the events are in the log, replicated."""

    ASYNC = 0
    SYNC = 1


@dataclass(slots=True)
class DimensionFilter:
    """A property by which queries of a metric may filter. Every value of it is kept apart."""

    key: str
    values: list[str] = field(default_factory=list[str])


@dataclass(slots=True)
class AlertThreshold:
    """A value to be told of, as `scale` makes it where the metric's values are scaled."""

    code: str
    value: int
    recurring: bool = False


@dataclass(slots=True)
class MetricSchema:
    """A metric."""

    code: str
    agg_type: AggType
    recurring: bool = False
    field_name: str = ""
    period_type: PeriodType = PeriodType.FIXED
    billing_cycle_day: int = 1
    filters: list[DimensionFilter] = field(default_factory=list[DimensionFilter])
    thresholds: list[AlertThreshold] = field(default_factory=list[AlertThreshold])


@dataclass(slots=True, eq=False, weakref_slot=True)
class Event:
    """One use. ``value`` is kept exactly as given; texts only where it is counted as unique.

    ``timestamp`` is an aware datetime, now by default.
    """

    account_id: int | str
    metric_code: str
    value: int | str = 1
    timestamp: datetime | None = None
    operation_type: OperationType = OperationType.NONE
    delivery_mode: DeliveryMode = DeliveryMode.ASYNC
    properties: dict[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, slots=True)
class Period:
    """Time from ``start`` until before ``end``: aware datetimes on whole quarters of an hour."""

    start: datetime
    end: datetime


@dataclass(frozen=True, slots=True)
class IngestResult:
    """What became of a batch. ``last_offset`` is the place of its last event in its partition."""

    n_stored: int
    n_duplicates: int
    last_offset: int


@dataclass(frozen=True, slots=True)
class AggValue:
    """A figure. Only what the metric's aggregation tells is set, and ``count`` for sums too.

    Of a metric that nobody defined everything is set. Bit i of ``alert_flags`` says that the
    metric's threshold i is reached by this figure. ``last_timestamp`` is not known here: always 0.
    """

    sum: int = 0
    count: int = 0
    max: int = 0
    last_value: int = 0
    last_timestamp: int = 0
    alert_flags: int = 0


@dataclass(frozen=True, slots=True)
class UsageResult:
    """A figure and the time it is about."""

    value: AggValue
    period_start: datetime | None = None
    period_end: datetime | None = None


@dataclass(frozen=True, slots=True)
class AlertRecord:
    """A threshold that was reached in the present period, and the event that did it."""

    node_addr: str
    log_offset: int
    account_id: int
    metric_code: str
    threshold_code: str
    value_at_cross: int
    triggered_at: datetime


def scale(value: float | Decimal | str) -> int:
    """Millionths of a number, by its decimal digits; beyond the sixth they round half to even."""
    number = value if isinstance(value, Decimal) else Decimal(str(value))
    return int((number * SCALE).to_integral_value(ROUND_HALF_EVEN))


def unscale(value: int) -> float:
    """The number that is nearest to so many millionths."""
    return value / SCALE

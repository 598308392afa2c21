"""What is known before a batch is folded: loaded first, then folded over, never asked again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from meterstream_aggregator.catalogue import DAY, Aggregate, Catalogue, Meter
from meterstream_aggregator.changes import CallerKey
from meterstream_aggregator.dedup import Numbers, ProducerKey, RefusedNumber
from meterstream_aggregator.sessions import Session, SessionKey
from meterstream_aggregator.subjects import Subject, SubjectKey

KEY_HORIZON: Final = 90 * DAY
"""How long, in append time, a caller's key is remembered (DESIGN section 10)."""
PRODUCER_HORIZON: Final = 90 * DAY
"""How long, in append time, a silent producer may come back (DESIGN section 10)."""


class SeriesOwner(NamedTuple):
    """Who has a number of series: a tenant, under one definition. ``version`` is the meter's."""

    partition: int
    tenant: str
    version: str


@dataclass(slots=True)
class State:
    """Everything one fold reads. ``numbers``, ``refused`` and ``keys`` change in place.

    ``before`` and ``after`` are each partition's highest append time without and with the batch,
    records that are no events included. Append times never fall within a partition: see
    `batch.log_times`. ``due`` are the sessions whose deadline the batch's append
    times reach, whether or not the batch tells of them.
    """

    before: Mapping[int, int]
    after: Mapping[int, int]
    numbers: dict[ProducerKey, Numbers]
    refused: set[RefusedNumber] = field(default_factory=set)
    """Numbers of the batch that were refused when they first came."""
    keys: dict[tuple[int, str, str], CallerKey] = field(default_factory=dict)
    sessions: dict[SessionKey, Session] = field(default_factory=dict)
    subjects: dict[SubjectKey, Subject] = field(default_factory=dict)
    due: Iterable[SessionKey | SubjectKey] = ()
    series: dict[SeriesOwner, set[tuple[str, ...]]] = field(default_factory=dict)
    """The group values that have a series, for the tenants and definitions of the batch."""

    def numbers_of(self, key: ProducerKey) -> Numbers:
        """The numbers of a producer, begun when it is new."""
        known = self.numbers.get(key)
        if known is None:
            known = self.numbers[key] = Numbers()
        return known


class Readings:
    """The catalogue by event type, looked up once: which meters read usage, which read sessions."""

    def __init__(self, catalogue: Catalogue) -> None:
        self.catalogue: Final = catalogue
        self.usage_meters: Final = tuple(
            meter for meter in catalogue.meters if meter.aggregate is not Aggregate.SESSION
        )
        self.session_meters: Final = tuple(
            meter for meter in catalogue.meters if meter.aggregate is Aggregate.SESSION
        )
        types = {meter.type for meter in catalogue.meters}
        self.usage: Final[dict[str, tuple[Meter, ...]]] = {
            name: catalogue.usage_meters(name) for name in types
        }
        self.sessions: Final[dict[str, tuple[Meter, ...]]] = {
            name: catalogue.session_meters(name) for name in types
        }

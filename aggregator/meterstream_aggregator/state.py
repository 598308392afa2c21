"""What is known before a batch is folded: loaded first, then folded over, never asked again."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from math import prod
from typing import Final, NamedTuple

from meterstream_aggregator.catalogue import DAY, Aggregate, Catalogue, Meter
from meterstream_aggregator.changes import OVERFLOW, CallerKey, SeriesKey
from meterstream_aggregator.dedup import Numbers, ProducerKey, RefusedNumber
from meterstream_aggregator.naming import SeriesNames
from meterstream_aggregator.sessions import Session, SessionKey
from meterstream_aggregator.subjects import Subject, SubjectKey
from meterstream_schemas.events import TIME_MAX_MICROSECONDS

KEY_HORIZON: Final = 90 * DAY
"""How long, in append time, a caller's key is remembered (DESIGN section 10)."""


class SeriesOwner(NamedTuple):
    """Who has a number of series: a tenant, under one definition. ``version`` is the meter's."""

    partition: int
    tenant: str
    version: str


class KnownSeries:
    """Which group values have a series: asked of the store once, then kept up to date.

    A definition is *roomy* while its attributes have had so few values that no tenant can be beyond
    the limit: then nothing is kept per tenant. Else it is *crowded*: the group values are known by
    owner, and so they stay until everything is forgotten.
    """

    def __init__(self) -> None:
        self.roomy: Final[dict[str, tuple[set[str], ...]]] = {}
        """Per version the values that each attribute of ``group_by`` has had."""
        self.crowded: Final[set[str]] = set()
        self.settled: Final[set[SeriesKey]] = set()
        """Series of crowded definitions that are admitted: a shortcut past the question."""
        self._values: dict[str, set[str]] = {}
        self._groups: dict[SeriesOwner, set[tuple[str, ...]]] = {}
        self._held = 0

    def begin(self, meter: Meter, found: Iterable[tuple[str, ...]] | None) -> None:
        """Take up a definition, with the group values that the store has; None for too many."""
        if found is None:
            self.crowded.add(meter.version)
            return
        values = tuple(self._values.setdefault(name, {""}) for name in meter.group_by)
        for group in found:
            for held, value in zip(values, group, strict=True):
                held.add(value)
        self.roomy[meter.version] = values

    def saw(self, name: str, values: Iterable[str]) -> None:
        """Values of an attribute that series may be about from now on."""
        held = self._values.get(name)
        if held is not None:
            held.update(values)

    def look(self, meter: Meter, *, others: int) -> bool:
        """Whether a definition is crowded by now.

        ``others``: how many groups may come that nobody saw.
        """
        values = self.roomy.get(meter.version)
        if values is None:
            return True
        if prod(len(held) + others for held in values) <= meter.series_per_tenant:
            return False
        del self.roomy[meter.version]
        self.crowded.add(meter.version)
        return True

    def unknown(self, owners: Iterable[SeriesOwner]) -> list[SeriesOwner]:
        """Those of which nothing is known yet."""
        known = self._groups
        return [owner for owner in owners if owner not in known]

    def learn(self, found: Mapping[SeriesOwner, set[tuple[str, ...]]]) -> None:
        """What the store answered; an owner of none has an empty set."""
        self._groups.update(found)
        self._held += sum(1 + len(groups) for groups in found.values())

    def groups_of(self, owner: SeriesOwner) -> set[tuple[str, ...]]:
        """The group values that have a series. Not to be changed."""
        return self._groups.setdefault(owner, set())

    def admitted(self, owner: SeriesOwner, group: tuple[str, ...], limit: int) -> tuple[str, ...]:
        """The group values to count under: these while the owner has room, else the overflow's."""
        values = self.roomy.get(owner.version)
        if values is not None:
            for held, value in zip(values, group, strict=True):
                held.add(value)
            return group
        groups = self.groups_of(owner)
        if group in groups:
            return group
        if len(groups) >= limit:
            return (OVERFLOW,) * len(group)
        groups.add(group)
        self._held += 1
        return group

    def admit_all(self, keys: Iterable[SeriesKey], meter: Meter) -> bool:
        """Admit these series of a definition if there is room for every one; else none of them."""
        if not meter.group_by or meter.version in self.roomy:
            return True
        wanted = [key for key in keys if key not in self.settled]
        new: dict[SeriesOwner, set[tuple[str, ...]]] = {}
        for partition, tenant, _, group, version in wanted:
            new.setdefault(SeriesOwner(partition, tenant, version), set()).add(group)
        for owner, groups in new.items():
            held = self.groups_of(owner)
            more = len(groups - held)
            if more and len(held) + more > meter.series_per_tenant:
                return False
        for owner, groups in new.items():
            for group in groups:
                self.admitted(owner, group, meter.series_per_tenant)
        self.settled.update(wanted)
        return True

    @property
    def held(self) -> int:
        """How many values, owners and groups are held, about."""
        return self._held + sum(map(len, self._values.values()))

    def clear(self) -> None:
        """Forget everything."""
        for kept in (self.roomy, self.crowded, self.settled, self._values, self._groups):
            kept.clear()
        self._held = 0


class Memory:
    """What is known of the store from earlier batches: a cache, which may be dropped at any time.

    It must be dropped when a batch was folded and not committed.
    """

    def __init__(self, *, series_max: int = 150_000) -> None:
        self.numbers: Final[dict[ProducerKey, Numbers]] = {}
        self.series: Final = KnownSeries()
        self.names = SeriesNames()
        """Says nothing of the store, so that it outlives what else is dropped."""
        self._series_max = series_max

    def trim(self) -> None:
        """Between two batches: forget the series where they have become too many."""
        if self.series.held > self._series_max:
            self.series.clear()
        if len(self.names) > self._series_max:
            self.names = SeriesNames()

    def drop(self, partitions: Collection[int]) -> None:
        """Forget what is known of these partitions, and all series: others may have made some."""
        for key in [key for key in self.numbers if key.partition in partitions]:
            del self.numbers[key]
        self.series.clear()

    def clear(self) -> None:
        """Forget everything."""
        self.numbers.clear()
        self.series.clear()


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
    series: KnownSeries = field(default_factory=KnownSeries)
    """The group values that have a series, for the tenants and definitions of the batch."""
    names: SeriesNames = field(default_factory=SeriesNames)

    def numbers_of(self, key: ProducerKey) -> Numbers:
        """The numbers of a producer, begun when it is new."""
        known = self.numbers.get(key)
        if known is None:
            known = self.numbers[key] = Numbers()
        return known

    def admitted(self, owner: SeriesOwner, group: tuple[str, ...], limit: int) -> tuple[str, ...]:
        """The group values to count under: see `KnownSeries.admitted`."""
        return self.series.admitted(owner, group, limit)


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
        self.longest: Final[dict[str, int]] = {
            name: min(meter.longest for meter in meters)
            for name, meters in self.sessions.items()
            if meters
        }
        """The longest session of a type: what the strictest of its definitions allows."""
        self.grouped: Final[dict[str, tuple[Meter, ...]]] = {
            name: tuple(
                {
                    meter.version: meter
                    for meter in (*self.usage[name], *self.sessions[name])
                    if meter.group_by
                }.values()
            )
            for name in types
        }
        """The definitions of a type that have series by group values."""
        self.usage_spans: Final = {name: _spans(meters) for name, meters in self.usage.items()}
        """Event times that are read, per type: see `_spans`."""
        self.session_spans: Final = {name: _spans(meters) for name, meters in self.sessions.items()}


def _spans(meters: Iterable[Meter]) -> list[tuple[int, int]]:
    """The times that definitions read, half-open, as few spans as possible, in order."""
    joined: list[tuple[int, int]] = []
    for meter in sorted(meters, key=lambda meter: meter.since):
        until = TIME_MAX_MICROSECONDS if meter.until is None else meter.until
        if joined and meter.since <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(until, joined[-1][1]))
        else:
            joined.append((meter.since, until))
    return joined

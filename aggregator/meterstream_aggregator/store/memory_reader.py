"""What questions read of the store in memory: its dictionaries, gone through from end to end."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from itertools import groupby

from meterstream_aggregator.catalogue import HOUR, MOMENT, Catalogue, Meter
from meterstream_aggregator.changes import (
    OVERFLOW,
    CallerKey,
    DeadLetter,
    Item,
    ItemKey,
    KeyState,
    Place,
    Presence,
    SeriesKey,
    Span,
    UsageKey,
)
from meterstream_aggregator.dedup import Numbers, ProducerKey
from meterstream_aggregator.errors import StoreUnavailable
from meterstream_aggregator.sessions import Session, SessionKey
from meterstream_aggregator.store import rows
from meterstream_aggregator.store.memory_thresholds import MemoryLedger
from meterstream_aggregator.store.port import TopicBinding
from meterstream_aggregator.store.session_rows import Filter, Teller, place_after, place_of
from meterstream_aggregator.store.told import (
    ALL_DEAD_LETTERS,
    DeadLetterRow,
    DeadLettersWanted,
    ItemRow,
    PositionRow,
    ProducerRow,
    ReadingRow,
    SessionRow,
    UsageRow,
)
from meterstream_aggregator.subjects import Subject, SubjectKey
from meterstream_aggregator.thresholds import FiredRow, TotalRow


@dataclass(slots=True)
class Content:
    """What a database would hold, table by table."""

    bound: tuple[TopicBinding, Catalogue] | None = None
    catalogues: list[Catalogue] = field(default_factory=list)
    positions: dict[int, PositionRow] = field(default_factory=dict)
    readings: dict[tuple[int, int], str] = field(default_factory=dict)
    series: set[SeriesKey] = field(default_factory=set)
    usage: dict[UsageKey, tuple[int, int]] = field(default_factory=dict)
    """(events, quantity) per row."""
    items: dict[ItemKey, Item] = field(default_factory=dict)
    numbers: dict[ProducerKey, Numbers] = field(default_factory=dict)
    keys: dict[tuple[int, str, str], CallerKey] = field(default_factory=dict)
    sessions: dict[SessionKey, tuple[Session, int | None]] = field(default_factory=dict)
    subjects: dict[SubjectKey, tuple[Subject, int | None]] = field(default_factory=dict)
    places: dict[Place, Span] = field(default_factory=dict)
    presences: dict[Presence, Span] = field(default_factory=dict)
    dead_letters: dict[tuple[int, int], DeadLetter] = field(default_factory=dict)
    ledger: MemoryLedger = field(init=False)

    def __post_init__(self) -> None:
        self.ledger = MemoryLedger(self.usage)


class MemoryReader:
    """A `StoreReader` of some content."""

    def __init__(self, content: Content) -> None:
        self.content = content

    def snapshot(self) -> AbstractContextManager[None]:
        """Nothing: one thread reads and writes."""
        return nullcontext()

    def catalogue(self) -> Catalogue:
        """The catalogue that the rows were made with."""
        if self.content.bound is None:
            raise StoreUnavailable("no worker has bound this store yet; start one")
        return self.content.bound[1]

    def catalogues(self) -> dict[str, Catalogue]:
        """Every catalogue that this store was counted with, by version."""
        return {catalogue.version: catalogue for catalogue in reversed(self.content.catalogues)}

    def readings(self) -> list[ReadingRow]:
        """Which catalogue read which part of the log, by partition and offset."""
        return [
            ReadingRow(*place, version) for place, version in sorted(self.content.readings.items())
        ]

    def topic(self) -> TopicBinding | None:
        """The topic generation this store belongs to, None before any worker bound it."""
        return self.content.bound[0] if self.content.bound else None

    def usage(
        self,
        meter: Meter,
        *,
        tenants: Sequence[str] | None,
        start: int,
        end: int,
        periods: Sequence[int] | None = None,  # noqa: ARG002 - rows need not come added up
    ) -> Iterator[UsageRow]:
        """Rows of windows that begin in [start, end): see `StoreReader.usage`."""
        for key, (events, quantity) in sorted(self.content.usage.items()):
            names = _names(key.series, meter, tenants)
            if names and start <= key.start < end:
                yield UsageRow(*names, key.start, events, quantity, key.scale, key.arrival)

    def items(
        self, meter: Meter, *, tenants: Sequence[str] | None, start: int, end: int
    ) -> Iterator[ItemRow]:
        """The items of windows that begin in [start, end)."""
        for key, item in sorted(self.content.items.items()):
            names = _names(key.series, meter, tenants)
            if names and start <= key.start < end:
                yield ItemRow(*names, key.start, key.arrival, key.item, item)

    def levels_before(
        self, meter: Meter, *, tenants: Sequence[str] | None, start: int
    ) -> Iterator[ItemRow]:
        """What holds at ``start`` of a time-weighted meter: see `StoreReader.levels_before`."""
        samples = sorted(
            (key.series, item, key)
            for key, item in self.content.items.items()
            if _names(key.series, meter, tenants) and key.start < start
        )
        for series, of_series in groupby(reversed(samples), key=lambda sample: sample[0]):
            for _, item, key in of_series:
                yield ItemRow(series.tenant, series.group, key.start, key.arrival, key.item, item)
                if key.arrival == 0:
                    break

    def changes_before(
        self, meter: Meter, *, tenants: Sequence[str] | None, start: int
    ) -> Iterator[UsageRow]:
        """What all windows before ``start`` add up to: see `StoreReader.changes_before`."""
        sums: dict[tuple[SeriesKey, int, int], UsageRow] = {}
        for key, (events, quantity) in sorted(self.content.usage.items()):
            names = _names(key.series, meter, tenants)
            if names and key.start < start and key.scale < MOMENT:
                what = (key.series, key.arrival, key.scale)
                known = sums.get(what) or UsageRow(*names, 0, 0, 0, key.scale, key.arrival)
                sums[what] = known._replace(
                    start=max(known.start, key.start),
                    events=known.events + events,
                    quantity=known.quantity + quantity,
                )
        yield from sums.values()

    def adjustments(
        self,
        meter: Meter,
        *,
        tenants: Sequence[str] | None,
        start: int,
        end: int,
        arrived_from: int = 0,
        arrived_until: int = 2**62,
    ) -> Iterator[UsageRow]:
        """The rows of `usage` that came late and arrived in [arrived_from, arrived_until)."""
        for row in self.usage(meter, tenants=tenants, start=start, end=end):
            if row.arrival > 0 and arrived_from <= row.arrival < arrived_until:
                yield row

    def overflowing(self) -> list[tuple[str, str, int]]:
        """(meter, tenant, events in the overflow series), sorted."""
        found = {
            (series.meter, series.tenant): 0
            for series in self.content.series
            if set(series.group) == {OVERFLOW}
        }
        for key, (events, _) in self.content.usage.items():
            if set(key.series.group) == {OVERFLOW}:
                found[(key.series.meter, key.series.tenant)] += events
        return [(*who, events) for who, events in sorted(found.items())]

    def places(self, partition: int, start: int, end: int) -> list[tuple[Place, Span]]:
        """Where the log has events of the times [start, end), by hour and segment."""
        return [
            (place, span)
            for place, span in sorted(self.content.places.items())
            if place.partition == partition and start // HOUR <= place.hour < -(-end // HOUR)
        ]

    def presences(
        self, partition: int, wanted: Mapping[int, tuple[int, int]]
    ) -> list[tuple[str, Span]]:
        """Which producers have events in these segments: see `StoreReader.presences`."""
        found: dict[str, list[Span]] = {}
        for (of, producer, segment), span in self.content.presences.items():
            low, high = wanted.get(segment, (0, -1)) if of == partition else (0, -1)
            if low <= high and span.first <= high and span.last >= low:
                found.setdefault(producer, []).append(span)
        return [
            (producer, Span(min(firsts), max(lasts), sum(events)))
            for producer, spans in sorted(found.items())
            for firsts, lasts, events in [zip(*spans, strict=True)]
        ]

    def keys_of(self, tenant: str, start: int, end: int, limit: int) -> tuple[int, list[CallerKey]]:
        """How many callers' keys of a tenant have event times in [start, end), and the first."""
        found = [
            key
            for key in self.content.keys.values()
            if key.tenant == tenant and start <= key.time < end
        ]
        found.sort(key=lambda key: (key.time, key.partition, key.key))
        return len(found), found[: max(limit, 0)]

    def awaited(self) -> int:
        """How many VOIDs wait for their original."""
        return sum(key.state is KeyState.AWAITED for key in self.content.keys.values())

    def sessions(
        self,
        *,
        tenants: Sequence[str] | None = None,
        type: str | None = None,  # noqa: A002 - the word of every layer
        state: str | None = None,
        start: int | None = None,
        end: int | None = None,
        limit: int = 1000,
        after: str | None = None,
    ) -> list[SessionRow]:
        """Sessions that overlap [start, end), in order: see `StoreReader.sessions`."""
        appended = {row.partition: row.appended for row in self.positions()}
        teller = Teller(self.catalogue(), appended)
        told = [teller.row(key, session) for key, (session, _) in self.content.sessions.items()]
        for key, (subject, _) in self.content.subjects.items():
            told.extend(teller.rows(key, subject))
        wanted = [
            row
            for row in told
            if (tenants is None or row.tenant in tenants) and type in {None, row.type}
        ]
        kept = Filter(state, start, end, place_after(after))
        return kept.first(sorted(wanted, key=place_of), limit)

    def positions(self) -> list[PositionRow]:
        """One row per partition that was ever claimed."""
        return [row for _, row in sorted(self.content.positions.items())]

    def producers(
        self,
        producer: str | None = None,
        *,
        partition: int | None = None,
        lane: int | None = None,
    ) -> list[ProducerRow]:
        """One row per (producer, partition): see `StoreReader.producers`."""
        return [
            rows.producer_row(key, numbers, lane)
            for key, numbers in sorted(
                self.content.numbers.items(), key=lambda known: known[0][::-1]
            )
            if producer in {None, key.producer} and partition in {None, key.partition}
        ]

    def dead_letters(
        self,
        wanted: DeadLettersWanted = ALL_DEAD_LETTERS,
        *,
        after: tuple[int, int] | None = None,
        limit: int = 1000,
    ) -> list[DeadLetterRow]:
        """Newest first; with ``after`` by place: see `StoreReader.dead_letters`."""
        found = [
            row
            for row in map(_dead_letter_row, self.content.dead_letters.values())
            if wanted.fits(row) and (after is None or (row.partition, row.offset) > after)
        ]
        if after is None:
            found.sort(key=lambda row: (row.append_time, row.partition, row.offset), reverse=True)
        else:
            found.sort(key=lambda row: (row.partition, row.offset))
        return found[:limit]

    def threshold_totals(self, thresholds: Collection[str], start: int) -> list[TotalRow]:
        """Running totals, the latest periods first: see `StoreReader.threshold_totals`."""
        return self.content.ledger.totals(thresholds, start)

    def threshold_notices(self, thresholds: Collection[str] | None, start: int) -> list[FiredRow]:
        """Which values were told of: see `StoreReader.threshold_notices`."""
        return self.content.ledger.told(thresholds, start)

    def tenants(self) -> list[str]:
        """Every tenant that ever had usage, sorted."""
        used = {key.series.tenant for key in self.content.usage}
        return sorted(used | {series.tenant for series in self.content.series})

    def close(self) -> None:
        """There is nothing to let go of."""


def _names(
    series: SeriesKey, meter: Meter, tenants: Sequence[str] | None
) -> tuple[str, tuple[str, ...]] | None:
    """Tenant and group of a series that is asked for."""
    if series.version != meter.version or (tenants is not None and series.tenant not in tenants):
        return None
    return series.tenant, series.group


def _dead_letter_row(letter: DeadLetter) -> DeadLetterRow:
    return DeadLetterRow(
        letter.partition,
        letter.offset,
        letter.refusal.reason.value,
        letter.refusal.detail,
        letter.tenant,
        letter.type,
        letter.producer,
        letter.lane,
        letter.sequence,
        letter.append_time,
    )

"""One figure explained: what it is made of, by which rules, and where the log has its events. Pure.

Everything comes from the store, in one snapshot; `evidence` goes on from here with the log itself.
What is found may be long: lists keep the first few, and say how many there are and the hash of all.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import orjson

from meterstream_aggregator.answering import Scope, figures
from meterstream_aggregator.catalogue import HOUR, KEPT, Aggregate, Catalogue, Condition, Meter
from meterstream_aggregator.changes import CallerKey, Place, Span
from meterstream_aggregator.questions import Figure, Question, ask, folded_until
from meterstream_aggregator.running import AsOf, running_usage
from meterstream_aggregator.sessions import group_of
from meterstream_aggregator.store.port import StoreReader, TopicBinding
from meterstream_aggregator.store.told import ItemRow, ProducerRow, ReadingRow, SessionRow, UsageRow
from meterstream_schemas.placement import lane_of, partition_of

_DELETE: Final = b"\x7f"
"""The one character of ASCII that the quick way writes otherwise than the plain one."""
LIMIT: Final = 1_000
"""Most entries of one list of an explanation."""
PRODUCERS_MAX: Final = 100
"""Most producers that are told with their numbers."""
SEGMENTS_MAX: Final = 2_000
"""Most segments of the log that are looked through for producers: 131 million offsets."""
SESSIONS_MAX: Final = 100_000
"""Most sessions of one figure."""
NEAR: Final = 5_000
"""Offsets between two ranges that are read through sooner than sought over."""


class Asked(NamedTuple):
    """Which figure: of one tenant and meter, over windows in [start, end), of some groups.

    ``partitions`` None: the one that the tenant's events belong to.
    """

    tenant: str
    meter: str
    start: int
    end: int
    where: tuple[Condition, ...] = ()
    partitions: tuple[int, ...] | None = None


class Presence(NamedTuple):
    """A producer with events near those of the figure, and its numbers where it is shown."""

    producer: str
    span: Span
    numbers: ProducerRow | None


@dataclass(frozen=True, slots=True)
class Explanation:
    """All facts about one figure. Rows come with the version of their definition."""

    asked: Asked
    topic: TopicBinding
    catalogue: Catalogue
    catalogues: dict[str, Catalogue]
    question: Question
    definitions: tuple[Meter, ...]
    figure: Figure
    running: dict[str, list[UsageRow]]
    """What sessions that still run add, by `Meter.version`; no row of it is stored."""
    lane: int
    partitions: tuple[int, ...]
    appended: dict[int, int]
    readings: list[ReadingRow]
    windows: list[tuple[str, UsageRow]]
    admitted: frozenset[tuple[str, tuple[str, ...]]]
    """Every (version, group) with rows there, of other groups than those asked for as well."""
    items: list[tuple[str, ItemRow]]
    places: list[tuple[Place, Span]]
    presences: list[Presence]
    producers: int
    keys: tuple[int, list[CallerKey]]
    sessions: list[SessionRow]

    def ranges(self) -> list[tuple[int, int, int]]:
        """(partition, first, end): offsets that hold every event of the figure, and others."""
        found: list[tuple[int, int, int]] = []
        spans = sorted((place.partition, span.first, span.last + 1) for place, span in self.places)
        for partition, first, end in spans:
            if found and found[-1][0] == partition and first <= found[-1][2] + NEAR:
                found[-1] = (partition, found[-1][1], max(found[-1][2], end))
            else:
                found.append((partition, first, end))
        return found

    def catalogue_at(self, partition: int) -> Callable[[int], Catalogue]:
        """Which catalogue read an offset of a partition."""
        rows = [row for row in self.readings if row.partition == partition]

        def at(offset: int) -> Catalogue:
            before = [row.version for row in rows if row.first_offset <= offset]
            return self.catalogues[before[-1]] if before else self.catalogue

        return at


def explain(store: StoreReader, asked: Asked, *, now: int) -> Explanation | None:
    """The explanation, or None before any worker bound the store. Call it in one snapshot.

    ``now`` decides only whether the figure is still open. Raises `UnknownMeter`, and
    `InvalidQuestion` where the time or the groups are none that the meter can be asked for.
    """
    topic = store.topic()
    if topic is None:
        return None
    catalogue = store.catalogue()
    question = ask(
        catalogue.definitions(asked.meter),
        (asked.start, asked.end),
        where=asked.where,
        total=True,
        metering_since=catalogue.metering_since,
    )
    [stretch] = question.stretches
    positions = store.positions()
    appended = {row.partition: row.appended for row in positions}
    as_of = AsOf(catalogue, appended, folded_until(positions, topic.partitions), now)
    figure, running = _figure(store, question, asked, as_of)
    rows = sorted(_windows(store, asked, stretch.meters))
    told = {version for version, _ in rows} | {meter.version for meter in stretch.holding}
    definitions = tuple(meter for meter in stretch.meters if meter.version in told)
    grouped_by = {meter.version: meter.group_by for meter in definitions}
    sessions = list(_sessions(store, asked, definitions, as_of))
    lane = lane_of(asked.tenant)
    partitions = asked.partitions or (partition_of(lane, topic.partitions),)
    places = _places(store, partitions, _times(asked, sessions))
    presences, producers = _presences(store, lane, partitions, places)
    return Explanation(
        asked=asked,
        topic=topic,
        catalogue=catalogue,
        catalogues=store.catalogues(),
        question=question,
        definitions=definitions,
        figure=figure,
        running=running,
        lane=lane,
        partitions=partitions,
        appended=appended,
        readings=[row for row in store.readings() if row.partition in partitions],
        windows=[
            (of, row) for of, row in rows if in_groups(grouped_by[of], row.group, asked.where)
        ],
        admitted=frozenset((version, row.group) for version, row in rows),
        items=sorted(_items(store, asked, definitions)),
        places=places,
        presences=presences,
        producers=producers,
        keys=store.keys_of(asked.tenant, asked.start, asked.end, LIMIT),
        sessions=sessions,
    )


def _figure(
    store: StoreReader, question: Question, asked: Asked, as_of: AsOf
) -> tuple[Figure, dict[str, list[UsageRow]]]:
    """The figure, and what sessions that still run add to it."""
    scope = Scope((asked.tenant,))
    running = running_usage(store, question, scope=scope, as_of=as_of)
    [figure] = figures(
        store, question, scope=scope, progress=as_of.progress, now=as_of.now, running=running
    )
    return figure, running


def _places(
    store: StoreReader, partitions: Sequence[int], times: Sequence[tuple[int, int]]
) -> list[tuple[Place, Span]]:
    found = {
        place
        for partition in partitions
        for start, end in times
        for place in store.places(partition, start, end)
    }
    return sorted(found)


def in_groups(names: Sequence[str], group: tuple[str, ...], where: Sequence[Condition]) -> bool:
    """Whether a group, the values of these names, fulfils what is asked of groups."""
    if not where:
        return True
    values = dict(zip(names, group, strict=True))
    return all(condition.holds(values) for condition in where)


def _windows(
    store: StoreReader, asked: Asked, definitions: Sequence[Meter]
) -> Iterator[tuple[str, UsageRow]]:
    for meter in definitions:
        for row in store.usage(meter, tenants=[asked.tenant], start=asked.start, end=asked.end):
            yield meter.version, row


def _items(
    store: StoreReader, asked: Asked, definitions: Sequence[Meter]
) -> Iterator[tuple[str, ItemRow]]:
    for meter in definitions:
        if meter.aggregate not in KEPT:
            continue
        for row in store.items(meter, tenants=[asked.tenant], start=asked.start, end=asked.end):
            if in_groups(meter.group_by, row.group, asked.where):
                yield meter.version, row


def _sessions(
    store: StoreReader, asked: Asked, definitions: Sequence[Meter], as_of: AsOf
) -> Iterator[SessionRow]:
    """The sessions that reach into the time; without ids, those before that they pair up with."""
    meters = [meter for meter in definitions if meter.aggregate is Aggregate.SESSION]
    for of_type in sorted({meter.type for meter in meters}):
        silent = list(_silent(store, asked, [m for m in meters if m.type == of_type], as_of))
        start = _earliest(silent, asked.start)
        while True:
            found = store.sessions(
                tenants=[asked.tenant],
                type=of_type,
                start=start,
                end=asked.end,
                limit=SESSIONS_MAX,
            )
            earliest = _earliest(found, start)
            if earliest >= start:
                break
            start = earliest
        yield from (row for row in silent if row.last_sign < start)
        yield from found


def _silent(
    store: StoreReader, asked: Asked, meters: Sequence[Meter], as_of: AsOf
) -> Iterator[SessionRow]:
    """Sessions without a sign in the time that are billed, or run on, into it."""
    found = store.sessions(
        tenants=[asked.tenant],
        type=meters[0].type,
        state="timed_out",
        start=asked.start - max(meter.longest for meter in meters),
        end=asked.start,
        limit=SESSIONS_MAX,
    )
    for row in found:
        spans = (
            as_of.span_of(row, meter)
            for meter in meters
            if row.start is not None and group_of(row.start, row.attributes, meter) is not None
        )
        if row.last_sign < asked.start and any(span and span[1] > asked.start for span in spans):
            yield row


def _earliest(rows: Iterable[SessionRow], start: int) -> int:
    """Where those without an id begin, or ``start``."""
    return min((_begins(row) for row in rows if not row.session), default=start)


def _begins(row: SessionRow) -> int:
    known = [time for time in (row.start, row.end, row.last_sign) if time is not None]
    return min(known)


def _times(asked: Asked, sessions: Sequence[SessionRow]) -> list[tuple[int, int]]:
    """The times of the figure's events: those asked for, and those of its sessions' boundaries."""
    times = [(asked.start, asked.end)]
    for row in sessions:
        last = max(row.last_sign, row.end or 0)
        times.append((_begins(row), last + 1))
    hours = sorted((start - start % HOUR, -(-end // HOUR) * HOUR) for start, end in times)
    joined = [hours[0]]
    for start, end in hours[1:]:
        if start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(joined[-1][1], end))
        else:
            joined.append((start, end))
    return joined


def _presences(
    store: StoreReader,
    lane: int,
    partitions: Sequence[int],
    places: Sequence[tuple[Place, Span]],
) -> tuple[list[Presence], int]:
    """The producers with events between the offsets of these places, the busiest first."""
    found: dict[str, Span] = {}
    for partition in partitions:
        spans: dict[int, tuple[int, int]] = {}
        for place, span in places:
            if place.partition == partition:
                low, high = spans.get(place.segment, (span.first, span.last))
                spans[place.segment] = (min(low, span.first), max(high, span.last))
        wanted = {segment: spans[segment] for segment in sorted(spans)[:SEGMENTS_MAX]}
        for producer, span in store.presences(partition, wanted):
            known = found.get(producer, Span(span.first, span.last, 0))
            found[producer] = Span(
                min(known.first, span.first),
                max(known.last, span.last),
                known.events + span.events,
            )
    busiest = sorted(found.items(), key=lambda pair: (-pair[1].events, pair[0]))[:PRODUCERS_MAX]
    shown = [
        Presence(name, span, next(iter(_of_lane(store, name, lane, partitions)), None))
        for name, span in busiest
    ]
    return shown, len(found)


def _of_lane(
    store: StoreReader, producer: str, lane: int, partitions: Sequence[int]
) -> Iterator[ProducerRow]:
    """What the partitions know of a producer, its numbers of one lane alone."""
    for partition in partitions:
        yield from store.producers(producer, partition=partition, lane=lane)


def segments_left_out(places: Sequence[tuple[Place, Span]]) -> int:
    """How many segments of a long figure were not looked through for producers."""
    return max(len({(p.partition, p.segment) for p, _ in places}) - SEGMENTS_MAX, 0)


def canonical(content: object) -> bytes:
    """Canonical JSON: what hashes are made of."""
    try:
        quick = orjson.dumps(content, option=orjson.OPT_SORT_KEYS)
    except TypeError:  # numbers and texts that only the plain way can write
        quick = _DELETE
    if quick.isascii() and _DELETE not in quick:
        return quick
    return json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()

"""The events of the log, found by the store's index of places and judged as they were counted.

The store knows in which offsets of a partition the events of an hour lie. So a question is answered
hour by hour, from the end that is wanted first, and ends as soon as it has enough:

1. hours are taken until the offsets to read are worth a read (`CHUNK_RECORDS`);
2. these offsets are read, and the tenants' events of those hours kept;
3. the store tells what it refused of them and which keys were taken back;
4. `evidence.judge` says which counted. Every sending of an event has its time, so that repeats and
   VOIDs lie in the hours of their event.

What retention took from the log is not listed. A question that would have to read more than
``records_max`` offsets is refused with `InvalidQuestion`, one that takes too long with
`StoreUnavailable`; at most `QUESTIONS_MAX` are answered at once, others wait.
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Final, NamedTuple

from meterstream_aggregator.batch import LogRecord
from meterstream_aggregator.catalogue import HOUR, Catalogue
from meterstream_aggregator.changes import KeyState
from meterstream_aggregator.civil import InvalidQuestion
from meterstream_aggregator.errors import StoreUnavailable
from meterstream_aggregator.evidence import Known, Outcome, judge
from meterstream_aggregator.explain import NEAR
from meterstream_aggregator.store.port import StoreReader
from meterstream_aggregator.store.told import DeadLettersWanted
from meterstream_consumers.errors import LogUnusable
from meterstream_consumers.gathering import events_between
from meterstream_consumers.logreader import LogReader, Range
from meterstream_schemas.errors import SchemaUnavailable
from meterstream_schemas.events import EventKind
from meterstream_schemas.placement import lane_of, partition_of
from meterstream_schemas.registry import WriterSchemas
from meterstream_services.clients.eventlog import Listed
from meterstream_services.http.settings import Gateway
from meterstream_services.proving import Log

RECORDS_MAX: Final = 500_000
"""Offsets that one question may read."""
HELD_MAX: Final = 100_000
"""Events that one question may hold in memory."""
CHUNK_RECORDS: Final = 20_000
SECONDS_MAX: Final = 20.0
QUESTIONS_MAX: Final = 2
_WAIT_SECONDS: Final = 10.0
_LETTERS_MAX: Final = 100_000
_PATIENCE_SECONDS: Final = 5.0
_GONE: Final = frozenset({Outcome.TAKEN_BACK, Outcome.VOIDED})


class Source(NamedTuple):
    """A topic's log and the schemas of its events, open for one question."""

    log: LogReader
    schemas: WriterSchemas


class _Chunk(NamedTuple):
    """Hours that are read together: times [start, end), and where the log may have them."""

    start: int
    end: int
    ranges: list[Range]


@dataclass(frozen=True, slots=True)
class _Wanted:
    tenants: frozenset[str]
    types: frozenset[str]
    subject: str | None
    """None: of any."""


class StoreEventLog:
    """An `EventLog` of a store and the topic that it was counted from."""

    def __init__(
        self,
        open_store: Callable[[], StoreReader],
        open_source: Callable[[str], Source],
        *,
        records_max: int = RECORDS_MAX,
        seconds_max: float = SECONDS_MAX,
    ) -> None:
        self._open_store = open_store
        self._open_source = open_source
        self._records_max = records_max
        self._seconds_max = seconds_max
        self._slots = threading.BoundedSemaphore(QUESTIONS_MAX)

    def events(
        self,
        tenants: Collection[str],
        types: Collection[str],
        start: int,
        end: int,
        *,
        limit: int,
        newest_first: bool = False,
        subject: str | None = None,
    ) -> list[Listed]:
        """See `EventLog`. Events that a VOID took back are left out, as refused ones are."""
        if not tenants or not types or start >= end or limit < 1:
            return []
        if not self._slots.acquire(timeout=_WAIT_SECONDS):
            raise StoreUnavailable("too many lists of events are asked for at once; ask again")
        try:
            wanted = _Wanted(frozenset(tenants), frozenset(types), subject)
            return self._events(wanted, start, end, limit, newest_first=newest_first)
        except (LogUnusable, SchemaUnavailable) as problem:
            raise StoreUnavailable(f"the log cannot be read now: {problem}") from problem
        finally:
            self._slots.release()

    def _events(
        self, wanted: _Wanted, start: int, end: int, limit: int, *, newest_first: bool
    ) -> list[Listed]:
        deadline = time.monotonic() + self._seconds_max
        with self._store() as store, store.snapshot():
            topic = store.topic()
            if topic is None:
                return []
            by_partition = {
                partition_of(lane_of(tenant), topic.partitions) for tenant in wanted.tenants
            }
            chunks = list(_chunks(store, by_partition, start, end, newest_first=newest_first))
        if not chunks:
            return []
        found: list[Listed] = []
        read = 0
        source = self._open_source(topic.topic)
        with closing(source.log):
            bounds = source.log.bounds(by_partition)
            for chunk in chunks:
                ranges = _within(chunk.ranges, bounds)
                read += sum(each.end - each.start for each in ranges)
                if read > self._records_max:
                    raise _too_much()
                part = self._read(source, chunk._replace(ranges=ranges), wanted, deadline)
                part.sort(key=_by_time, reverse=newest_first)
                found += part
                if len(found) >= limit:
                    break
        return found[:limit]

    def _read(
        self, source: Source, chunk: _Chunk, wanted: _Wanted, deadline: float
    ) -> list[Listed]:
        """The events of a chunk that counted, in no order."""
        by_partition: dict[int, list[LogRecord]] = defaultdict(list)
        held = 0
        for records in events_between(
            source.log,
            source.schemas,
            chunk.ranges,
            chunk.start,
            chunk.end,
            tenants=wanted.tenants,
            types=wanted.types,
        ):
            held += len(records)
            if held > HELD_MAX:
                raise _too_much()
            if time.monotonic() > deadline:
                raise StoreUnavailable("reading the log took too long; ask for a shorter time")
            for record in records:
                by_partition[record.partition].append(record)
        if not by_partition:
            return []
        with self._store() as store, store.snapshot():
            return [
                Listed(record.event, partition, record.offset, record.append_time)
                for partition, records in by_partition.items()
                for record in _counted(store, chunk, partition, records)
                if wanted.subject in {None, record.event.subject}
            ]

    def _store(self) -> closing[StoreReader]:
        return closing(self._open_store())


def open_event_log(gateway: Gateway, open_store: Callable[[], StoreReader]) -> StoreEventLog:
    """The events of the topic that a gateway writes to. Nothing is opened before a question."""
    log = Log(bootstrap_servers=gateway.bootstrap_servers, registry_url=gateway.registry_url)

    def source(topic: str) -> Source:
        reader = LogReader(log.bootstrap_servers, topic, patience_seconds=_PATIENCE_SECONDS)
        return Source(reader, log.schemas(topic))

    return StoreEventLog(open_store, source)


def _chunks(
    store: StoreReader, partitions: Collection[int], start: int, end: int, *, newest_first: bool
) -> Iterator[_Chunk]:
    """The hours with events, in the order that is asked for, a few of them together."""
    hours: dict[int, list[Range]] = defaultdict(list)
    for partition in partitions:
        for place, span in store.places(partition, start, end):
            hours[place.hour].append(Range(partition, span.first, span.last + 1))
    of_chunk: list[int] = []
    ranges: list[Range] = []
    for hour in sorted(hours, reverse=newest_first):
        of_chunk.append(hour)
        ranges = _joined([*ranges, *hours[hour]])
        if sum(each.end - each.start for each in ranges) >= CHUNK_RECORDS:
            yield _chunk(of_chunk, ranges, start, end)
            of_chunk, ranges = [], []
    if of_chunk:
        yield _chunk(of_chunk, ranges, start, end)


def _chunk(hours: Sequence[int], ranges: list[Range], start: int, end: int) -> _Chunk:
    return _Chunk(max(start, min(hours) * HOUR), min(end, (max(hours) + 1) * HOUR), ranges)


def _joined(ranges: Sequence[Range]) -> list[Range]:
    """The same offsets in as few ranges as are worth a seek."""
    found: list[Range] = []
    for each in sorted(ranges):
        if found and found[-1].partition == each.partition and each.start <= found[-1].end + NEAR:
            found[-1] = found[-1]._replace(end=max(found[-1].end, each.end))
        else:
            found.append(each)
    return found


def _within(ranges: Sequence[Range], bounds: Mapping[int, tuple[int, int]]) -> list[Range]:
    """What the log still has of these ranges."""
    cut = [
        each._replace(
            start=max(each.start, bounds[each.partition][0]),
            end=min(each.end, bounds[each.partition][1]),
        )
        for each in ranges
    ]
    return [each for each in cut if each.start < each.end]


def _counted(
    store: StoreReader, chunk: _Chunk, partition: int, records: Sequence[LogRecord]
) -> Iterator[LogRecord]:
    """Those of one partition that count: not refused, no repeats, not taken back."""
    catalogue_at = _catalogues(store, partition)
    by_tenant: dict[str, list[LogRecord]] = defaultdict(list)
    for record in records:
        by_tenant[record.event.tenant].append(record)
    for tenant, mine in by_tenant.items():
        letters = store.dead_letters(
            DeadLettersWanted(tenant=tenant, partition=partition), limit=_LETTERS_MAX
        )
        refused = {letter.offset: letter.reason for letter in letters}
        # Keys matter only where some are: most tenants of most clients have none.
        has_keys = any(record.event.key is not None for record in mine)
        _, keys = store.keys_of(tenant, chunk.start, chunk.end, HELD_MAX) if has_keys else (0, [])
        known = {key.key: key for key in keys if key.partition == partition}
        judged = judge(mine, catalogue_at, Known(refused, known))
        gone: set[str | None] = {key.key for key in known.values() if key.state is KeyState.VOIDED}
        gone |= {each.record.event.key for each in judged if each.outcome in _GONE}
        for each in judged:
            event = each.record.event
            is_gone = event.key is not None and event.key in gone
            if each.outcome is Outcome.COUNTED and event.kind is not EventKind.VOID and not is_gone:
                yield each.record


def _catalogues(store: StoreReader, partition: int) -> Callable[[int], Catalogue]:
    """Which catalogue read an offset of a partition."""
    current, known = store.catalogue(), store.catalogues()
    rows = [row for row in store.readings() if row.partition == partition]

    def at(offset: int) -> Catalogue:
        before = [row.version for row in rows if row.first_offset <= offset]
        return known.get(before[-1], current) if before else current

    return at


def _by_time(listed: Listed) -> tuple[int, int, int]:
    return listed.event.time, listed.partition, listed.offset


def _too_much() -> InvalidQuestion:
    return InvalidQuestion(
        "events", "the log has too much between these times to be read at once; ask for less time"
    )

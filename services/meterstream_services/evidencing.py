"""The events of a figure, read from the log, judged again, and held against the store's rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, cast

from meterstream_aggregator.answering import Scope, figures
from meterstream_aggregator.batch import LogRecord
from meterstream_aggregator.catalogue import HOUR, Aggregate, Meter
from meterstream_aggregator.changes import Item
from meterstream_aggregator.civil import InvalidQuestion
from meterstream_aggregator.evidence import Judged, Known, judge
from meterstream_aggregator.evidence_rows import (
    Frame,
    Mismatch,
    Rows,
    compared,
    rows_of_events,
    rows_of_sessions,
    rows_of_store,
)
from meterstream_aggregator.explain import Explanation
from meterstream_aggregator.questions import Figure
from meterstream_aggregator.store.port import StoreReader
from meterstream_aggregator.store.told import DeadLettersWanted, ItemRow, UsageRow
from meterstream_consumers.gathering import same_numbers, tenant_records
from meterstream_consumers.logreader import LogReader, Range
from meterstream_schemas.events import MeterEvent
from meterstream_schemas.registry import WriterSchemas

EVENTS_MAX: Final = 500_000
"""Most events of one figure that are held in memory."""
_LETTERS_MAX: Final = 1_000_000
_KEYS_MAX: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Evidence:
    """The events of a figure, judged; the figure that they make; and where rows do not follow."""

    judged: list[Judged]
    figure: Figure
    mismatches: list[Mismatch]
    unsplit: int = 0
    """Windows of sessions whose amounts are the same, though not their split into arrivals."""
    repeated: bool = False
    """Whether producers of these events used numbers more than once."""

    def doubts(self) -> list[str]:
        """What was not judged, and what is the likely reason of a difference; sentences."""
        told: list[str] = []
        if self.unsplit:
            told.append(
                f"of {self.unsplit:,} rows of windows the split into arrivals was not judged: "
                "sessions that once reached there and do so no more left rows that come to nothing"
            )
        if self.repeated and any(_has_more(each) for each in self.mismatches):
            told.append(
                "producers of these events used numbers more than once: likely one was used first "
                "outside the offsets that were read, and the store took an event for its repeat"
            )
        return told

    def adds_up(self, explanation: Explanation) -> bool:
        """Whether the events make the very rows, and the very figure.

        With windows that are ``unsplit``: but for closing and adjustment, which only the rows tell.
        """
        mine, theirs = self.figure, explanation.figure
        if self.unsplit:
            mine = mine._replace(closing=theirs.closing, adjustment=theirs.adjustment)
        return not self.mismatches and mine[:8] == theirs[:8]


def evidence(
    store: StoreReader,
    explanation: Explanation,
    log: LogReader,
    schemas: WriterSchemas,
    *,
    now: int,
) -> Evidence:
    """Read, judge and add up, in the snapshot that the explanation was made in.

    Raises `LogUnusable`, and `InvalidQuestion` for more than `EVENTS_MAX` events.
    """
    asked, definitions = explanation.asked, explanation.definitions
    frame = Frame(
        definitions,
        asked.start,
        asked.end,
        explanation.catalogue.metering_since,
        explanation.admitted,
        asked.where,
    )
    made = Rows(frame.aggregate)
    judged: list[Judged] = []
    found = _records(explanation, log, schemas)
    repeated = _repeated(store, found)
    others = _others(explanation, log, schemas, repeated)
    known = _known(store, explanation, others)
    for partition, records in found.items():
        part = judge(
            records,
            explanation.catalogue_at(partition),
            known[partition],
            others.get(partition, ()),
        )
        judged += part
        if frame.aggregate is Aggregate.SESSION:
            appended = explanation.appended[partition]
            _join(made, rows_of_sessions(part, explanation.catalogue, frame, appended))
        else:
            _join(made, rows_of_events(part, frame))
    theirs = rows_of_store(frame.aggregate, explanation.windows, explanation.items)
    [figure] = figures(
        cast("StoreReader", _OfEvents(store, made, asked.tenant)),
        explanation.question,
        scope=Scope((asked.tenant,)),
        progress=0,
        now=now,
        running=explanation.running,
    )
    same = compared(theirs, made)
    return Evidence(judged, figure, same.mismatches, same.unsplit, repeated=bool(repeated))


def _records(
    explanation: Explanation, log: LogReader, schemas: WriterSchemas
) -> dict[int, list[LogRecord]]:
    """The tenant's events of the types and times in question, by partition."""
    asked, wanted = explanation.asked, _wanted(explanation)
    ranges = [Range(*each) for each in explanation.ranges()]
    log.check(ranges)
    found: dict[int, list[LogRecord]] = {}
    held = 0
    for batch in tenant_records(log, schemas, ranges, asked.tenant):
        for record in batch:
            if wanted(record.event):
                found.setdefault(record.partition, []).append(record)
                held += 1
        if held > EVENTS_MAX:
            raise InvalidQuestion(
                "events", f"the figure has more than {EVENTS_MAX} events; ask for a shorter time"
            )
    return found


def _repeated(store: StoreReader, found: Mapping[int, Sequence[LogRecord]]) -> list[LogRecord]:
    """Those whose producers used numbers more than once, as the store counted them."""
    repeated: list[LogRecord] = []
    for partition, records in found.items():
        names = {record.event.producer for record in records} - {""}
        again = {
            row.producer
            for name in names
            for row in store.producers(name, partition=partition, lane=0)
            if row.duplicates or row.refused
        }
        repeated += [record for record in records if record.event.producer in again]
    return repeated


def _others(
    explanation: Explanation, log: LogReader, schemas: WriterSchemas, records: Sequence[LogRecord]
) -> dict[int, list[LogRecord]]:
    """Other events between the offsets under the same numbers; read again only if there may be."""
    found: dict[int, list[LogRecord]] = {}
    if records:
        ranges = [Range(*each) for each in explanation.ranges()]
        for batch in same_numbers(log, schemas, ranges, records):
            for record in batch:
                found.setdefault(record.partition, []).append(record)
    return found


def _wanted(explanation: Explanation) -> Callable[[MeterEvent], bool]:
    """Which of the tenant's events between the offsets may be part of the figure."""
    asked = explanation.asked
    types = {meter.type for meter in explanation.definitions}
    if explanation.definitions[-1].aggregate is not Aggregate.SESSION:
        return lambda event: event.type in types and asked.start <= event.time < asked.end
    # Of a session that does not reach into the time, only some boundaries may lie there.
    named = {(row.type, row.session) for row in explanation.sessions}
    return lambda event: (
        event.type in types and (event.session is None or (event.type, event.session) in named)
    )


def _known(
    store: StoreReader, explanation: Explanation, others: Mapping[int, Sequence[LogRecord]]
) -> dict[int, Known]:
    """What only the store knows of the tenant, and of other events, by partition."""
    tenant = explanation.asked.tenant
    hours = [place.hour for place, _ in explanation.places] or [0]
    _, keys = store.keys_of(tenant, min(hours) * HOUR, (max(hours) + 1) * HOUR, _KEYS_MAX)
    found: dict[int, Known] = {}
    for partition in explanation.partitions:
        names = sorted({record.event.producer for record in others.get(partition, ())})
        letters = [
            letter
            for wanted in (
                DeadLettersWanted(tenant=tenant, partition=partition),
                *(DeadLettersWanted(producer=name, partition=partition) for name in names),
            )
            for letter in store.dead_letters(wanted, limit=_LETTERS_MAX)
        ]
        found[partition] = Known(
            {letter.offset: letter.reason for letter in letters},
            {known.key: known for known in keys if known.partition == partition},
        )
    return found


def _has_more(found: Mismatch) -> bool:
    """Whether the events make more of a row than the store has."""
    if found.store is None or isinstance(found.store, Item) or isinstance(found.events, Item):
        return found.events is not None
    return found.events is not None and found.events[0] > found.store[0]


def _join(made: Rows, part: Rows) -> None:
    for key, row in part.usage.items():
        made.add(key, *row)
    for kept, item in part.items.items():
        made.keep(kept, item)


class _OfEvents:
    """A reader whose rows are those that events make; what was before them is the store's."""

    def __init__(self, store: StoreReader, rows: Rows, tenant: str) -> None:
        self._store = store
        self._rows = rows
        self._tenant = tenant

    def usage(
        self,
        meter: Meter,
        *,
        tenants: Sequence[str] | None,
        start: int,
        end: int,
        periods: Sequence[int] | None = None,
    ) -> Iterator[UsageRow]:
        del tenants, periods
        for key, (events, quantity) in sorted(self._rows.usage.items()):
            if key.version == meter.version and start <= key.start < end:
                yield UsageRow(
                    self._tenant, key.group, key.start, events, quantity, key.scale, key.arrival
                )

    def items(
        self, meter: Meter, *, tenants: Sequence[str] | None, start: int, end: int
    ) -> Iterator[ItemRow]:
        del tenants
        for key, item in sorted(self._rows.items.items()):
            if key.version == meter.version and start <= key.start < end:
                yield ItemRow(self._tenant, key.group, key.start, key.arrival, key.item, item)

    def levels_before(
        self, meter: Meter, *, tenants: Sequence[str] | None, start: int
    ) -> Iterator[ItemRow]:
        return self._store.levels_before(meter, tenants=tenants, start=start)

    def changes_before(
        self, meter: Meter, *, tenants: Sequence[str] | None, start: int
    ) -> Iterator[UsageRow]:
        return self._store.changes_before(meter, tenants=tenants, start=start)

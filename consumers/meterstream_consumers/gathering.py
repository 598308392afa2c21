"""Chosen events from parts of the log, decoded as a worker decodes them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import numpy.typing as npt

from meterstream_aggregator.batch import (
    MARK_CODE,
    Batch,
    LogRecord,
    appended_after,
    log_times,
)
from meterstream_consumers.decode import Decoder
from meterstream_consumers.logreader import LogReader, Range
from meterstream_schemas.registry import WriterSchemas


def tenant_records(
    log: LogReader, schemas: WriterSchemas, ranges: Sequence[Range], tenant: str
) -> Iterator[list[LogRecord]]:
    """The tenant's events in these ranges, batch by batch; order holds within each partition.

    Append times are log times as far as these ranges tell: what came before them is not read.
    """

    def rows(batch: Batch) -> npt.NDArray[np.int64]:
        if tenant not in batch.tenant.values:
            return np.empty(0, dtype=np.int64)
        return np.flatnonzero(batch.tenant.codes == batch.tenant.values.index(tenant))

    yield from _chosen(log, schemas, ranges, rows)


def events_between(
    log: LogReader,
    schemas: WriterSchemas,
    ranges: Sequence[Range],
    start: int,
    end: int,
    *,
    tenants: frozenset[str],
    types: frozenset[str],
) -> Iterator[list[LogRecord]]:
    """Events of these tenants and types with times in [start, end), batch by batch; no marks."""

    def rows(batch: Batch) -> npt.NDArray[np.int64]:
        return np.flatnonzero(
            batch.tenant.matching(tenants)
            & batch.type.matching(types)
            & (batch.time >= start)
            & (batch.time < end)
            & (batch.kind != MARK_CODE)
        )

    yield from _chosen(log, schemas, ranges, rows)


def same_numbers(
    log: LogReader, schemas: WriterSchemas, ranges: Sequence[Range], records: Sequence[LogRecord]
) -> Iterator[list[LogRecord]]:
    """The other events in these ranges, of any tenant, under the numbers of these records."""
    known = {(record.partition, record.offset) for record in records}
    numbers = {(record.partition, *_number(record)) for record in records}
    producers = frozenset(record.event.producer for record in records)
    sequences = np.array(sorted({record.event.sequence for record in records}), dtype=np.int64)

    def rows(batch: Batch) -> npt.NDArray[np.int64]:
        return np.flatnonzero(
            batch.producer.matching(producers) & np.isin(batch.sequence, sequences)
        )

    for found in _chosen(log, schemas, ranges, rows):
        others = [
            record
            for record in found
            if (record.partition, record.offset) not in known
            and (record.partition, *_number(record)) in numbers
        ]
        if others:
            yield others


def _number(record: LogRecord) -> tuple[str, int, int]:
    return record.event.producer, record.event.lane, record.event.sequence


def _chosen(
    log: LogReader,
    schemas: WriterSchemas,
    ranges: Sequence[Range],
    rows_of: Callable[[Batch], npt.NDArray[np.int64]],
) -> Iterator[list[LogRecord]]:
    decoder = Decoder(schemas)
    appended = dict.fromkeys((each.partition for each in ranges), 0)
    for raw in log.read(ranges):
        partitions, _, append_times = raw.places()
        raw.read_at(log_times(partitions, append_times, appended))
        appended = appended_after(appended, partitions, raw.places().append_time)
        batch = decoder.decode(raw).batch
        rows = rows_of(batch)
        if not len(rows):
            continue
        yield [
            LogRecord(partition, offset, append_time, event)
            for partition, offset, append_time, event in zip(
                batch.partition[rows].tolist(),
                batch.offset[rows].tolist(),
                batch.append_time[rows].tolist(),
                batch.events(rows),
                strict=True,
            )
        ]

"""One tenant's events from parts of the log, decoded as a worker decodes them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from meterstream_aggregator.batch import LogRecord, appended_after, log_times
from meterstream_consumers.decode import Decoder
from meterstream_consumers.logreader import LogReader, Range
from meterstream_schemas.registry import WriterSchemas


def tenant_records(
    log: LogReader, schemas: WriterSchemas, ranges: Sequence[Range], tenant: str
) -> Iterator[list[LogRecord]]:
    """The tenant's events in these ranges, batch by batch; order holds within each partition.

    Append times are log times as far as these ranges tell: what came before them is not read.
    """
    decoder = Decoder(schemas)
    appended = dict.fromkeys((each.partition for each in ranges), 0)
    for raw in log.read(ranges):
        partitions, _, append_times = raw.places()
        raw.read_at(log_times(partitions, append_times, appended))
        appended = appended_after(appended, partitions, raw.places().append_time)
        batch = decoder.decode(raw).batch
        if tenant not in batch.tenant.values:
            continue
        rows = np.flatnonzero(batch.tenant.codes == batch.tenant.values.index(tenant))
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

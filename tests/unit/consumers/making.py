"""What the consumers' tests make: raw records, logs of them, and a folding over a store."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from meterstream_consumers.decode import Decoder
from meterstream_consumers.folding import Folding
from meterstream_consumers.records import RawBatch
from meterstream_schemas import codec
from meterstream_schemas.registry import BundledSchemas
from tests.unit.aggregator.making import READINGS

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from meterstream_aggregator.store.port import Store
    from meterstream_schemas.events import MeterEvent

SCHEMA = codec.parse_text(codec.bundled_text(codec.LATEST_ID))


@dataclass(frozen=True)
class Record:
    """One record of a log. ``append_time`` is milliseconds."""

    partition: int
    offset: int
    append_time: int
    value: bytes | None
    own_headers: list[tuple[str, bytes | None]] = field(default_factory=list)
    own_key: bytes | None = b"k"

    def headers(self) -> list[tuple[str, bytes | None]] | None:
        """As Kafka's client tells them: None for none."""
        return self.own_headers or None

    def key(self) -> bytes | None:
        """The record's key."""
        return self.own_key


def raw_of(records: Iterable[Record]) -> RawBatch:
    """Records as the source hands them over."""
    raw = RawBatch()
    for record in records:
        raw.values.append(record.value)
        raw.partitions.append(record.partition)
        raw.offsets.append(record.offset)
        raw.append_times.append(record.append_time)
        raw.messages.append(record)
    return raw


def raw_values(values: Iterable[bytes | None]) -> RawBatch:
    """Values at offsets 0, 1, 2 ... of partition 0."""
    return raw_of(Record(0, at, 1_000 + at, value) for at, value in enumerate(values))


def framed(event: MeterEvent, schema_id: int = codec.LATEST_ID) -> bytes:
    """A record's value."""
    return codec.encode(event, SCHEMA, schema_id)


def folding(store: Store, partitions: Sequence[int] = (0, 1)) -> Folding:
    """A worker's folding that has just claimed these partitions; a new log begins at 0."""
    made = Folding(
        store,
        READINGS,
        Decoder(BundledSchemas()),
        owner="worker",
        topic="events",
        deadletters_topic="letters",
    )
    for partition in partitions:
        made.take(partition, lambda: 0)
    return made

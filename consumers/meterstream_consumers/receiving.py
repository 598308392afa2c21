"""Consumed messages to the columns of a raw batch."""

from __future__ import annotations

from typing import Any, cast

from confluent_kafka import TIMESTAMP_LOG_APPEND_TIME, Message

from meterstream_consumers.errors import LogUnusable
from meterstream_consumers.records import RawBatch


def receive(raw: RawBatch, found: list[Message], following: dict[int, int]) -> int:
    """Add messages without errors to a batch; how many bytes their values have.

    ``following`` gets, by partition, the offset behind the last of them. Raises `LogUnusable` for
    a record whose time was not given by the broker.
    """
    # By columns: one list comprehension per field costs a third of a loop over messages.
    stamps = [message.timestamp() for message in found]
    append_times = [at for kind, at in stamps if kind == TIMESTAMP_LOG_APPEND_TIME]
    if len(append_times) < len(found):
        raise LogUnusable(
            f"topic {found[0].topic()!r} does not stamp records with LogAppendTime; "
            "set message.timestamp.type=LogAppendTime on it and make a new topic generation"
        )
    # What was consumed has a place: casts in place of two checks for every record.
    partitions = cast("list[int]", [message.partition() for message in found])
    offsets = cast("list[int]", [message.offset() for message in found])
    values = [message.value() for message in found]
    raw.values.extend(values)
    raw.partitions.extend(partitions)
    raw.offsets.extend(offsets)
    raw.append_times.extend(append_times)
    raw.messages.extend(cast("list[Any]", found))
    if partitions.count(partitions[0]) == len(partitions):
        following[partitions[0]] = offsets[-1] + 1
    else:
        # Of several entries for one partition the last one stays.
        last = dict(zip(partitions, offsets, strict=True))
        following.update((partition, offset + 1) for partition, offset in last.items())
    return sum([len(value) for value in values if value is not None])

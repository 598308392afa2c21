"""Raw records of a topic, and the file that they are kept in for the judgement.

A record in the file: partition (u32), offset (u64), append time in milliseconds (u64), then key,
value and headers as JSON, each behind its length (u32; 2^32 - 1 for a null).
"""

from __future__ import annotations

import json
import struct
import time
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from confluent_kafka import Consumer, TopicPartition

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_HEAD: Final = struct.Struct("<IQQ")
_LENGTH: Final = struct.Struct("<I")
_NULL: Final = 2**32 - 1
_PATIENCE_SECONDS: Final = 120.0


class Record(NamedTuple):
    """One record as the broker gives it; ``append_time`` in microseconds."""

    partition: int
    offset: int
    append_time: int
    key: bytes | None
    value: bytes | None
    headers: dict[str, str]


def read_topic(servers: str, topic: str) -> tuple[list[Record], dict[int, int]]:
    """All records, partition by partition in order of offsets, and where each partition ends."""
    consumer = Consumer(
        {
            "bootstrap.servers": servers,
            "group.id": "campaign-verifier",
            "enable.auto.commit": False,
            "auto.offset.reset": "error",
            "enable.partition.eof": True,
            "isolation.level": "read_committed",
            "check.crcs": True,
        }
    )
    try:
        partitions = sorted(consumer.list_topics(topic, timeout=30).topics[topic].partitions)
        ends = {
            p: consumer.get_watermark_offsets(TopicPartition(topic, p), timeout=30)[1]
            for p in partitions
        }
        consumer.assign([TopicPartition(topic, p, 0) for p in partitions])
        return sorted(_read_all(consumer, set(partitions))), ends
    finally:
        consumer.close()


def write_records(path: Path, records: list[Record]) -> None:
    """Keep records in a file."""
    with path.open("wb") as file:
        for record in records:
            file.write(_HEAD.pack(record.partition, record.offset, record.append_time // 1000))
            headers = json.dumps(record.headers).encode()
            for part in (record.key, record.value, headers):
                file.write(_LENGTH.pack(_NULL if part is None else len(part)) + (part or b""))


def read_records(path: Path) -> Iterator[Record]:
    """The records of a file, in the order they stand in it."""
    with path.open("rb") as file:
        while head := file.read(_HEAD.size):
            partition, offset, append_time = _HEAD.unpack(head)
            parts: list[bytes | None] = []
            for _ in range(3):
                length = _LENGTH.unpack(file.read(_LENGTH.size))[0]
                parts.append(None if length == _NULL else file.read(length))
            headers = json.loads(parts[2] or b"{}")
            yield Record(partition, offset, append_time * 1000, parts[0], parts[1], headers)


def _read_all(consumer: Consumer, unread: set[int]) -> Iterator[Record]:
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while unread:
        for message in consumer.consume(1_000, 0.5):
            problem = message.error()
            partition: Any = message.partition()
            if problem is not None:
                if problem.name() != "_PARTITION_EOF":
                    raise RuntimeError(f"the log cannot be read: {problem}")
                unread.discard(partition)
                continue
            deadline = time.monotonic() + _PATIENCE_SECONDS
            given: Any = message.headers() or ()
            yield Record(
                partition,
                message.offset() or 0,
                message.timestamp()[1] * 1000,
                message.key(),
                message.value(),
                {name: (value or b"").decode("utf-8", "replace") for name, value in given},
            )
        if time.monotonic() > deadline:
            raise RuntimeError(f"the log did not end in partitions {sorted(unread)}")

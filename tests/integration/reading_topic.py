"""What a real topic holds, read by a consumer that knows nothing of the SDK."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

from confluent_kafka import OFFSET_BEGINNING, TIMESTAMP_LOG_APPEND_TIME, Consumer, TopicPartition

from meterstream_schemas import codec, wire

if TYPE_CHECKING:
    from meterstream_schemas.events import MeterEvent

_SCHEMA = codec.parse_text(codec.bundled_text(codec.LATEST_ID))


class Placed(NamedTuple):
    """A record and where it lies."""

    partition: int
    offset: int
    key: bytes
    value: bytes

    @property
    def event(self) -> MeterEvent:
        """The event in it."""
        return codec.decode_body(wire.split(self.value)[1], _SCHEMA)


def read_topic(bootstrap_servers: str, topic: str, *, timeout_seconds: float = 60) -> list[Placed]:
    """Every record from the first to the last, partition by partition."""
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap_servers,
            "group.id": "none",
            "enable.auto.commit": False,
            "check.crcs": True,
        }
    )
    try:
        partitions = consumer.list_topics(topic, timeout=30).topics[topic].partitions
        ends = {
            partition: consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=30)
            for partition in partitions
        }
        awaited = sum(high - low for low, high in ends.values())
        consumer.assign(
            [TopicPartition(topic, partition, OFFSET_BEGINNING) for partition in partitions]
        )
        found: list[Placed] = []
        deadline = time.monotonic() + timeout_seconds
        while len(found) < awaited:
            assert time.monotonic() < deadline, f"read {len(found)} of {awaited} records"
            for message in consumer.consume(1000, timeout=0.1):
                assert message.error() is None, message.error()
                assert message.timestamp()[0] == TIMESTAMP_LOG_APPEND_TIME
                found.append(
                    Placed(
                        message.partition() or 0,
                        message.offset() or 0,
                        message.key() or b"",
                        message.value() or b"",
                    )
                )
    finally:
        consumer.close()
    return sorted(found)

"""The log, consumed: a member of a Kafka consumer group that begins where the store says.

The only consumer of events. Kafka spreads the partitions; where to read from and who may write is
decided by the store. Used by one thread, which must call `collect` or `idle` at least every five
minutes.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any, Final, Protocol, cast

from confluent_kafka import (
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    TopicPartition,
)

from meterstream_consumers.errors import LogUnusable
from meterstream_consumers.receiving import receive
from meterstream_consumers.records import RawBatch
from meterstream_consumers.settings import WorkerSettings

_POLL_EVENTS: Final = 1000
_BACKLOG_POLL_SECONDS: Final = 0.05
_WATERMARK_SECONDS: Final = 10.0


class Owner(Protocol):
    """Who keeps positions: asked when partitions come and told when they go."""

    def take(self, partition: int, lowest: Callable[[], int]) -> int:
        """Own the partition from now on; the offset to read from. ``lowest`` asks the log."""
        ...

    def let_go(self, partitions: list[int], *, lost: bool) -> None:
        """Own these no more; with ``lost`` somebody else may own them already."""
        ...


class Source:
    """Reads one topic for one group member. Raises `LogUnusable` for what waiting cannot mend."""

    def __init__(self, settings: WorkerSettings, owner: Owner, warn: Callable[[str], None]) -> None:
        self._settings = settings
        self._owner = owner
        self._warn = warn
        self._consumer = Consumer(_configuration(settings, warn))
        self._consumer.subscribe(
            [settings.topic],
            on_assign=self._on_assign,
            on_revoke=self._on_revoke,
            on_lost=self._on_lost,
        )
        self._assigned: set[int] = set()
        self._next: dict[int, int] = {}
        """Where the next record is read, by partition. Markers of transactions count as read."""

    def collect(self) -> RawBatch:
        """The next records, in log order per partition; empty when there are none just now.

        Waits `idle_seconds` for a first record, then takes what there is: while the log has more,
        up to `batch_events_max` records, `batch_bytes_max` and `batch_seconds_max`.
        """
        raw = RawBatch()
        first = self._consumer.poll(self._settings.idle_seconds)
        if first is None:
            return raw
        size = self._append(raw, [first])
        deadline = time.monotonic() + self._settings.batch_seconds_max
        wait = 0.0
        events_max, bytes_max = self._settings.batch_events_max, self._settings.batch_bytes_max
        while len(raw) < events_max and size < bytes_max:
            found = self._consumer.consume(_POLL_EVENTS, wait)
            size += self._append(raw, found)
            if time.monotonic() >= deadline or (not found and not self._lagging()):
                break
            wait = _BACKLOG_POLL_SECONDS if len(found) < _POLL_EVENTS and self._lagging() else 0.0
        return raw

    def committed(self, positions: dict[int, int]) -> None:
        """Tell Kafka how far the store is: best effort, for tools that watch the group's lag."""
        offsets = [
            TopicPartition(self._settings.topic, partition, offset)
            for partition, offset in positions.items()
        ]
        try:
            self._consumer.commit(offsets=offsets, asynchronous=True)
        except KafkaException as problem:
            self._warn(f"offsets not committed to Kafka (the store has them): {problem}")

    def high_watermark(self, partition: int) -> int | None:
        """The end of a partition as the last fetch told it, None while unknown."""
        _, high = self._consumer.get_watermark_offsets(
            TopicPartition(self._settings.topic, partition), cached=True
        )
        return high if high >= 0 else None

    def close(self) -> None:
        """Leave the group, unless membership is static. Blocks while a rebalance finishes."""
        self._consumer.close()

    def at_end(self, partition: int) -> bool:
        """Whether everything was read that the log is known to have in an assigned partition."""
        high = self.high_watermark(partition)
        return high is not None and self._next.get(partition, -1) >= high

    def _append(self, raw: RawBatch, found: list[Message]) -> int:
        """Add records to the batch; how many bytes their values have."""
        problems = [message for message in found if message.error() is not None]
        if not problems:
            return receive(raw, found, self._next) if found else 0
        kept = [message for message in found if message.error() is None]
        size = receive(raw, kept, self._next) if kept else 0
        for message in problems:
            self._judge(cast("KafkaError", message.error()), message)
        return size

    def _judge(self, problem: KafkaError, message: Message) -> None:
        if problem.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 - its public name
            # Behind the last record there may be markers that no consumer is handed.
            partition, end = cast("int", message.partition()), cast("int", message.offset())
            self._next[partition] = max(self._next.get(partition, end), end)
            return
        if problem.code() == KafkaError._AUTO_OFFSET_RESET:  # noqa: SLF001 - its public name
            raise LogUnusable(
                f"the log no longer has the records after the stored position: {problem.str()}; "
                "retention overtook this worker, and what lies between is lost to it"
            )
        if problem.code() in (
            KafkaError.UNKNOWN_TOPIC_OR_PART,
            KafkaError.TOPIC_AUTHORIZATION_FAILED,
        ):
            raise LogUnusable(f"topic {self._settings.topic!r} cannot be read: {problem.str()}")
        if problem.fatal():
            raise LogUnusable(f"the consumer cannot go on: {problem.str()}")
        self._warn(f"Kafka: {problem.str()}")

    def _lagging(self) -> bool:
        return any(
            self.high_watermark(partition) is not None and not self.at_end(partition)
            for partition in self._assigned
        )

    def _on_assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        taken: list[TopicPartition] = []
        for partition in partitions:
            offset = self._owner.take(partition.partition, partial(self._lowest, partition))
            taken.append(TopicPartition(partition.topic, partition.partition, offset))
            self._next[partition.partition] = offset
            self._assigned.add(partition.partition)
        consumer.incremental_assign(taken)

    def _on_revoke(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._release(partitions, lost=False)
        consumer.incremental_unassign(partitions)

    def _on_lost(self, _consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._release(partitions, lost=True)

    def _release(self, partitions: list[TopicPartition], *, lost: bool) -> None:
        gone = [partition.partition for partition in partitions]
        self._assigned.difference_update(gone)
        self._owner.let_go(gone, lost=lost)

    def _lowest(self, partition: TopicPartition) -> int:
        low, _ = self._consumer.get_watermark_offsets(partition, timeout=_WATERMARK_SECONDS)
        return low


def _configuration(settings: WorkerSettings, warn: Callable[[str], None]) -> dict[str, Any]:
    def told(problem: KafkaError) -> None:
        warn(f"Kafka: {problem.str()}")

    configuration: dict[str, Any] = {
        "bootstrap.servers": settings.bootstrap_servers,
        "group.id": settings.group,
        "client.id": settings.instance or "meterstream-worker",
        "group.protocol": "classic",
        "partition.assignment.strategy": "cooperative-sticky",
        "session.timeout.ms": settings.session_timeout_seconds * 1000,
        "heartbeat.interval.ms": settings.session_timeout_seconds * 1000 // 4,
        "max.poll.interval.ms": 300_000,
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "auto.offset.reset": "error",
        "isolation.level": "read_committed",
        "enable.partition.eof": True,
        "check.crcs": True,
        "queued.max.messages.kbytes": 32_768,
        "fetch.wait.max.ms": 50,
        # A full prefetch queue would pause fetching for a second; measured, it starves the loop.
        "fetch.queue.backoff.ms": 10,
        "enable.metrics.push": False,
        "error_cb": told,
    }
    if settings.instance is not None:
        configuration["group.instance.id"] = settings.instance
    return configuration

"""Ranges of a topic, read without a consumer group: for rebuilding a store and explaining figures.

Nothing is committed anywhere and nobody's assignment changes. Blocks; for one thread.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from types import TracebackType
from typing import Any, Final, NamedTuple, Self, cast

from confluent_kafka import (
    TIMESTAMP_LOG_APPEND_TIME,
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    TopicPartition,
)

from meterstream_consumers.errors import LogTooShort, LogUnusable
from meterstream_consumers.records import RawBatch
from meterstream_schemas.kafka_settings import client_settings

BATCH_EVENTS_MAX: Final = 100_000
BATCH_BYTES_MAX: Final = 64 * 1024 * 1024
_POLL_EVENTS: Final = 1_000
_POLL_SECONDS: Final = 0.05
_ANSWER_SECONDS: Final = 10.0
PATIENCE_SECONDS: Final = 60.0
"""How long the log may tell nothing, while there is more to read, before it is given up."""


class Range(NamedTuple):
    """Offsets [start, end) of a partition."""

    partition: int
    start: int
    end: int


class LogReader:
    """Reads one topic. Raises `LogUnusable` for what waiting does not mend. A context manager."""

    def __init__(
        self,
        bootstrap_servers: str,
        topic: str,
        *,
        patience_seconds: float = PATIENCE_SECONDS,
    ) -> None:
        self._topic = topic
        self._patience_seconds = patience_seconds
        self._problem = ""
        self._consumer = Consumer(
            {
                **client_settings(bootstrap_servers),
                # A name is asked for; no group is joined, since partitions are assigned by hand.
                "group.id": "meterstream-log-reader",
                "client.id": "meterstream-log-reader",
                "enable.auto.commit": False,
                "enable.auto.offset.store": False,
                "enable.partition.eof": True,
                "auto.offset.reset": "error",
                "isolation.level": "read_committed",
                "check.crcs": True,
                "queued.max.messages.kbytes": 32_768,
                "fetch.wait.max.ms": 50,
                # A full prefetch queue would pause fetching for a second.
                "fetch.queue.backoff.ms": 10,
                "enable.metrics.push": False,
                "error_cb": self._remember,
            }
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the broker."""
        self._consumer.close()

    def partitions(self) -> list[int]:
        """The partitions that the topic has now."""
        try:
            found = self._consumer.list_topics(self._topic, timeout=_ANSWER_SECONDS)
        except KafkaException as problem:
            raise LogUnusable(f"topic {self._topic!r}: {_reason(problem)}") from problem
        topic = found.topics[self._topic]
        if topic.error is not None:
            raise LogUnusable(f"topic {self._topic!r}: {topic.error.str()}")
        return sorted(topic.partitions)

    def bounds(self, partitions: Iterable[int]) -> dict[int, tuple[int, int]]:
        """The first offset and the end of each partition, as the broker has them now."""
        found: dict[int, tuple[int, int]] = {}
        for partition in partitions:
            place = TopicPartition(self._topic, partition)
            try:
                found[partition] = self._consumer.get_watermark_offsets(
                    place, timeout=_ANSWER_SECONDS
                )
            except KafkaException as problem:
                raise LogUnusable(
                    f"topic {self._topic!r}, partition {partition}: the broker does not say what "
                    f"it holds: {_reason(problem)}"
                ) from problem
        return found

    def check(self, ranges: Iterable[Range]) -> None:
        """Raise `LogTooShort` unless the log still begins at or before each of these ranges."""
        wanted = [each for each in ranges if each.start < each.end]
        bounds = self.bounds({each.partition for each in wanted})
        for each in wanted:
            first, _ = bounds[each.partition]
            if first > each.start:
                raise LogTooShort(self._topic, each.partition, needed=each.start, first=first)

    def read(
        self,
        ranges: Iterable[Range],
        *,
        events_max: int = BATCH_EVENTS_MAX,
        bytes_max: int = BATCH_BYTES_MAX,
    ) -> Iterator[RawBatch]:
        """The records of these ranges in batches, in the log's order within each partition.

        Ranges of one partition must not overlap; they are read one after the other, those of
        different partitions side by side.
        """
        waiting: dict[int, list[Range]] = {}
        for each in sorted(ranges, reverse=True):
            if each.start < each.end:
                waiting.setdefault(each.partition, []).append(each)
        while waiting:
            now = {partition: of_partition.pop() for partition, of_partition in waiting.items()}
            waiting = {partition: rest for partition, rest in waiting.items() if rest}
            yield from self._read(now, events_max, bytes_max)

    def _read(
        self, ranges: Mapping[int, Range], events_max: int, bytes_max: int
    ) -> Iterator[RawBatch]:
        """One range of each partition."""
        left = {partition: each.end for partition, each in ranges.items()}
        self._consumer.assign([TopicPartition(self._topic, p, r.start) for p, r in ranges.items()])
        raw, size = RawBatch(), 0
        deadline = time.monotonic() + self._patience_seconds
        while left:
            found = self._consumer.consume(_POLL_EVENTS, _POLL_SECONDS)
            if found:
                deadline = time.monotonic() + self._patience_seconds
            elif time.monotonic() > deadline:
                raise LogUnusable(
                    f"topic {self._topic!r} told nothing for {self._patience_seconds:.0f} s: "
                    f"{self._problem or 'is the broker still there?'}"
                )
            size += self._take(raw, found, left)
            if len(raw) >= events_max or size >= bytes_max:
                yield raw
                raw, size = RawBatch(), 0
        self._consumer.unassign()
        if len(raw):
            yield raw

    def _take(self, raw: RawBatch, found: list[Message], left: dict[int, int]) -> int:
        """Add what lies in the ranges to the batch, and note which are read; bytes added."""
        done: set[int] = set()
        records: list[Message] = []
        for message in found:
            partition = cast("int", message.partition())
            problem = message.error()
            if problem is None:
                records.append(message)
            elif self._is_end(problem) and partition in left:
                # Transaction markers have offsets and are no records: the end alone tells of them.
                end = cast("int", message.offset())
                if end >= left[partition]:
                    done.add(partition)
                self._problem = f"partition {partition} ends at offset {end}"
        offsets = cast("list[int]", [message.offset() for message in records])
        partitions = cast("list[int]", [message.partition() for message in records])
        size = self._append(raw, records, partitions, offsets, left)
        for partition, offset in dict(zip(partitions, offsets, strict=True)).items():
            if partition in left and offset + 1 >= left[partition]:
                done.add(partition)
        if done:
            for partition in done:
                del left[partition]
            self._consumer.incremental_unassign([TopicPartition(self._topic, p) for p in done])
        return size

    def _append(
        self,
        raw: RawBatch,
        records: list[Message],
        partitions: list[int],
        offsets: list[int],
        left: Mapping[int, int],
    ) -> int:
        inside = [
            offset < left.get(partition, 0)
            for partition, offset in zip(partitions, offsets, strict=True)
        ]
        if not all(inside):
            rows = [row for row, is_inside in enumerate(inside) if is_inside]
            records = [records[row] for row in rows]
            partitions = [partitions[row] for row in rows]
            offsets = [offsets[row] for row in rows]
        stamps = [message.timestamp() for message in records]
        append_times = [at for kind, at in stamps if kind == TIMESTAMP_LOG_APPEND_TIME]
        if len(append_times) < len(records):
            raise LogUnusable(
                f"topic {self._topic!r} does not stamp records with LogAppendTime: nothing can be "
                "said about when they came"
            )
        raw.values.extend([message.value() for message in records])
        raw.partitions.extend(partitions)
        raw.offsets.extend(offsets)
        raw.append_times.extend(append_times)
        raw.messages.extend(cast("list[Any]", records))
        return sum(map(len, records))

    def _is_end(self, problem: KafkaError) -> bool:
        code = problem.code()
        if code == KafkaError._PARTITION_EOF:  # noqa: SLF001 - its public name
            return True
        if problem.fatal() or code in (
            KafkaError._AUTO_OFFSET_RESET,  # noqa: SLF001 - its public name
            KafkaError.UNKNOWN_TOPIC_OR_PART,
            KafkaError.TOPIC_AUTHORIZATION_FAILED,
        ):
            raise LogUnusable(f"topic {self._topic!r} cannot be read: {problem.str()}")
        self._remember(problem)
        return False

    def _remember(self, problem: KafkaError) -> None:
        self._problem = problem.str()


def _reason(problem: KafkaException) -> str:
    error = problem.args[0]
    return error.str() if isinstance(error, KafkaError) else str(error)

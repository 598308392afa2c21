"""The log, consumed: a member of a Kafka consumer group that begins where the store says.

The only consumer of events. Kafka spreads the partitions; where to read from and who may write is
decided by the store. Used by one thread, which must call `collect` or `wait` at least every five
minutes.

Partitions come one by one and go one by one (cooperative, or Kafka's own protocol of KIP-848). A
partition can be *held*: it stays ours and is not read, while its group sees a member that lives.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import Final, Protocol, cast

from confluent_kafka import (
    OFFSET_END,
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    TopicPartition,
)

from meterstream_consumers.errors import LogUnsure, LogUnusable
from meterstream_consumers.membership import configuration, fatal
from meterstream_consumers.receiving import receive
from meterstream_consumers.records import RawBatch
from meterstream_consumers.settings import WorkerSettings
from meterstream_consumers.store_names import GroupOffset, StoreName, undump

_POLL_EVENTS: Final = 1000
_BACKLOG_POLL_SECONDS: Final = 0.05
_ANSWER_SECONDS: Final = 10.0


class Owner(Protocol):
    """Who keeps positions: asked when partitions come and told when they go."""

    def take(self, partition: int, lowest: Callable[[], int]) -> int | None:
        """Own the partition from now on; the offset to read from. ``lowest`` asks the log.

        None for a partition that is to be held until `Source.read_from`.
        """
        ...

    def let_go(self, partitions: list[int], *, lost: bool) -> None:
        """Own these no more; with ``lost`` somebody else may own them already."""
        ...


class _Nobody:
    """The owner of what was abandoned."""

    def take(self, partition: int, lowest: Callable[[], int]) -> int | None:
        """Nobody reads it."""

    def let_go(self, partitions: list[int], *, lost: bool) -> None:
        """Nobody had it."""


class Source:
    """Reads one topic for one group member. Raises `LogUnusable` for what waiting cannot mend.

    ``store`` is the name that committed offsets carry.
    """

    def __init__(
        self,
        settings: WorkerSettings,
        owner: Owner,
        warn: Callable[[str], None],
        *,
        store: StoreName | None = None,
    ) -> None:
        self._settings = settings
        self._owner = owner
        self._warn = warn
        self.store = store
        """The store whose name goes with offsets from now on."""
        self._consumer = Consumer(configuration(settings, warn))
        self._consumer.subscribe(
            [settings.topic],
            on_assign=self._on_assign,
            on_revoke=self._on_revoke,
            on_lost=self._on_lost,
        )
        self.joined = False
        """Whether the group has told us what is ours, be it nothing."""
        self.assigned: set[int] = set()
        self.held: set[int] = set()
        self.out_of_range: set[int] = set()
        """Partitions whose log has no record at our position. They are held."""
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

    def wait(self, seconds: float) -> None:
        """Stay in the group while everything is held; what still comes is read again later."""
        message = self._consumer.poll(seconds)
        if message is not None and message.error() is not None:
            self._judge(cast("KafkaError", message.error()), message)

    def hold(self, partitions: Collection[int]) -> None:
        """Read these no further until `read_from`; what was fetched of them ahead is dropped."""
        ours = [self._place(partition) for partition in partitions if partition in self.assigned]
        if ours:
            self._consumer.pause(ours)
        self.held.update(place.partition for place in ours)

    def read_from(self, positions: Mapping[int, int]) -> None:
        """Read held partitions on from these offsets. Raises `LogUnsure`: then try again."""
        ours = [self._place(p, at) for p, at in positions.items() if p in self.assigned]
        try:
            if ours:
                # Taken out and in again, where a seek would do as well: but one whose position
                # the log has not is stopped inside the client, which refuses to seek in it.
                self._consumer.incremental_unassign(ours)
                self._consumer.incremental_assign(ours)
                self._consumer.resume(ours)
        except KafkaException as problem:
            raise LogUnsure(f"partitions cannot be read on just now: {problem}") from problem
        for place in ours:
            self._next[place.partition] = place.offset
            self.held.discard(place.partition)
            self.out_of_range.discard(place.partition)

    def committed(self, positions: Mapping[int, int]) -> None:
        """Tell Kafka how far the store is: best effort, for the group's other members and tools."""
        if not positions:
            return
        if self.store is None:
            offsets = [self._place(partition, at) for partition, at in positions.items()]
        else:
            told = self.store.dump()
            offsets = [
                TopicPartition(self._settings.topic, partition, at, told)
                for partition, at in positions.items()
            ]
        try:
            self._consumer.commit(offsets=offsets, asynchronous=True)
        except KafkaException as problem:
            self._warn(f"offsets not committed to Kafka (the store has them): {problem}")

    def group_offsets(self, partitions: Collection[int]) -> dict[int, GroupOffset]:
        """What the group has committed for these, by whichever member. Blocks.

        Raises `LogUnsure` when nobody answers.
        """
        wanted = [self._place(partition) for partition in partitions]
        try:
            found = self._consumer.committed(wanted, timeout=_ANSWER_SECONDS)
        except KafkaException as problem:
            raise LogUnsure(f"the group's positions cannot be read: {problem}") from problem
        return {
            place.partition: GroupOffset(place.offset, undump(place.metadata))
            for place in found
            if place.offset >= 0
        }

    def bounds(self, partition: int) -> tuple[int, int]:
        """The first offset that the log has of a partition, and its end. Blocks.

        Raises `LogUnsure` when nobody answers.
        """
        try:
            return self._consumer.get_watermark_offsets(
                self._place(partition), timeout=_ANSWER_SECONDS
            )
        except KafkaException as problem:
            raise LogUnsure(
                f"the broker does not say what partition {partition} holds: {problem}"
            ) from problem

    def high_watermark(self, partition: int) -> int | None:
        """The end of a partition as the last fetch told it, None while unknown."""
        _, high = self._consumer.get_watermark_offsets(self._place(partition), cached=True)
        return high if high >= 0 else None

    def close(self) -> None:
        """Leave the group, unless membership is static. Blocks while a rebalance finishes."""
        self._consumer.close()

    def abandon(self) -> None:
        """Leave the group as `close` does, behind our back: it may take minutes, or never end.

        For a client that gets no answer from the group. The owner is told of nothing any more.
        """
        self._owner = _Nobody()
        threading.Thread(target=self._consumer.close, name="abandoned", daemon=True).start()

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
        code, told = problem.code(), problem.str()
        if code == KafkaError._PARTITION_EOF:  # noqa: SLF001 - its public name
            # Behind the last record there may be markers that no consumer is handed.
            partition, end = cast("int", message.partition()), cast("int", message.offset())
            self._next[partition] = max(self._next.get(partition, end), end)
        elif code == KafkaError._AUTO_OFFSET_RESET:  # noqa: SLF001 - its public name
            partition = cast("int", message.partition())
            self.hold([partition])
            # One that has gone meanwhile is its next owner's to judge.
            self.out_of_range.update({partition} & self.assigned)
        elif code in (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError.TOPIC_AUTHORIZATION_FAILED):
            raise LogUnusable(f"topic {self._settings.topic!r} cannot be read: {told}")
        elif problem.fatal() or code == KafkaError._FATAL:  # noqa: SLF001 - its public name
            raise fatal(told, self._settings)
        else:
            self._warn(f"Kafka: {told}")

    def _lagging(self) -> bool:
        return any(
            self.high_watermark(partition) is not None and not self.at_end(partition)
            for partition in self.assigned - self.held
        )

    def _on_assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self.joined = True
        taken: list[TopicPartition] = []
        waiting: list[int] = []
        for partition in partitions:
            number = partition.partition
            offset = self._owner.take(number, partial(self._lowest, partition))
            if offset is None:
                waiting.append(number)
                offset = OFFSET_END
            else:
                self._next[number] = offset
            taken.append(self._place(number, offset))
            self.assigned.add(number)
        consumer.incremental_assign(taken)
        # The client remembers what was paused in an earlier assignment: it would never be read.
        consumer.resume(taken)
        self.hold(waiting)

    def _on_revoke(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._release(partitions, lost=False)
        consumer.incremental_unassign(partitions)

    def _on_lost(self, _consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self.joined = False
        self._release(partitions, lost=True)

    def _release(self, partitions: list[TopicPartition], *, lost: bool) -> None:
        gone = [partition.partition for partition in partitions]
        for of_ours in (self.assigned, self.held, self.out_of_range):
            of_ours.difference_update(gone)
        self._owner.let_go(gone, lost=lost)

    def _lowest(self, partition: TopicPartition) -> int:
        low, _ = self.bounds(partition.partition)
        return low

    def _place(self, partition: int, offset: int = 0) -> TopicPartition:
        return TopicPartition(self._settings.topic, partition, offset)

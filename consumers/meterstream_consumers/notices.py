"""The notices topic, consumed one message at a time by a group of its own.

A position is committed only when its message is done with, before the next one is given out.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final, NamedTuple

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from meterstream_schemas.kafka_settings import client_settings

_SESSION_MILLISECONDS: Final = 10_000
_POLL_INTERVAL_MILLISECONDS: Final = 300_000


class Notice(NamedTuple):
    """A message of the notices topic."""

    partition: int
    offset: int
    value: bytes


class NoticeSource:
    """Reads one topic. Used by one thread, which may be slow if it calls `keep_alive`."""

    def __init__(
        self, bootstrap_servers: str, topic: str, group: str, *, warn: Callable[[str], None]
    ) -> None:
        def told(problem: KafkaError) -> None:
            warn(problem.str())

        self._warn = warn
        self._topic = topic
        self._consumer = Consumer(
            {
                **client_settings(bootstrap_servers),
                "group.id": group,
                "enable.auto.commit": False,
                "auto.offset.reset": "earliest",
                "session.timeout.ms": _SESSION_MILLISECONDS,
                "max.poll.interval.ms": _POLL_INTERVAL_MILLISECONDS,
                "enable.metrics.push": False,
                "error_cb": told,
            }
        )
        self._ahead: deque[Notice] = deque()
        self._consumer.subscribe([topic])

    def next(self, seconds: float) -> Notice | None:
        """The next message, or None when none came in time."""
        found = self._ahead.popleft() if self._ahead else self._poll(seconds)
        if found is not None:
            self._consumer.pause(self._consumer.assignment())
        return found

    def done(self, notice: Notice) -> None:
        """Commit the position after it. What cannot be committed is given out again some time."""
        place = TopicPartition(self._topic, notice.partition, notice.offset + 1)
        try:
            self._consumer.commit(offsets=[place], asynchronous=False)
        except KafkaException as problem:
            self._warn(f"a position was not committed, its notice may be sent again: {problem}")
        self._consumer.resume(self._consumer.assignment())

    def keep_alive(self) -> None:
        """Stay in the group while a message takes long; what comes nevertheless is kept."""
        if (found := self._poll(0)) is not None:
            self._ahead.append(found)

    def _poll(self, seconds: float) -> Notice | None:
        message = self._consumer.poll(seconds)
        if message is None:
            return None
        if (problem := message.error()) is not None:
            self._warn(problem.str())
            return None
        partition, offset = message.partition(), message.offset()
        assert partition is not None, "what was consumed has a place"
        assert offset is not None, "what was consumed has a place"
        return Notice(partition, offset, message.value() or b"")

    def close(self) -> None:
        """Leave the group."""
        self._consumer.close()

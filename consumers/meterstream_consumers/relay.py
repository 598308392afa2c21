"""The outbox, relayed: messages leave after the commit, at least once, and are then forgotten.

Each carries a key or id by which receivers ignore repeats. `step` never waits for the broker.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Final

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from meterstream_aggregator.changes import OutboxMessage
from meterstream_aggregator.store.port import Store
from meterstream_schemas.kafka_settings import client_settings

_MESSAGES_MAX: Final = 500
_MESSAGE_BYTES_MAX: Final = 128 * 1024 * 1024
"""Before compression; the topic judges what is left after it."""
_CUT_BYTES: Final = 400_000
_CUT_HEADER_BYTES: Final = 1_000
_CUT_NAME: Final = 100
_CUT_HEADERS: Final = 100


class Relay:
    """Sends a store's outbox to Kafka. Used by the thread that owns the store."""

    def __init__(
        self,
        bootstrap_servers: str,
        store: Store,
        *,
        sent: Callable[[str], None],
        warn: Callable[[str], None],
    ) -> None:
        self._store = store
        self._sent = sent
        self._warn = warn
        self._under_way: set[int] = set()
        self._to_cut: set[int] = set()
        self._taken: list[int] = []
        self._producer = Producer(
            {
                **client_settings(bootstrap_servers),
                "enable.idempotence": True,
                "compression.type": "lz4",
                "delivery.timeout.ms": 60_000,
                "message.max.bytes": _MESSAGE_BYTES_MAX,
                "enable.metrics.push": False,
            }
        )

    @property
    def waiting(self) -> int:
        """Messages under way."""
        return len(self._under_way)

    def step(self, partitions: Collection[int]) -> bool:
        """Send what waits and forget what was taken; True while there is more to do."""
        self._producer.poll(0)
        if self._taken:
            done, self._taken = self._taken, []
            self._store.outbox_done(done)
            self._under_way.difference_update(done)
        if self._under_way:
            return True
        waiting = self._store.outbox(partitions, _MESSAGES_MAX)
        for row in waiting:
            self._send(row.id, cut(row.message) if row.id in self._to_cut else row.message)
        return bool(waiting)

    def post(
        self, topic: str, partition: int, value: bytes, told: Callable[[str | None], None]
    ) -> None:
        """Send one record of no consequence. ``told`` gets None once it is taken, else why not.

        Never waits; ``told`` is called from `step`, or at once.
        """

        def on_delivery(problem: KafkaError | None, _: Message) -> None:
            told(None if problem is None else problem.str())

        try:
            self._producer.produce(topic, value, None, partition, on_delivery)
        except (KafkaException, BufferError) as problem:
            told(str(problem))

    def flush(self, partitions: Collection[int], seconds: float) -> None:
        """Wait for what is under way, at most this long, then forget what was taken."""
        self._producer.flush(seconds)
        self.step(partitions)

    def close(self) -> None:
        """Let go of the broker at once; what is under way stays in the store, and is sent again.

        Left to the collector of garbage, clients would pile up, each of which goes on trying.
        """
        self._warn = _say_nothing
        self._producer.purge()
        self._producer.close()

    def _send(self, row: int, message: OutboxMessage) -> None:
        self._under_way.add(row)
        try:
            self._producer.produce(
                message.topic,
                message.value,
                message.key,
                headers=list(message.headers),
                on_delivery=lambda problem, told: self._on_delivery(row, problem, told),
            )
        except (KafkaException, BufferError) as problem:
            reason = problem.args[0] if isinstance(problem, KafkaException) else None
            self._not_taken(row, reason if isinstance(reason, KafkaError) else None)

    def _on_delivery(self, row: int, problem: KafkaError | None, message: Message) -> None:
        if problem is None and message.offset() is not None:
            self._taken.append(row)
            self._to_cut.discard(row)
            self._sent(message.topic() or "")
        else:
            self._not_taken(row, problem)

    def _not_taken(self, row: int, problem: KafkaError | None) -> None:
        self._under_way.discard(row)
        if problem is not None and problem.code() == KafkaError.MSG_SIZE_TOO_LARGE:
            self._to_cut.add(row)
        self._warn(f"an outbox message was not taken and will be sent again: {problem}")


def _say_nothing(_: str) -> None:
    """What is dropped on purpose is no trouble."""


def cut(message: OutboxMessage) -> OutboxMessage:
    """The message cut to what any topic takes: its value, and every header that is long.

    A header says how long the value was. The whole record is still in the log, at the position that
    the headers name.
    """
    value = message.value or b""
    headers = tuple((name[:_CUT_NAME], text[:_CUT_HEADER_BYTES]) for name, text in message.headers)
    size = ("meterstream-cut-from-bytes", str(len(value)).encode())
    return message._replace(value=value[:_CUT_BYTES], headers=(*headers[:_CUT_HEADERS], size))

"""The transport over a real Kafka: an idempotent producer that loses nothing on its own.

What is set and why: idempotence implies ``acks=all`` and keeps a partition's order; no delivery
timeout, since an event that timed out may be in the log all the same; bounded queues; explicit
partitions. What must be known of the topic first, `meterstream.kafka_topic` asks.

confluent-kafka is imported when a connection is first made, so that importing the SDK costs
nothing. All of it is used from the background thread only.
"""

from __future__ import annotations

import os
from itertools import repeat
from typing import TYPE_CHECKING, Any, Final

from meterstream import processes
from meterstream.errors import (
    SettingsError,
    TransportBroken,
    TransportConnecting,
    TransportUnavailable,
)
from meterstream.flight import FLIGHT_MAX
from meterstream.kafka_topic import TopicQuestion, keep_forever
from meterstream.transport import Failure

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from confluent_kafka import KafkaError, Message, Producer

    from meterstream.transport import Parcel, Report

_QUEUE_KILOBYTES_MAX: Final = 65_536
_LOG_ERROR: Final = 40
_WAIT_SECONDS: Final = 0.05
"""How long one attempt to connect waits for a broker's answer; the next goes on waiting."""

PROTECTIVE: Final[Mapping[str, object]] = {
    "enable.idempotence": True,
    "delivery.timeout.ms": 0,
    "queue.buffering.max.messages": 2 * FLIGHT_MAX,
    "queue.buffering.max.kbytes": _QUEUE_KILOBYTES_MAX,
}
"""Settings that the SDK's promises rest on; they cannot be overridden."""

TUNING: Final[Mapping[str, object]] = {
    "linger.ms": 20,
    "compression.type": "lz4",
    "reconnect.backoff.max.ms": 2_000,
    "log.connection.close": False,
    "enable.metrics.push": False,
}
"""Settings that may be overridden."""


_OURS: Final = frozenset(
    (*PROTECTIVE, "bootstrap.servers", "client.id", "batch.size", "message.max.bytes")
)


class KafkaTransport:
    """See `meterstream.transport.Transport`.

    ``bootstrap_servers`` is asked at every attempt to connect, since a local broker may appear
    under another address; it raises `TransportUnavailable` when nothing names a broker.
    ``settings`` are further librdkafka settings, such as ``security.protocol``.
    """

    def __init__(
        self,
        *,
        bootstrap_servers: Callable[[], str],
        topic: str,
        client_id: str,
        settings: Mapping[str, str | int | bool] | None = None,
    ) -> None:
        forbidden = sorted(set(settings or ()) & _OURS)
        if forbidden:
            raise SettingsError(f"kafka_settings: {', '.join(forbidden)} cannot be set; remove it")
        self._bootstrap_servers: Final = bootstrap_servers
        self._topic: Final = topic
        self._client_id: Final = client_id
        self._settings: Final = dict(settings or {})
        self._producer: Producer | None = None
        self._question: TopicQuestion | None = None
        self._reports: list[Report] = []
        self._arrived: Final[list[Message]] = []
        """What the client told as delivered, until `poll` makes reports of it."""
        self._tickets: dict[bytes, int] = {}
        """Tickets by record: no two are equal, since each carries its number."""
        self._trouble: str | None = None
        self._broken: str | None = None

    def connect(self, *, timeout_seconds: float) -> int:
        """See `meterstream.transport.Transport`. Waits a moment at a time for a broker."""
        self.close()
        servers = self._bootstrap_servers()
        with processes.no_fork():
            # Imported here: the host pays for it when it records, not when it imports the SDK.
            from confluent_kafka import KafkaException  # noqa: PLC0415

            try:
                partitions = self._open(servers, timeout_seconds)
            except TransportConnecting:
                raise
            except KafkaException as problem:
                self._question = None
                raise TransportUnavailable(f"broker {servers}: {_text(problem)}") from problem
            except TransportUnavailable:
                self._question = None
                raise
        self._question = None
        self._reports = []
        self._arrived.clear()
        self._broken = None
        return partitions

    def send(self, parcels: Sequence[Parcel]) -> int:
        """See `meterstream.transport.Transport`. Takes all: what finds no room is in doubt.

        In batches: single calls would let go of the interpreter's lock for every event, and beside
        a busy thread of the host each would wait for its turn again.
        """
        tickets = self._tickets
        chosen: dict[int, list[Parcel]] = {}
        for parcel in parcels:
            ticket, partition, _, value = parcel
            if tickets.setdefault(value, ticket) != ticket:
                self._reports.append((ticket, None, Failure("an equal record is under way", False)))
            elif partition in chosen:
                chosen[partition].append(parcel)
            else:
                chosen[partition] = [parcel]
        for partition, batch in chosen.items():
            self._produce(partition, batch)
        return len(parcels)

    def poll(self, timeout_seconds: float) -> list[Report]:
        """See `meterstream.transport.Transport`."""
        from confluent_kafka import KafkaException  # noqa: PLC0415 - see connect

        producer = self._open_producer()
        try:
            producer.poll(0 if self._reports else timeout_seconds)
        except (KafkaException, SystemError) as problem:
            # A fatal error surfaces as SystemError when a callback ran in the same poll.
            cause = problem if isinstance(problem, KafkaException) else problem.__cause__
            raise TransportBroken(_text(cause or problem)) from problem
        if self._broken is not None:
            raise TransportBroken(self._broken)
        reports, self._reports = self._reports, []
        if self._arrived:
            reports += self._arrivals()
        return reports

    def trouble(self) -> str | None:
        """See `meterstream.transport.Transport`."""
        trouble, self._trouble = self._trouble, None
        return trouble

    def close(self) -> None:
        """See `meterstream.transport.Transport`. What was not delivered is purged."""
        producer, self._producer = self._producer, None
        self._tickets = {}  # Another one, so that late reports find nothing.
        if producer is not None and len(producer):
            from confluent_kafka import KafkaException  # noqa: PLC0415 - see connect

            producer.purge()
            self._broken = None
            try:
                producer.poll(0)
            except (KafkaException, SystemError):
                self._reports = []  # It was broken; its last reports are of no use.
        self._arrived.clear()

    def after_fork(self) -> None:
        """See `meterstream.transport.Transport`."""
        producer, self._producer = self._producer, None
        if producer is not None:
            keep_forever(producer)
        question, self._question = self._question, None
        if question is not None:
            question.keep_forever()

    def _open_producer(self) -> Producer:
        if self._producer is None:
            raise TransportBroken("there is no connection")
        return self._producer

    def _open(self, servers: str, timeout_seconds: float) -> int:
        """Start a producer for the topic and return the topic's partitions."""
        from confluent_kafka import KafkaException, Producer  # noqa: PLC0415 - see connect

        connection = {
            "bootstrap.servers": servers,
            "error_cb": self._note_error,
            "logger": _Log(self._note),
            "client.id": f"{self._client_id}-{os.getpid()}",
        }
        bytes_max = self._inspect({**self._settings, **connection}, servers, timeout_seconds)
        size = {"batch.size": bytes_max, "message.max.bytes": bytes_max}
        producer = Producer({**TUNING, **self._settings, **PROTECTIVE, **size, **connection})
        metadata = producer.list_topics(self._topic, timeout=timeout_seconds).topics[self._topic]
        if metadata.error is not None:
            raise KafkaException(metadata.error)
        self._producer = producer
        return len(metadata.partitions)

    def _inspect(self, settings: dict[str, Any], servers: str, timeout_seconds: float) -> int:
        """Bytes that a batch may have. Goes on with the question that is under way."""
        if self._question is None or self._question.servers != servers:
            self._question = TopicQuestion(
                settings, servers=servers, topic=self._topic, timeout_seconds=timeout_seconds
            )
        return self._question.batch_bytes(min(timeout_seconds, _WAIT_SECONDS))

    def _produce(self, partition: int, parcels: list[Parcel]) -> None:
        """Hand over parcels of one partition: the client knows one for all of a batch only.

        It takes one in each message as well and does not look at it (seen with 2.16.0).
        """
        from confluent_kafka import KafkaException  # noqa: PLC0415 - see connect

        messages: list[dict[str, Any]] = [
            {"value": value, "key": key} for _, _, key, value in parcels
        ]
        try:
            taken = self._open_producer().produce_batch(
                self._topic, messages, partition=partition, on_delivery=self._reported
            )
        except KafkaException as problem:
            raise TransportBroken(_text(problem)) from problem
        if taken != len(parcels):
            for (ticket, _, _, value), message in zip(parcels, messages, strict=True):
                error: KafkaError | None = message.get("_error")
                if error is not None:
                    self._tickets.pop(value, None)
                    self._reports.append((ticket, None, self._not_taken(error)))

    def _reported(self, error: KafkaError | None, message: Message) -> None:
        if error is None:
            self._arrived.append(message)
            return
        ticket = self._tickets.pop(message.value() or b"", None)
        if ticket is not None:
            self._reports.append((ticket, None, self._not_delivered(error)))

    def _arrivals(self) -> list[Report]:
        """Reports of what was delivered, all at once: the client calls back for each."""
        values = [message.value() or b"" for message in self._arrived]
        offsets = [message.offset() for message in self._arrived]
        self._arrived.clear()
        tickets = map(self._tickets.pop, values, repeat(None))
        return [
            (ticket, offset, None)
            for ticket, offset in zip(tickets, offsets, strict=True)
            if ticket is not None
        ]

    def _not_delivered(self, error: KafkaError) -> Failure:
        """What a delivery report says. Anything but a refusal of just this record may be mended."""
        from confluent_kafka import KafkaError  # noqa: PLC0415 - see connect

        if error.code() == KafkaError.MSG_SIZE_TOO_LARGE:
            # Said of a whole batch: the topic's limit was lowered. Connecting again reads it.
            self._broken = f"the topic takes smaller batches than before: {error.str()}"
        return Failure(error.str(), permanent=error.code() == KafkaError.INVALID_RECORD)

    def _not_taken(self, error: KafkaError) -> Failure:
        """What ``produce`` says of one record. Raises `TransportBroken` after a fatal error."""
        from confluent_kafka import KafkaError  # noqa: PLC0415 - see connect

        if error.fatal() or error.code() == KafkaError._FATAL:  # noqa: SLF001 - the client's name
            raise TransportBroken(error.str())
        refusals = {KafkaError.MSG_SIZE_TOO_LARGE, KafkaError._INVALID_ARG}  # noqa: SLF001
        return Failure(error.str(), permanent=error.code() in refusals)

    def _note_error(self, error: KafkaError) -> None:
        if error.fatal():
            self._broken = error.str()
        self._note(error.str())

    def _note(self, trouble: str) -> None:
        self._trouble = f"Kafka: {trouble}"


class _Log:
    """Takes the client's log lines, which would go to the host's stderr otherwise."""

    def __init__(self, note: Callable[[str], None]) -> None:
        self._note: Final = note

    def log(self, level: int, pattern: str, *arguments: object) -> None:
        """One line, as `logging.Logger.log` takes it."""
        if level >= _LOG_ERROR:  # Below are retries that need nobody.
            self._note(pattern % arguments)


def _text(problem: BaseException) -> str:
    """What a KafkaException carries, without the noise around it."""
    error: Any = problem.args[0] if problem.args else problem
    return str(error.str()) if hasattr(error, "str") else str(error)

"""Is a topic fit to be written to, and how large may a batch be: asked of a broker without waiting.

The answer takes as long as a broker is away; the background thread has other things to do
meanwhile, such as writing events to disk. A topic is written to only when it stamps append times,
because lateness is decided by them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from meterstream.errors import TransportConnecting, TransportUnavailable

if TYPE_CHECKING:
    from collections.abc import Mapping

BATCH_BYTES_MAX: Final = 1_000_000
"""Of a batch before compression; less where the topic's limit is lower."""
_BATCH_BYTES_LEAST: Final = 1_000
"""The client takes no less."""
_APPEND_TIME: Final = "LogAppendTime"
_TIMESTAMP_TYPE: Final = "message.timestamp.type"
_BYTES_MAX: Final = "max.message.bytes"


class TopicQuestion:
    """One question under way. Belongs to the background thread."""

    def __init__(
        self, settings: Mapping[str, Any], *, servers: str, topic: str, timeout_seconds: float
    ) -> None:
        from confluent_kafka.admin import AdminClient, ConfigResource  # noqa: PLC0415 - see kafka.py

        self.servers: Final = servers
        self._topic: Final = topic
        # Kept: the answer does not come without its client.
        self._admin: Final = AdminClient(dict(settings))
        # Asked before anything else: metadata of a missing topic might create it, this never does.
        resource = ConfigResource(ConfigResource.Type.TOPIC, topic)
        answers = self._admin.describe_configs([resource], request_timeout=timeout_seconds)
        self._answer: Final = answers[resource]

    def batch_bytes(self, wait_seconds: float) -> int:
        """Bytes that a batch may have.

        Raises `TransportConnecting` when there is no answer within ``wait_seconds``,
        `TransportUnavailable` for a topic that is missing or has no append times, and
        KafkaException when the broker does not answer at all.
        """
        from confluent_kafka import KafkaError, KafkaException  # noqa: PLC0415 - see kafka.py

        try:
            found = self._answer.result(wait_seconds)
        except TimeoutError:
            raise TransportConnecting(f"broker {self.servers} has not answered yet") from None
        except KafkaException as problem:
            code = problem.args[0].code()
            if code in {KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC}:  # noqa: SLF001 - the client's name
                raise TransportUnavailable(
                    f"topic {self._topic!r} does not exist on {self.servers}; create it with "
                    f"{_TIMESTAMP_TYPE}={_APPEND_TIME}, or set METERSTREAM_TOPIC"
                ) from problem
            if code == KafkaError.TOPIC_AUTHORIZATION_FAILED:
                return BATCH_BYTES_MAX  # Not allowed to look: the worker refuses an unfit topic.
            raise
        stamped = found[_TIMESTAMP_TYPE].value
        if stamped != _APPEND_TIME:
            raise TransportUnavailable(
                f"topic {self._topic!r} on {self.servers} has {_TIMESTAMP_TYPE}={stamped}; set it "
                f"to {_APPEND_TIME}, since lateness is decided by append time"
            )
        limit = min(BATCH_BYTES_MAX, int(found[_BYTES_MAX].value or BATCH_BYTES_MAX))
        return max(limit, _BATCH_BYTES_LEAST)

    def keep_forever(self) -> None:
        """The process is the child of a fork: see `keep_forever`."""
        keep_forever(self._admin)


def keep_forever(client: object) -> None:
    """Keep a Kafka client from ever being destroyed.

    Destroying it in the child of a fork touches threads and locks that only the parent has.
    """
    import ctypes  # noqa: PLC0415 - needed here alone, and rarely

    ctypes.pythonapi.Py_IncRef(ctypes.py_object(client))

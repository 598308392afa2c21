"""Is this still the topic that the store belongs to? Asked of the broker before every commit.

A topic that is deleted and made again under its name has other records at the same offsets, and the
client reads on in it without a word (seen with librdkafka 2.16 and Kafka 4.3, both protocols). The
id that Kafka gives a topic tells them apart. An id never comes back: when the broker names ours
*after* a batch was received, all of the batch came from our topic. The question travels while the
batch is folded.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Final

from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import AdminClient, TopicDescription

from meterstream_aggregator.store.port import TopicBinding
from meterstream_consumers.errors import LogUnsure, TopicRemade
from meterstream_schemas.kafka_settings import client_settings

_ANSWER_SECONDS: Final = 10.0
_IDLE_SECONDS: Final = 5.0

# The client would write its connection troubles to stderr; what follows from them is told here.
_SILENT: Final = logging.getLogger("meterstream_consumers.librdkafka")
_SILENT.addHandler(logging.NullHandler())
_SILENT.propagate = False


class Confirmation:
    """Asks for one topic's id. One thread."""

    def __init__(
        self,
        bootstrap_servers: str,
        binding: TopicBinding,
        *,
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        self._binding = binding
        self._steady = steady
        self._settings: Final[dict[str, str | int | float | bool]] = {
            **client_settings(bootstrap_servers),
            "client.id": "meterstream-worker",
        }
        self._admin: AdminClient | None = None
        self._asked: Future[TopicDescription] | None = None
        self._asked_at = 0.0
        self.answered_at = steady()
        """When a broker last answered, on the steady clock."""

    def ask(self) -> None:
        """Ask anew. Does not wait.

        After a question without an answer with a new client: the old one may wait for a controller
        for minutes, though brokers answer again (seen after a single broker was halted).
        """
        wanted = TopicCollection([self._binding.topic])
        self._asked_at = self._steady()
        if self._admin is None:
            self._admin = AdminClient(self._settings, logger=_SILENT)
        found = self._admin.describe_topics(wanted, request_timeout=_ANSWER_SECONDS)
        self._asked = found[self._binding.topic]

    def check(self) -> None:
        """Wait for the answer to the last question.

        Raises `TopicRemade` when it is another topic or none, `LogUnsure` when nobody answers.
        """
        asked, self._asked = self._asked, None
        assert asked is not None, "a question comes before its answer"
        try:
            found = asked.result(_ANSWER_SECONDS)
        except KafkaException as problem:
            self._judge(problem.args[0])
            self._admin = None
            raise LogUnsure(
                f"the broker does not tell whether topic {self._binding.topic!r} is the same: "
                f"{problem.args[0].str()}"
            ) from problem
        except TimeoutError as problem:
            self._admin = None
            raise LogUnsure(
                f"the broker does not tell within {_ANSWER_SECONDS:.0f} s whether topic "
                f"{self._binding.topic!r} is the same"
            ) from problem
        self.answered_at = self._steady()
        if str(found.topic_id) != self._binding.topic_id:
            raise TopicRemade(
                f"topic {self._binding.topic!r} was deleted and made again: the store belongs to "
                f"id {self._binding.topic_id}, and this one has id {found.topic_id}; nothing of it "
                "was counted. Name a new store (a new --data, or --store) for the new topic; "
                "the old store keeps what it has"
            )

    def step(self) -> None:
        """While nothing is committed: ask now and then, and look at what has been answered.

        Never waits. Raises `TopicRemade`.
        """
        if self._asked is None:
            if self._steady() - self._asked_at >= _IDLE_SECONDS:
                self.ask()
        elif self._asked.done():
            try:
                self.check()
            except LogUnsure:
                return

    def silent_seconds(self) -> float:
        """For how long no broker has answered, beyond the pause between two questions."""
        return max(self._steady() - self.answered_at - 2 * _IDLE_SECONDS, 0.0)

    def _judge(self, problem: KafkaError) -> None:
        if problem.code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
            raise TopicRemade(
                f"topic {self._binding.topic!r} (id {self._binding.topic_id}) was deleted; nothing "
                "more is counted. The store keeps what it has: name another topic with another "
                "store to go on"
            )

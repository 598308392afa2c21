"""Whether the topic is still the same: what becomes of a client that gets no answer."""

from __future__ import annotations

from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException

from meterstream_aggregator.store.port import TopicBinding
from meterstream_consumers import confirming
from meterstream_consumers.errors import LogUnsure

TIMED_OUT = KafkaException(KafkaError(KafkaError._TIMED_OUT))


def test_after_no_answer_another_client_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that waits for a controller would wait for minutes; one that answers is kept."""
    made: list[object] = []

    class Client:
        def __init__(self, *_: object, **__: object) -> None:
            made.append(self)

        def describe_topics(self, *_: object, **__: object) -> dict[str, Future[Any]]:
            future = Future[Any]()
            if self is made[0]:
                future.set_exception(TIMED_OUT)
            else:
                future.set_result(SimpleNamespace(topic_id="id"))
            return {"events": future}

    monkeypatch.setattr(confirming, "AdminClient", Client)
    confirmation = confirming.Confirmation("nowhere:1", TopicBinding("events", "id", 4))

    confirmation.ask()
    with pytest.raises(LogUnsure):
        confirmation.check()
    for _ in range(2):
        confirmation.ask()
        confirmation.check()

    assert len(made) == 2

"""A partition that was held, lost and given back is read: Kafka's client remembers the pause."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest
from confluent_kafka import Producer, TopicPartition

from meterstream_consumers.settings import WorkerSettings
from meterstream_consumers.source import Source

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

TOPIC: Final = "held"
RECORDS: Final = 50
PATIENCE_SECONDS: Final = 60.0


class Owner:
    """Somebody whose store stands at the beginning of the log."""

    def take(self, partition: int, lowest: Callable[[], int]) -> int:
        """Read from the first record on."""
        return 0

    def let_go(self, partitions: list[int], *, lost: bool) -> None:
        """Nothing is remembered."""


@pytest.fixture
def servers() -> Iterator[str]:
    """The client's own stand-in of a broker, with some records; it ends with its producer."""
    producer = Producer({"bootstrap.servers": "ignored", "test.mock.num.brokers": 1})
    broker = next(iter(producer.list_topics(timeout=30).brokers.values()))
    for number in range(RECORDS):
        producer.produce(TOPIC, str(number).encode(), partition=0)
    assert producer.flush(30) == 0
    yield f"{broker.host}:{broker.port}"
    del producer


def is_read(source: Source) -> bool:
    """Whether records come: asked of the client, as the stand-in gives no append times."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        message = source._consumer.poll(0.5)
        if message is not None and message.error() is None:
            return True
    return False


@pytest.mark.parametrize("lost", [False, True])
def test_what_was_held_is_read_when_it_comes_back(servers: str, lost: bool) -> None:
    """Held while the store was away, then taken from us, then given back with the store there."""
    settings = WorkerSettings(
        bootstrap_servers=servers, catalogue=Path("none"), store=Path("none"), topic=TOPIC
    )
    source = Source(settings, Owner(), lambda _: None)
    try:
        assert is_read(source)
        source.hold([0])
        place = [TopicPartition(TOPIC, 0)]
        if lost:
            source._on_lost(source._consumer, place)
            source._consumer.incremental_unassign(place)
        else:
            source._on_revoke(source._consumer, place)

        source._on_assign(source._consumer, place)

        assert is_read(source)
    finally:
        source.close()

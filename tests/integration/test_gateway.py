"""The SDK over HTTP to a gateway before a real Kafka: nothing lost, numbered as recorded."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from confluent_kafka import Producer

from meterstream import Meter, Outcome
from meterstream.gateway import GatewayTransport
from meterstream_schemas.events import EventKind
from tests.gateway_standin import KEY, Standin
from tests.integration.reading_topic import read_topic

if TYPE_CHECKING:
    from collections.abc import Sequence

    from confluent_kafka import KafkaError, Message

    from tests.conftest import Broker

pytestmark = pytest.mark.integration


class BrokerLog:
    """Puts records into a topic and waits for every report."""

    def __init__(self, broker: Broker, topic: str) -> None:
        self._topic = topic
        self._producer = Producer(
            {
                "bootstrap.servers": broker.bootstrap_servers,
                "enable.idempotence": True,
                "acks": "all",
                "linger.ms": 2,
            }
        )

    def append(self, records: Sequence[tuple[int, bytes, bytes]]) -> list[list[int]]:
        """See `tests.gateway_standin.Log`."""
        places: dict[int, list[int]] = {}
        for number, (partition, key, value) in enumerate(records):

            def reported(error: KafkaError | None, message: Message, number: int = number) -> None:
                assert error is None
                places[number] = [message.partition() or 0, message.offset() or 0]

            self._producer.produce(self._topic, value, key, partition, reported)
        assert self._producer.flush(60) == 0
        return [places[number] for number in range(len(records))]


def test_events_reach_the_log_over_http_also_when_answers_are_lost(
    broker: Broker, topic: str
) -> None:
    """Every number is in the topic, twice where an answer was lost; outcomes name true places."""
    heard: list[Outcome] = []
    with Standin(log=BrokerLog(broker, topic)) as standin:
        standin.fates.extend(["lost answer", None, "429", "half an answer", None, "garbage"])
        meter = Meter(transport=GatewayTransport(standin.url, api_key=KEY), on_outcome=heard.append)
        for number in range(3000):
            assert meter.record("llm.tokens", tenant=f"tenant {number % 60}", quantity=number)
        assert meter.flush(60)
        assert meter.close(30)
    assert not standin.violations

    placed = read_topic(broker.bootstrap_servers, topic)
    usage = [found for found in placed if found.event.kind is EventKind.USAGE]
    unique = {(found.event.lane, found.event.sequence): found.event for found in usage}
    assert sorted(event.quantity for event in unique.values()) == list(range(3000))
    assert len(usage) > 3000, "what was kept under a lost answer came again"
    claims = {
        found.event.lane: found.event.sequence
        for found in placed
        if found.event.kind is EventKind.MARK and found.event.attributes
    }
    for lane, claimed in claims.items():
        assert {number for of, number in unique if of == lane} == set(range(1, claimed + 1))
    assert claims.keys() == {lane for lane, _ in unique}
    by_place = {(found.partition, found.offset): found for found in placed}
    for outcome in heard:
        event = by_place[outcome.partition, outcome.offset or 0].event
        assert (event.tenant, event.lane, event.sequence) == (
            outcome.tenant,
            outcome.lane,
            outcome.sequence,
        )
    status = meter.status()
    assert (len(heard), status.acknowledged, status.failed) == (3000, 3000, 0)

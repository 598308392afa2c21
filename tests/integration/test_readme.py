"""The README's lines for a service run as they stand, and what they record is in the log."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from confluent_kafka import Consumer, TopicPartition

from meterstream_schemas import codec, wire
from meterstream_schemas.events import EventKind, MeterEvent

if TYPE_CHECKING:
    from tests.conftest import Broker

pytestmark = pytest.mark.integration
ROOT = Path(__file__).parents[2]


def test_the_lines_for_a_service_deliver(broker: Broker, topic: str) -> None:
    """Two events and a session's start and end arrive, numbered by one producer."""
    [lines] = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    places = {
        "METERSTREAM_BOOTSTRAP_SERVERS": broker.bootstrap_servers,
        "METERSTREAM_TOPIC": topic,
    }

    subprocess.run([sys.executable, "-c", lines], check=True, timeout=60, env=os.environ | places)

    events = [event for event in _events(broker, topic) if event.kind is not EventKind.MARK]
    assert sorted((event.kind.value, event.type, event.tenant) for event in events) == [
        ("SESSION_END", "agent.run", "acme"),
        ("SESSION_START", "agent.run", "acme"),
        ("USAGE", "api.request", "acme"),
        ("USAGE", "llm.completion", "acme"),
    ]
    assert len({event.producer for event in events}) == 1


def _events(broker: Broker, topic: str) -> list[MeterEvent]:
    """Everything in the topic's four partitions."""
    schema = codec.parse_text(codec.bundled_text(1))
    consumer = Consumer({"bootstrap.servers": broker.bootstrap_servers, "group.id": topic})
    found: list[MeterEvent] = []
    try:
        for number in range(4):
            partition = TopicPartition(topic, number, 0)
            _, end = consumer.get_watermark_offsets(partition, timeout=10)
            consumer.assign([partition])
            for _ in range(end):
                message = consumer.poll(10)
                assert message is not None, "the log has fewer records than it says"
                assert message.error() is None, message.error()
                found.append(codec.decode_body(wire.split(message.value() or b"")[1], schema))
    finally:
        consumer.close()
    return found

"""Topics on the real broker: made fit for proof, and refused where they are not."""

from __future__ import annotations

import socket
import uuid
from typing import TYPE_CHECKING

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

from meterstream_infra.errors import BrokerUnreachable, TopicUnfit
from meterstream_infra.ports import draw_free_port
from meterstream_infra.topics import check_topic, ensure_topics, wait_for_broker
from meterstream_schemas.events import DEADLETTERS_TOPIC, NOTICES_TOPIC

if TYPE_CHECKING:
    from tests.conftest import Broker

pytestmark = pytest.mark.integration


def make(broker: Broker, config: dict[str, str]) -> str:
    """A topic with settings of the test's choice."""
    name = f"test.{uuid.uuid4().hex}"
    admin = AdminClient({"bootstrap.servers": broker.bootstrap_servers})
    made = admin.create_topics([NewTopic(name, num_partitions=1, config=config)])
    made[name].result(30)
    return name


def test_made_topics_are_fit(broker: Broker) -> None:
    """The events topic has its partitions; dead letters and notices stand beside it."""
    name = f"test.{uuid.uuid4().hex}"

    identity = ensure_topics(broker.bootstrap_servers, partitions=8, events_topic=name)

    assert identity.topic == name
    assert identity.partitions == 8
    assert check_topic(broker.bootstrap_servers, name) == identity
    for other in (DEADLETTERS_TOPIC, NOTICES_TOPIC):
        assert check_topic(broker.bootstrap_servers, other).partitions == 1


def test_making_topics_twice_changes_nothing(broker: Broker, topic: str) -> None:
    """Existing topics keep their identity and their partitions."""
    before = check_topic(broker.bootstrap_servers, topic)

    again = ensure_topics(broker.bootstrap_servers, partitions=16, events_topic=topic)

    assert again == before
    assert again.partitions == 4


def test_remade_topic_has_another_identity(broker: Broker, topic: str) -> None:
    """A topic deleted and made again under its name is told apart by its id."""
    before = check_topic(broker.bootstrap_servers, topic)
    admin = AdminClient({"bootstrap.servers": broker.bootstrap_servers})
    admin.delete_topics([topic])[topic].result(30)

    after = ensure_topics(broker.bootstrap_servers, partitions=4, events_topic=topic)

    assert after.topic_id != before.topic_id


def test_records_carry_the_brokers_time(broker: Broker, topic: str) -> None:
    """The append time is the broker's, whatever time a producer claims."""
    times: list[int] = []
    producer = Producer({"bootstrap.servers": broker.bootstrap_servers})
    producer.produce(
        topic,
        b"event",
        timestamp=1_000,
        on_delivery=lambda error, message: times.append(message.timestamp()[1]),
    )

    assert producer.flush(30) == 0
    assert len(times) == 1
    assert times[0] > 1_700_000_000_000


@pytest.mark.parametrize(
    ("config", "setting", "found", "wanted"),
    [
        ({}, "message.timestamp.type", "CreateTime", "LogAppendTime"),
        (
            {"message.timestamp.type": "LogAppendTime", "cleanup.policy": "compact"},
            "cleanup.policy",
            "compact",
            "delete",
        ),
    ],
    ids=["producer's time", "compacted"],
)
def test_unfit_topic_is_refused_with_the_remedy(
    broker: Broker, config: dict[str, str], setting: str, found: str, wanted: str
) -> None:
    """A topic that figures cannot rest on is refused, with the command that changes it."""
    name = make(broker, config)

    with pytest.raises(TopicUnfit, match=r"kafka-configs\.sh") as refusal:
        check_topic(broker.bootstrap_servers, name)

    assert (refusal.value.topic, refusal.value.setting) == (name, setting)
    assert (refusal.value.found, refusal.value.wanted) == (found, wanted)
    assert f"--entity-name {name} --add-config {setting}={wanted}" in refusal.value.remedy


def test_unfit_topic_is_refused_and_not_mended(broker: Broker) -> None:
    """Making topics refuses one that exists with the wrong time, and leaves it as it is."""
    name = make(broker, {})

    for _ in range(2):
        with pytest.raises(TopicUnfit, match="LogAppendTime"):
            ensure_topics(broker.bootstrap_servers, events_topic=name)


def test_missing_topic_is_refused(broker: Broker) -> None:
    """A topic that is not there is named, and asking for it does not make it."""
    name = f"test.{uuid.uuid4().hex}"

    for _ in range(2):
        with pytest.raises(TopicUnfit, match=f"'{name}'.*missing"):
            check_topic(broker.bootstrap_servers, name)


def test_closed_port_is_unreachable() -> None:
    """An address where nothing listens is refused in time, by name."""
    nowhere = f"127.0.0.1:{draw_free_port()}"

    with pytest.raises(BrokerUnreachable, match=nowhere):
        check_topic(nowhere, "any", timeout_seconds=1)
    with pytest.raises(BrokerUnreachable, match=nowhere):
        ensure_topics(nowhere, timeout_seconds=1)
    with pytest.raises(BrokerUnreachable, match=nowhere):
        wait_for_broker(nowhere, timeout_seconds=1)


def test_something_else_on_the_port_is_unreachable() -> None:
    """A listener that is no Kafka broker does not hold the caller longer than it allows."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = f"127.0.0.1:{other.getsockname()[1]}"

        with pytest.raises(BrokerUnreachable, match=address):
            check_topic(address, "any", timeout_seconds=1)


@pytest.mark.parametrize("address", ["", "no port", "127.0.0.1:notaport"])
def test_nonsense_address_is_unreachable(address: str) -> None:
    """An address that is none is refused like one where nobody is."""
    with pytest.raises(BrokerUnreachable):
        check_topic(address, "any", timeout_seconds=1)

"""Consumer groups on the broker: whether workers of a topic may be members of one.

A group hands partitions to whoever is in it. Members that read other topics, or positions that they
left, mean that somebody gave two kinds of consumers one name.
"""

from __future__ import annotations

import time
from typing import Final

from confluent_kafka import ConsumerGroupTopicPartitions, KafkaError, KafkaException
from confluent_kafka.admin import AdminClient

from meterstream_infra.errors import BrokerUnreachable, InfraError
from meterstream_infra.topics import connect

_OFFSETS: Final = "__consumer_offsets"
# What a broker says that has just started, or has just taken over the group.
_NOT_YET: Final = frozenset(
    {
        KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
        KafkaError.COORDINATOR_NOT_AVAILABLE,
        KafkaError.NOT_COORDINATOR,
    }
)
_AGAIN_SECONDS: Final = 0.2
_UNKNOWN: Final = frozenset({KafkaError.GROUP_ID_NOT_FOUND, KafkaError.INVALID_GROUP_ID})


def other_topics(
    bootstrap: str, group: str, topic: str, *, timeout_seconds: float = 30
) -> tuple[str, ...]:
    """Topics besides ``topic`` that the group has members or positions for, sorted. Blocks.

    A broker that still reads its groups is asked again until ``timeout_seconds`` are over. Raises
    `BrokerUnreachable`, and `InfraError` where the broker does not tell.
    """
    admin, deadline = connect(bootstrap, timeout_seconds)
    if _OFFSETS not in admin.list_topics(timeout=_left(deadline)).topics:
        # No group ever was. The client must not be asked: it crashed on such a broker, a new one
        # (segmentation fault of confluent-kafka 2.16.0 while the broker makes that topic).
        return ()
    while True:
        try:
            found = _of_positions(admin, group, deadline) | _of_members(admin, group, deadline)
        except TimeoutError as problem:
            raise BrokerUnreachable(bootstrap, problem="it did not answer in time") from problem
        except KafkaException as problem:
            if problem.args[0].code() not in _NOT_YET:
                raise InfraError(
                    f"the broker at {bootstrap!r} does not describe consumer group {group!r}: "
                    f"{problem.args[0].str()}"
                ) from problem
            if time.monotonic() >= deadline:
                raise BrokerUnreachable(bootstrap, problem=problem.args[0].str()) from problem
            time.sleep(_AGAIN_SECONDS)
        else:
            return tuple(sorted(found - {topic}))


def _of_positions(admin: AdminClient, group: str, deadline: float) -> set[str]:
    asked = admin.list_consumer_group_offsets(
        [ConsumerGroupTopicPartitions(group)], request_timeout=_left(deadline)
    )
    try:
        told = asked[group].result(_left(deadline))
    except KafkaException as problem:
        if problem.args[0].code() in _UNKNOWN:
            return set()
        raise
    return {place.topic for place in told.topic_partitions or () if place.offset >= 0}


def _of_members(admin: AdminClient, group: str, deadline: float) -> set[str]:
    asked = admin.describe_consumer_groups([group], request_timeout=_left(deadline))
    try:
        told = asked[group].result(_left(deadline))
    except KafkaException as problem:
        if problem.args[0].code() in _UNKNOWN:
            return set()
        raise
    return {
        place.topic
        for member in told.members
        if member.assignment is not None
        for place in member.assignment.topic_partitions
    }


def _left(deadline: float) -> float:
    return max(0.1, deadline - time.monotonic())

"""How a worker is a member of its group, in the client's own settings.

``classic``: the protocol of every broker, handing partitions over one by one (cooperative). The
session timeout is ours to choose. ``consumer``: that of Kafka 4 (KIP-848), where the broker hands
partitions out and its ``group.consumer.session.timeout.ms`` decides when a silent member is gone;
strategy, session and heartbeat are not the client's to set. Safe behind the store's fence alone: a
member goes on reading while the coordinator cannot be reached.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from confluent_kafka import KafkaError

from meterstream_consumers.errors import (
    ConsumersError,
    InstanceFenced,
    InstanceHeld,
    LogUnusable,
)
from meterstream_consumers.settings import GroupProtocol, WorkerSettings
from meterstream_schemas.kafka_settings import client_settings


def configuration(settings: WorkerSettings, warn: Callable[[str], None]) -> dict[str, Any]:
    """The consumer's settings. Raises `SettingRefused` for what the environment may not set."""

    def told(problem: KafkaError) -> None:
        warn(f"Kafka: {problem.str()}")

    chosen: dict[str, Any] = {
        **client_settings(settings.bootstrap_servers),
        "group.id": settings.group,
        "client.id": settings.instance or "meterstream-worker",
        "max.poll.interval.ms": 300_000,
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "auto.offset.reset": "error",
        "isolation.level": "read_committed",
        "enable.partition.eof": True,
        "check.crcs": True,
        # All that is ever ahead of the fold: one thread fetches from here, folds and commits, so
        # a slow commit makes nothing grow.
        "queued.max.messages.kbytes": 16_384,
        "fetch.wait.max.ms": 50,
        # A full prefetch queue would pause fetching for a second; measured, it starves the loop.
        "fetch.queue.backoff.ms": 10,
        "enable.metrics.push": False,
        "error_cb": told,
        "group.protocol": settings.group_protocol.value,
    }
    if settings.group_protocol is GroupProtocol.CLASSIC:
        chosen |= {
            "partition.assignment.strategy": "cooperative-sticky",
            "session.timeout.ms": settings.session_timeout_seconds * 1000,
            "heartbeat.interval.ms": settings.session_timeout_seconds * 1000 // 4,
        }
    if settings.instance is not None:
        chosen["group.instance.id"] = settings.instance
    return chosen


def fatal(told: str, settings: WorkerSettings) -> ConsumersError:
    """What a fatal error of the client means for a worker.

    The client hands out all of them under one code: the broker's own is in the sentence alone.
    """
    if "fenced by other consumer" in told:
        return InstanceFenced(settings.instance, told)
    if "still used by another member" in told:
        return InstanceHeld(
            f"the group still has a member of instance {settings.instance!r}: one that ended "
            "without leaving is forgotten after its session timeout"
        )
    if settings.group_protocol is GroupProtocol.CONSUMER and "upport" in told:
        return LogUnusable(
            f"METERSTREAM_GROUP_PROTOCOL={settings.group_protocol}: the broker does not offer it "
            f"({told}); set it to classic, or have brokers of Kafka 4.0 or later that do"
        )
    return LogUnusable(f"the consumer cannot go on: {told}")

"""What a worker is told: addresses, limits, and how long it may collect before it commits."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from meterstream_aggregator.store.address import StoreAddress
from meterstream_consumers.gaps import Gap
from meterstream_schemas.events import DEADLETTERS_TOPIC, EVENTS_TOPIC, NOTICES_TOPIC


class GroupProtocol(StrEnum):
    """Kafka's protocols for consumer groups: see `membership`."""

    CLASSIC = "classic"
    CONSUMER = "consumer"


def group_of(topic: str) -> str:
    """The workers' consumer group: one per topic, for several of them may share a Kafka."""
    return "meterstream" if topic == EVENTS_TOPIC else f"meterstream-{topic}"


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSettings:
    """Settings of one worker process.

    ``instance`` is a name that stays the same when this worker is started again (static group
    membership): its partitions then come back at once instead of after the session timeout. Two
    live workers must not share one.
    """

    bootstrap_servers: str
    catalogue: Path
    store: StoreAddress
    topic: str = EVENTS_TOPIC
    deadletters_topic: str = DEADLETTERS_TOPIC
    notices_topic: str = NOTICES_TOPIC
    group: str = "meterstream"
    instance: str | None = None
    group_protocol: GroupProtocol = GroupProtocol.CLASSIC
    store_replaced: bool = False
    """Go on although the group's positions name another store that is ahead of this one."""
    accepted_gaps: tuple[Gap, ...] = ()
    """Losses to retention that somebody has accepted."""
    metrics: str | None = None
    """``host:port`` of the metrics and health endpoint, None for none."""
    registry_url: str | None = None
    log_json: bool = False
    batch_events_max: int = 50_000
    """Events folded into one transaction at the most."""
    batch_bytes_max: int = 32 * 1024 * 1024
    """Bytes of values collected for one transaction at the most, give or take one fetch."""
    batch_seconds_max: float = 1.0
    """How long a batch is collected at the most while the log has more."""
    idle_seconds: float = 0.1
    """How long one poll waits for a first event."""
    session_timeout_seconds: int = 10
    """After which a silent member is gone; of the classic protocol only."""
    producers_cached_max: int = 20_000
    """(producer, partition) pairs kept in memory between batches; 2 KiB each."""
    tick_seconds: float = 10.0
    """How long a partition may be idle before the log's time is written into it; 0 for never."""
    deadletter_run_max: int = 10_000
    """New dead letters in a row in one partition that stop the worker when exceeded; 0: never."""
    deadletter_ratio_max: float = 0.5
    """Share of the last 10,000 records of a partition that may be dead letters; 1: all of them."""

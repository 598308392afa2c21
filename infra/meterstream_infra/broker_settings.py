"""The settings of the embedded broker: one Kafka node that is broker and controller at once.

Constraints: one machine, loopback only, at most 512 MB resident, data that survive restarts and a
``kill -9``. So every internal topic has one replica, the pools are small, and the compactor's
buffer is a tenth of Kafka's default, which alone would take a third of the heap.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

HOST: Final = "127.0.0.1"
HEAP_MEGABYTES: Final = 256

_FIXED: Final = {
    "process.roles": "broker,controller",
    "node.id": "1",
    "controller.listener.names": "CONTROLLER",
    "inter.broker.listener.name": "PLAINTEXT",
    "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
    "log.dirs": "log",
    # A topic is made by intent, with its settings: a misspelt name must not become one.
    "auto.create.topics.enable": "false",
    "default.replication.factor": "1",
    "offsets.topic.replication.factor": "1",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    "num.partitions": "4",
    "offsets.topic.num.partitions": "4",
    "transaction.state.log.num.partitions": "4",
    "share.coordinator.state.topic.num.partitions": "4",
    # A group of one machine has its members at once.
    "group.initial.rebalance.delay.ms": "0",
    # Of Kafka's own group protocol: a dead worker is missed after ten seconds, not after 45.
    "group.consumer.session.timeout.ms": "10000",
    "group.consumer.min.session.timeout.ms": "6000",
    "group.consumer.heartbeat.interval.ms": "2500",
    "group.consumer.min.heartbeat.interval.ms": "1000",
    # Long enough for a worker that was away over a holiday, whatever a topic itself says.
    "offsets.retention.minutes": str(90 * 24 * 60),
    # After a crash the controller waits out the old broker's session before it takes the new one.
    "broker.session.timeout.ms": "3000",
    "broker.heartbeat.interval.ms": "500",
    "num.network.threads": "2",
    "num.io.threads": "4",
    "log.cleaner.dedupe.buffer.size": str(16 * 1024 * 1024),
}


def settings(
    *, port: int, controller_port: int, further: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Every setting by its name; paths are relative to the data directory.

    ``further`` come on top, or in place of ours; ``{port}`` and ``{controller}`` in them are ports.
    """
    told = {
        name: value.replace("{port}", str(port)).replace("{controller}", str(controller_port))
        for name, value in (further or {}).items()
    }
    return {
        **_FIXED,
        "listeners": f"PLAINTEXT://{HOST}:{port},CONTROLLER://{HOST}:{controller_port}",
        "advertised.listeners": f"PLAINTEXT://{HOST}:{port}",
        "controller.quorum.voters": f"1@{HOST}:{controller_port}",
    } | told


def server_properties(
    *, port: int, controller_port: int, further: Mapping[str, str] | None = None
) -> str:
    """The same as the text of ``server.properties``."""
    chosen = settings(port=port, controller_port=controller_port, further=further)
    return "".join(f"{name}={value}\n" for name, value in chosen.items())


def jvm_options(*, heap_megabytes: int) -> list[str]:
    """Options of the broker's JVM, for the least memory that keeps up with one machine."""
    return [
        "-Xms64m",
        f"-Xmx{heap_megabytes}m",
        "-XX:+UseSerialGC",
        "-XX:MaxDirectMemorySize=64m",
        "-XX:ReservedCodeCacheSize=64m",
        "-XX:+ExitOnOutOfMemoryError",
        "-XX:-UsePerfData",
        # zstd and lz4 load native code; Java 24 and later ask to be told.
        "--enable-native-access=ALL-UNNAMED",
        "-Djava.net.preferIPv4Stack=true",
        # Unpacked native libraries stay in the data directory.
        "-Djava.io.tmpdir=tmp",
    ]

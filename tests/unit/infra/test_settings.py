"""The embedded broker's settings and ports, as far as they can be judged without a broker."""

from __future__ import annotations

import socket

from meterstream_infra.broker_settings import HOST, jvm_options, server_properties, settings
from meterstream_infra.ports import answers, draw_free_port, is_free


def test_broker_listens_on_loopback_only() -> None:
    """No listener is reachable from another machine."""
    chosen = settings(port=20_001, controller_port=20_002)

    for name in ("listeners", "advertised.listeners"):
        for listener in chosen[name].split(","):
            assert f"//{HOST}:" in listener


def test_topics_are_made_by_intent_only() -> None:
    """A misspelt topic name does not become a topic."""
    assert settings(port=1, controller_port=2)["auto.create.topics.enable"] == "false"


def test_properties_are_the_settings() -> None:
    """The file Kafka reads says exactly the settings, one a line."""
    chosen = settings(port=20_001, controller_port=20_002)

    lines = server_properties(port=20_001, controller_port=20_002).splitlines()

    assert dict(line.split("=", 1) for line in lines) == chosen


def test_every_internal_topic_has_one_replica() -> None:
    """One node cannot hold a second copy; Kafka would wait for it forever."""
    chosen = settings(port=1, controller_port=2)

    replicas = {name: value for name, value in chosen.items() if "replication.factor" in name}
    assert set(replicas.values()) == {"1"}
    assert len(replicas) == 4


def test_heap_is_bounded_as_asked() -> None:
    """The asked heap is the JVM's limit."""
    assert "-Xmx123m" in jvm_options(heap_megabytes=123)


def test_taken_port_is_not_free() -> None:
    """A port somebody listens on is taken and answers; a drawn one is free and does not."""
    with socket.create_server((HOST, 0)) as other:
        taken = other.getsockname()[1]
        assert not is_free(taken)
        assert answers(taken)

    drawn = draw_free_port()
    assert is_free(drawn)
    assert not answers(drawn)


def test_drawn_port_is_not_the_excluded_one() -> None:
    """Broker and controller never get one port."""
    drawn = {draw_free_port(besides=20_000) for _ in range(50)}

    assert 20_000 not in drawn
    assert len(drawn) > 1

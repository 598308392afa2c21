"""What a worker tells of itself over HTTP."""

from __future__ import annotations

import http.client
import json
import socket
from typing import TYPE_CHECKING

import pytest

from meterstream_aggregator.refusals import Reason
from meterstream_consumers.errors import ConsumersError
from meterstream_consumers.metrics import WorkerMetrics
from meterstream_consumers.metrics_server import MetricsServer

if TYPE_CHECKING:
    from pathlib import Path


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
    return port


def get(port: int, path: str, *, accept: str = "*/*", method: str = "GET") -> tuple[int, str]:
    """Status and body of a request."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request(method, path, headers={"Accept": accept})
    response = connection.getresponse()
    answer = response.status, response.read().decode()
    connection.close()
    return answer


def test_metrics_and_health_are_served() -> None:
    """Counters with their labels; live always, ready once there is no reason against it."""
    metrics, reasons, port = WorkerMetrics(), ["has not joined"], free_port()
    metrics.events.labels(result="counted").inc(3)
    server = MetricsServer.start(
        f"127.0.0.1:{port}", metrics.registry, lambda: reasons[0] if reasons else None
    )
    try:
        status, text = get(port, "/metrics")
        assert status == 200
        assert 'meterstream_events_processed_total{result="counted"} 3.0' in text
        assert "meterstream_db_commit_duration_seconds_count 0.0" in text
        assert get(port, "/health/live") == (200, "live\n")
        assert get(port, "/health/ready") == (503, "has not joined\n")
        reasons.clear()
        assert get(port, "/health/ready") == (200, "ready\n")
        assert get(port, "/other")[0] == 404
    finally:
        server.close()


def test_health_says_why_not() -> None:
    """Liveness and readiness have reasons of their own, as text and as JSON."""
    port, kind = free_port(), "application/json"
    server = MetricsServer.start(
        f"127.0.0.1:{port}",
        WorkerMetrics().registry,
        lambda: "the store is away",
        stuck=lambda: "no step for 300 s",
    )
    try:
        assert get(port, "/livez") == (503, "no step for 300 s\n")
        assert get(port, "/readyz") == (503, "the store is away\n")
        status, text = get(port, "/readyz", accept=kind)
        assert (status, json.loads(text)) == (
            503,
            {"status": "not ready", "reason": "the store is away"},
        )
        assert get(port, "/readyz", method="HEAD") == (503, "")
        assert get(port, "/metrics", method="POST")[0] == 501
    finally:
        server.close()


def test_a_partition_that_left_has_no_lag_here() -> None:
    """Lag is told of owned partitions only; another worker tells that of the others."""
    metrics = WorkerMetrics()
    name, topic = "meterstream_consumer_lag_events", "meterstream.events"

    metrics.tell_lag(topic, {0: (7, 1.5), 1: (3, 0.5)})
    metrics.tell_lag(topic, {1: (2, 0.25)})

    value = metrics.registry.get_sample_value
    assert value(name, {"topic": topic, "partition": "0"}) is None
    assert value(name, {"topic": topic, "partition": "1"}) == 2
    assert value("meterstream_consumer_lag_seconds", {"topic": topic, "partition": "1"}) == 0.25


def test_readiness_and_disk_are_metrics(tmp_path: Path) -> None:
    """Whether it is ready and what the disk has left are asked at each scrape."""
    metrics, ready = WorkerMetrics(), [False]
    metrics.watch(ready=lambda: ready[0], disk=tmp_path)
    value = metrics.registry.get_sample_value

    assert value("meterstream_ready") == 0
    ready[0] = True
    assert value("meterstream_ready") == 1
    assert (value("meterstream_store_free_bytes") or 0) > 0


def test_every_reason_is_there_from_the_first_scrape() -> None:
    """A rate sees the first dead letter only where the counter stood at 0 before."""
    registry = WorkerMetrics().registry

    for reason in Reason:
        assert registry.get_sample_value("meterstream_dlq_total", {"reason": reason.value}) == 0


def test_no_address_no_server() -> None:
    """Without an address nothing listens, and closing is harmless."""
    MetricsServer.start(None, WorkerMetrics().registry, lambda: None).close()


@pytest.mark.parametrize("address", ["nonsense", "127.0.0.1:port", "256.0.0.1:80"])
def test_an_address_that_is_none(address: str) -> None:
    """One sentence with the address and what to name instead."""
    with pytest.raises(ConsumersError, match=r"cannot be served on .* name a free HOST:PORT"):
        MetricsServer.start(address, WorkerMetrics().registry, lambda: None)


def test_a_port_in_use() -> None:
    """A port that somebody has is told, not waited for."""
    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        pytest.raises(ConsumersError, match="name a free HOST:PORT"),
    ):
        MetricsServer.start(
            f"127.0.0.1:{taken.getsockname()[1]}", WorkerMetrics().registry, lambda: None
        )


def test_labels_are_bounded() -> None:
    """No metric is labelled by tenant, subject or id; every one says what it is and its unit."""
    metrics = WorkerMetrics()
    for metric in metrics.registry.collect():
        if metric.name.startswith("process_"):
            continue  # prometheus_client's own names, the same in every Python process
        assert metric.name.startswith("meterstream_")
        assert metric.documentation.endswith(".")
        for sample in metric.samples:
            known = {"result", "reason", "topic", "partition", "kind", "le", "version", "catalogue"}
            assert set(sample.labels) <= known

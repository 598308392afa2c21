"""What a worker tells of itself over HTTP."""

from __future__ import annotations

import http.client
import socket

import pytest

from meterstream_consumers.errors import ConsumersError
from meterstream_consumers.metrics import WorkerMetrics
from meterstream_consumers.metrics_server import MetricsServer


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
    return port


def get(port: int, path: str) -> tuple[int, str]:
    """Status and body of a request."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", path)
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
        assert metric.name.startswith("meterstream_")
        assert metric.documentation.endswith(".")
        for sample in metric.samples:
            known = {"result", "reason", "topic", "partition", "kind", "le", "version", "catalogue"}
            assert set(sample.labels) <= known

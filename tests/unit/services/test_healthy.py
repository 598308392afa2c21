"""What a container's health check says of a process."""

from __future__ import annotations

import socket

import pytest
from prometheus_client import CollectorRegistry

from meterstream_consumers.metrics_server import MetricsServer
from meterstream_services.healthy import main


def test_ready_or_why_not(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer is printed, so that `docker inspect` shows the reason."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
    url, reasons = f"http://127.0.0.1:{port}/readyz", ["the store is away"]
    server = MetricsServer.start(
        f"127.0.0.1:{port}", CollectorRegistry(), lambda: reasons[0] if reasons else None
    )
    try:
        assert main([url]) == 1
        assert capsys.readouterr().out == "the store is away\n"
        reasons.clear()
        monkeypatch.setenv("METERSTREAM_HEALTH_URL", url)
        assert main([]) == 0
        assert capsys.readouterr().out == "ready\n"
    finally:
        server.close()

    assert main([url]) == 1
    assert "does not answer" in capsys.readouterr().err


@pytest.mark.parametrize("url", ["https://127.0.0.1/", "readyz", "file:///etc/hosts"])
def test_only_http_is_asked(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Anything else is refused with what to write."""
    assert main([url]) == 1
    assert "is no address to ask" in capsys.readouterr().err

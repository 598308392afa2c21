"""The published `climeter` 0.1.7 while the broker is halted: it waits ten seconds, not more."""

from __future__ import annotations

import hashlib
import os
import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from climeter.meter import Meter  # type: ignore[import-untyped]  # it publishes no types

from meterstream_schemas.connection import read_connection
from tests.clients.conftest import Gateway
from tests.integration.up_process import running_up
from tests.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

pytestmark = pytest.mark.integration

CLIENT_SECONDS = 10
"""How long the package waits for an answer; then it sends the batch again, without ids."""
TENANT = f"climeter-{hashlib.sha256(b'halted').hexdigest()[:16]}"
CATALOGUE = """\
metering_since: 2026-01-01T00:00:00Z
meters:
  - {name: own.calls, type: own.call, aggregate: count}
"""


@contextmanager
def _halted(process: int | None) -> Generator[None]:
    """A process that does nothing inside the block."""
    assert process is not None
    os.kill(process, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(process, signal.SIGCONT)


def test_a_halted_broker_loses_and_doubles_nothing(tmp_path: Path) -> None:
    """Each batch is answered before the package gives up, so it is sent once; all count once."""
    catalogue = tmp_path / "own.yaml"
    catalogue.write_text(CATALOGUE, "utf-8")
    with running_up(tmp_path / "data", catalogue, "--clients", "climeter") as machine:
        connection = read_connection(machine.data)
        assert connection is not None
        gateway = Gateway(machine, connection.url, "", connection.bootstrap_servers, "")
        meter = Meter()
        meter.configure(api_key="halted", api_url=gateway.url, tool_slug="my-tool")
        client: Any = vars(meter)["_client"]
        try:
            meter.record("before")
            meter.flush()
            with _halted(machine.process("broker")):
                for number in range(120):
                    meter.record("during", metadata={"n": number})
                meter.flush()
                # Its own thread may have a batch under way as well.
                eventually(lambda: _answered(gateway, "+Inf") >= 4, timeout_seconds=60)
                assert (meter.status()["queue_size"], client.buffered_count) == (0, 0)
            meter.record("after")
            meter.flush()
            eventually(lambda: client.buffered_count == 0, timeout_seconds=60)
        finally:
            vars(client)["_shutdown"].set()

        assert _answered(gateway, f"{CLIENT_SECONDS:.1f}") == _answered(gateway, "+Inf") >= 5
        counts = {("before",): 1, ("during",): 120, ("after",): 1}
        gateway.wait_for("climeter.calls", counts, tenant=TENANT, by=("command",))
        eventually(lambda: _metric(gateway, "meterstream_gateway_spool_events ") == 0)
        gateway.settle()
        assert gateway.figures("climeter.calls", tenant=TENANT, by=("command",)) == counts


def _answered(gateway: Gateway, within: str) -> float:
    """Batches that were answered within so many seconds."""
    name = "meterstream_http_request_duration_seconds_bucket"
    return _metric(gateway, f'{name}{{le="{within}",route="/v1/events/batch"}} ')


def _metric(gateway: Gateway, start: str) -> float:
    lines = httpx.get(f"{gateway.url}/metrics", timeout=30).text.splitlines()
    return float(next(line for line in lines if line.startswith(start)).split()[-1])

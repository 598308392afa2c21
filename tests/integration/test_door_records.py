"""The SDK over HTTP, through the real gateway, to figures."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import httpx
import pytest

from meterstream import Meter
from tests.integration.counting import LONG, positions, worker_settings
from tests.integration.serve_process import Serve
from tests.integration.test_door_kill import figures
from tests.integration.worker_process import running_worker
from tests.waiting import eventually

if TYPE_CHECKING:
    from pathlib import Path

    from meterstream import Outcome
    from tests.conftest import Broker

pytestmark = pytest.mark.integration

EVENTS = 3_000
TENANTS = 20


def test_the_sdk_counts_through_the_gateway(broker: Broker, topic: str, tmp_path: Path) -> None:
    """Through a kill of the gateway each event has a place and is counted once."""
    settings = worker_settings(broker, topic, tmp_path)
    told: list[Outcome] = []
    amounts = random.Random(7)
    with Serve(tmp_path, broker.bootstrap_servers, topic) as serve:
        meter = Meter("remote", gateway_url=serve.url, api_key="any", on_outcome=told.append)
        for number in range(EVENTS):
            if number == EVENTS // 2:
                eventually(lambda: len(told) > EVENTS // 4, timeout_seconds=LONG)
                serve.kill()
                serve.start()
            meter.record(
                "api.request", tenant=f"t{number % TENANTS}", quantity=amounts.randrange(9)
            )
        answer = httpx.post(f"{serve.url}/v1/events", json={"type": "api.request", "tenant": "t0"})
        assert answer.status_code == 201, answer.text
        assert meter.flush(LONG)
        assert meter.close(LONG)
        status = meter.status()
        assert (status.acknowledged, status.failed, status.dropped) == (EVENTS, 0, {})
        assert all(outcome.offset is not None for outcome in told)
        with running_worker(settings):
            eventually(
                lambda: sum(row.counted for row in positions(settings.store)) == EVENTS + 1,
                timeout_seconds=LONG,
            )
            eventually(serve.takes_events, timeout_seconds=LONG)
    each = EVENTS // TENANTS
    assert figures(settings) == {f"t{number}": each + (number == 0) for number in range(TENANTS)}

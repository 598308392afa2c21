"""The published `climeter` 0.1.7 with large metadata: it deletes what is answered 413."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from climeter.meter import Meter  # type: ignore[import-untyped]  # it publishes no types

from meterstream_services.clients.climeter.bodies import BATCH_BYTES_MAX
from meterstream_services.http.limits import BODY_BYTES_MAX
from tests.clients.published import run_published

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.clients.conftest import Gateway

pytestmark = pytest.mark.integration

BATCH = 50
"""What the package sends at once."""


@pytest.fixture
def meter(gateway: Gateway, fresh: str) -> Iterator[Meter]:
    """A meter of one's own, whose key is the fresh name; its thread ends with its next look."""
    made = Meter()
    made.configure(api_key=fresh, api_url=gateway.url, tool_slug="my-tool")
    yield made
    vars(_client(made))["_shutdown"].set()


def _client(meter: Meter) -> Any:  # noqa: ANN401 - it publishes no types
    return vars(meter)["_client"]


def _tenant(key: str) -> str:
    return f"climeter-{hashlib.sha256(key.encode()).hexdigest()[:16]}"


def _refused(gateway: Gateway) -> float:
    lines = httpx.get(f"{gateway.url}/metrics", timeout=30).text.splitlines()
    name = "meterstream_climeter_events_refused_total "
    return float(next(line for line in lines if line.startswith(name)).split()[1])


def test_a_batch_of_large_metadata_is_counted(gateway: Gateway, fresh: str, meter: Meter) -> None:
    """Thirteen times what other bodies may have; every event counts once."""
    size = 13 * BODY_BYTES_MAX // BATCH
    for number in range(BATCH):
        meter.record("large", metadata={"n": number, "document": "x" * size})
    meter.flush()

    gateway.settle()
    gateway.wait_for("climeter.calls", BATCH, tenant=_tenant(fresh))
    assert (meter.status()["queue_size"], _client(meter).buffered_count) == (0, 0)


BEYOND = """
import json, os, sys
from climeter.meter import Meter

size, name = int(sys.stdin.readline()), os.environ["NAME"]
meter = Meter()
meter.configure(api_key=name, api_url=os.environ["GATEWAY"], tool_slug="my-tool")
client = vars(meter)["_client"]
client.flush_interval = 3600  # Its thread leaves the second round to us.
for _ in range(2):
    meter.record("larger", metadata={"document": "x" * size})
meter.flush()
kept = client.buffered_count
meter.record("small")
meter.flush()
print(json.dumps({"kept": kept, "still": client.buffered_count}))
sys.stdout.flush()
os._exit(0)
"""
"""In a process of its own: the package leaves the socket of a refusal to the collector."""


def test_beyond_the_bound_the_package_keeps_it_and_the_counter_tells(
    gateway: Gateway, fresh: str
) -> None:
    """It tries three times and keeps the events for later; others are counted meanwhile."""
    before = _refused(gateway)

    told = run_published(
        None,
        BEYOND,
        environment={"NAME": fresh, "GATEWAY": gateway.url},
        told=f"{BATCH_BYTES_MAX // 2}\n",
    )

    assert told == {"kept": 2, "still": 2}
    assert _refused(gateway) >= before + 2 * 3
    gateway.settle()
    gateway.wait_for("climeter.calls", {("small",): 1}, tenant=_tenant(fresh), by=("command",))

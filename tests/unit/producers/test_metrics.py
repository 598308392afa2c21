"""The SDK's own figures, as the real prometheus_client exposes them."""

from __future__ import annotations

import re
import threading
import urllib.request
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.exposition import generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.parser import text_string_to_metric_families

import meterstream
from meterstream.metrics import FAMILIES, MeterCollector
from meterstream.testing import RecordingMeter, as_default_meter
from tests.unit.producers.reading import arrived

if TYPE_CHECKING:
    from meterstream.memory import MemoryTransport
    from tests.unit.producers.conftest import MakeMeter

GUIDE = Path(__file__).parents[3] / "docs/testing.md"


@pytest.fixture
def registry() -> CollectorRegistry:
    """An empty registry."""
    return CollectorRegistry()


def scraped(registry: CollectorRegistry) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Every sample of an exposition, by name and labels."""
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(generate_latest(registry).decode())
        for sample in family.samples
    }


def test_every_figure_of_the_status_is_exposed(
    registry: CollectorRegistry, make_meter: MakeMeter, transport: MemoryTransport
) -> None:
    """With the host's labels, and every reason of a drop from the beginning."""
    meter = make_meter()
    MeterCollector(meter, labels={"service": "search"}).register(registry)
    for _ in range(5):
        meter.record("call", tenant="acme")
    meter.flush(5)
    transport.available = False
    meter.record("call", tenant="acme")
    meter.record("call", tenant="")
    session = meter.session_start("vm", tenant="acme", session="s")

    found = scraped(registry)

    assert session
    assert len(arrived(transport)) == 5
    service = ("service", "search")
    figures = {name: value for (name, labels), value in found.items() if labels == {service}}
    assert figures.pop("meterstream_sdk_oldest_unacknowledged_seconds") >= 0
    assert figures == {
        "meterstream_sdk_recorded_total": 7,
        "meterstream_sdk_acknowledged_total": 5,
        "meterstream_sdk_failed_total": 0,
        "meterstream_sdk_resent_total": 0,
        "meterstream_sdk_ack_without_offset_total": 0,
        "meterstream_sdk_rebuilt_total": 0,
        "meterstream_sdk_adopted_total": 0,
        "meterstream_sdk_buffered": 2,
        "meterstream_sdk_spooled": 0,
        "meterstream_sdk_spool_bytes": 0,
        "meterstream_sdk_spool_bytes_max": 0,
        "meterstream_sdk_open_sessions": 0,
    }
    dropped = {
        reason: found["meterstream_sdk_dropped_total", frozenset({service, ("reason", reason)})]
        for reason in ("invalid", "buffer_full", "closed")
    }
    assert dropped == {"invalid": 1, "buffer_full": 0, "closed": 0}
    about = {("producer", meter.producer), ("version", metadata.version("meterstream")), service}
    assert found["meterstream_sdk_info", frozenset(about)] == 1


def test_every_metric_is_exposed_and_declared_once(
    registry: CollectorRegistry, make_meter: MakeMeter
) -> None:
    """In both text formats, with type and help."""
    MeterCollector(make_meter()).register(registry)

    text = generate_latest(registry).decode()
    openmetrics = generate_openmetrics(registry).decode()  # type: ignore[no-untyped-call]  # no types

    for family in FAMILIES:
        assert f"# HELP {family.name} {family.help}\n" in text
        assert f"# TYPE {family.name} {family.kind}\n" in text
        assert f"# TYPE {family.name.removesuffix('_total')} {family.kind}\n" in openmetrics
    assert len(re.findall(r"^# TYPE", text, re.MULTILINE)) == len(FAMILIES)


def test_several_meters_are_told_apart(registry: CollectorRegistry, make_meter: MakeMeter) -> None:
    """By the values of equal labels; a second collector is refused, not mixed up."""
    first, second = make_meter(), make_meter()
    collector = MeterCollector(first, labels={"meter": "a"}).register(registry)
    collector.add(second, labels={"meter": "b"})
    second.record("call", tenant="acme")

    found = scraped(registry)

    assert found["meterstream_sdk_recorded_total", frozenset({("meter", "a")})] == 0
    assert found["meterstream_sdk_recorded_total", frozenset({("meter", "b")})] == 1
    with pytest.raises(ValueError, match="Duplicated"):
        MeterCollector(second).register(registry)
    with pytest.raises(ValueError, match="another meter has"):
        collector.add(second, labels={"meter": "b"})
    with pytest.raises(ValueError, match="are not"):
        collector.add(second, labels={"name": "b"})
    with pytest.raises(ValueError, match="choose another name"):
        MeterCollector(first, labels={"reason": "x"})


def test_it_can_be_taken_out(registry: CollectorRegistry, make_meter: MakeMeter) -> None:
    """Twice does no harm, and another one can take its place."""
    meter = make_meter()
    collector = MeterCollector(meter).register(registry)

    collector.unregister()
    collector.unregister()

    assert generate_latest(registry) == b""
    MeterCollector(meter).register(registry)
    assert scraped(registry)


def test_the_default_meter_is_whichever_is_it_then(registry: CollectorRegistry) -> None:
    """The package itself can be collected."""
    with RecordingMeter() as former, RecordingMeter() as latter:
        collector = MeterCollector(meterstream).register(registry)
        with as_default_meter(former):
            meterstream.record("call", tenant="acme")
            first = scraped(registry)
        with as_default_meter(latter):
            second = scraped(registry)
        collector.unregister()

    assert first["meterstream_sdk_recorded_total", frozenset()] == 1
    assert second["meterstream_sdk_recorded_total", frozenset()] == 0


def test_a_scrape_over_http_sees_counters_grow(
    registry: CollectorRegistry, make_meter: MakeMeter
) -> None:
    """While other threads record."""
    meter = make_meter()
    MeterCollector(meter).register(registry)
    server, thread = start_http_server(0, addr="127.0.0.1", registry=registry)
    done = threading.Event()

    def work() -> None:
        while not done.is_set():
            meter.record("call", tenant="acme")
            done.wait(0.001)

    worker = threading.Thread(target=work)
    worker.start()
    try:
        address = f"http://127.0.0.1:{server.server_port}/metrics"
        counts: list[float] = []
        while len(counts) < 2 or counts[-1] == counts[0]:
            with urllib.request.urlopen(address, timeout=10) as answer:
                text = answer.read().decode()
            counts.append(
                float(re.findall(r"^meterstream_sdk_recorded_total (.+)$", text, re.MULTILINE)[0])
            )
    finally:
        done.set()
        worker.join()
        server.shutdown()
        server.server_close()
        thread.join()

    assert counts == sorted(counts)


def test_the_guide_lists_exactly_these_metrics() -> None:
    """Names, and the alerts' expressions use no others."""
    named = set(re.findall(r"meterstream_sdk_[a-z_]+", GUIDE.read_text("utf-8")))

    assert named == {family.name for family in FAMILIES}

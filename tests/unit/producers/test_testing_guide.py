"""The guide to testing: its blocks are a test module, which pytest runs as a host would."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tests.unit.producers.test_testing_plugin import pytest_of_a_host

if TYPE_CHECKING:
    import pytest

GUIDE = Path(__file__).parents[3] / "docs/testing.md"


def test_every_block_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All together as one file, in order."""
    blocks = re.findall(r"```python\n(.*?)```", GUIDE.read_text("utf-8"), re.DOTALL)
    assert len(blocks) == 4

    status, said = pytest_of_a_host(tmp_path, module="\n".join(blocks))

    assert status == 0, said
    assert "5 passed" in said


def test_multi_process_gauges_are_there_after_their_process(tmp_path: Path) -> None:
    """Mode `sum` keeps what an ended process counted; a collector is not seen."""
    program = """
from prometheus_client import CollectorRegistry, Gauge, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector
from meterstream.metrics import MeterCollector
from meterstream.testing import RecordingMeter

meter = RecordingMeter()
MeterCollector(meter).register()
Gauge("g", "G.", multiprocess_mode="sum").set(2)
registry = CollectorRegistry()
MultiProcessCollector(registry)
print(generate_latest(registry).decode())
meter.close(5)
"""
    environment = {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}

    said = [
        subprocess.run(
            [sys.executable, "-c", program],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        ).stdout
        for _ in range(2)
    ]

    assert "g 4.0" in said[1]
    assert "meterstream_sdk" not in said[1]

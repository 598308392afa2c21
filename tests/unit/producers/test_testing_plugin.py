"""The pytest plugin in a pytest of its own, as a host's tests run it."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

OTHERS = ("anyio", "hypothesispytest", "langsmith_plugin", "platformdirs", "randomly", "timeout")
"""Plugins of this repository's environment that take their time to load."""
HOST = """
import meterstream


def serve():
    meterstream.record("call", tenant="acme")


def test_default(meterstream_default, recording_meter):
    serve()
    assert meterstream_default is recording_meter
    meterstream_default.assert_recorded("call", tenant="acme")


def test_own(recording_meter):
    recording_meter.assert_not_recorded()
    recording_meter.record("other", tenant="acme")
    recording_meter.assert_recorded("call")
"""


def pytest_of_a_host(directory: Path, *options: str, module: str = HOST) -> tuple[int, str]:
    """Exit status and output of pytest over a host's tests, with warnings as errors."""
    (directory / "test_host.py").write_text(module, "utf-8")
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "error",
         *(f"-pno:{name}" for name in OTHERS), *options, "test_host.py"],
        cwd=directory,
        env={name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )  # fmt: skip
    return run.returncode, run.stdout + run.stderr


def test_fixtures_are_there_without_further_ado(tmp_path: Path) -> None:
    """One test passes, and the other fails at its own line with the words of the assertion."""
    status, said = pytest_of_a_host(tmp_path)

    assert status == 1, said
    assert "1 failed, 1 passed" in said
    assert "expected once, recorded never: 'call'" in said
    assert "<- type is 'other', not 'call'" in said
    assert "testing.py" not in said


def test_it_can_be_left_out(tmp_path: Path) -> None:
    """`-p no:meterstream` takes the fixtures away, and nothing else breaks."""
    status, said = pytest_of_a_host(tmp_path, "-p", "no:meterstream")

    assert status == 1, said
    assert "fixture 'recording_meter' not found" in said


def test_loading_it_imports_nothing_of_the_testing_helpers() -> None:
    """Projects that never ask for a fixture pay for the package itself only."""
    program = (
        "import sys, meterstream.testing_plugin; "
        "print([name for name in ('meterstream.testing', 'fastavro', 'confluent_kafka', "
        "'meterstream_schemas.codec') if name in sys.modules])"
    )

    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )

    assert run.stdout.strip() == "[]"

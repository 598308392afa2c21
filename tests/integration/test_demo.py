"""`meterstream demo` as `make demo` runs it."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.integration


def test_the_demo_finds_its_books_equal(tmp_path: Path) -> None:
    """A worker is killed on the way, every figure is equal, and nothing is left running."""
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("METERSTREAM_")
    }
    command = [sys.executable, "-m", "meterstream_services.cli.main", "demo"]

    done = subprocess.run(
        [*command, "--data", str(tmp_path / "data")],
        capture_output=True,
        text=True,
        timeout=150,
        env=environment,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert "Every figure is equal." in done.stdout
    assert "DIFFERENT" not in done.stdout
    assert "worker was killed by SIGKILL; starting it again" in done.stdout
    assert "Where to look" in done.stdout
    assert not (tmp_path / "data" / "processes.json").exists()

"""How long ``meterstream up`` takes from the command to answers, on a new directory and again."""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

from benchmarks.traffic import catalogue_text, since
from meterstream_schemas.connection import read_connection

READY_SECONDS = 120


def measure_starts() -> dict[str, Any]:
    """Seconds until readiness: with an empty directory, and with that directory a second time.

    Raises `RuntimeError` with the output of ``up`` when it does not become ready.
    """
    with tempfile.TemporaryDirectory(prefix="meterstream-bench-") as directory:
        data = Path(directory) / "data"
        catalogue = Path(directory) / "meters.yaml"
        catalogue.write_text(catalogue_text(since(1)), "utf-8")
        return {
            "new_directory_seconds": _one_start(data, catalogue),
            "same_directory_again_seconds": _one_start(data, catalogue),
        }


def _one_start(data: Path, catalogue: Path) -> float:
    command = [sys.executable, "-m", "meterstream_services.cli.main", "up", "--data", str(data)]
    command += ["--http", "127.0.0.1:0", "--catalogue", str(catalogue)]
    output = data.parent / "up.out"
    begun = time.perf_counter()
    with output.open("wb") as stream:
        process = subprocess.Popen(command, stdout=stream, stderr=subprocess.STDOUT)
        try:
            while not _answers(data):
                if process.poll() is not None or time.perf_counter() - begun > READY_SECONDS:
                    raise RuntimeError(f"`up` was not ready:\n{output.read_text('utf-8')}")
                time.sleep(0.01)
            return round(time.perf_counter() - begun, 2)
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _answers(data: Path) -> bool:
    connection = read_connection(data)
    if connection is None:
        return False
    try:
        with urllib.request.urlopen(f"{connection.url}/health/ready", timeout=2) as response:
            return bool(response.status == 200)
    except OSError:
        return False

"""`meterstream up` on a real broker: ready, hard to kill, gone without a trace."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from meterstream_schemas.connection import read_connection
from meterstream_services.client import Api
from tests.integration.up_process import COMMAND, Machine, running_up
from tests.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.integration

CATALOGUE = Path(__file__).parents[2] / "docs" / "examples" / "demo.yaml"
PARTS = ("broker", "worker", "serve")


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """One running `up` for the tests that leave it running."""
    with running_up(tmp_path_factory.mktemp("up") / "data", CATALOGUE) as running:
        yield running


def up(data: Path, *options: str) -> subprocess.Popen[str]:
    """Another `up` over a directory, with what it says."""
    return subprocess.Popen(
        [*COMMAND, "up", "--data", str(data), "--catalogue", str(CATALOGUE), *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def refusal(data: Path, *options: str) -> str:
    """What an `up` says that must refuse to start."""
    process = up(data, *options)
    said, _ = process.communicate(timeout=100)
    assert process.returncode == 1, said
    assert "Traceback" not in said
    return said


def is_gone(process: int) -> bool:
    """Whether no such process runs; one that nobody has reaped yet does not run."""
    try:
        return psutil.Process(process).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_clients_find_what_is_ready(machine: Machine) -> None:
    """Once connection.toml is there, the broker, the topic and the API work."""
    checks = machine.json("check")["checks"]

    assert {check["what"]: check["result"] for check in checks} == {
        "broker": "ok",
        "topic": "ok",
        "API": "ok",
    }
    said = machine.output.read_text()
    assert "ready" in said
    assert "  keys           none made: anybody on this machine may do everything\n" in said


@pytest.mark.parametrize("part", PARTS)
def test_a_killed_part_is_started_again(machine: Machine, part: str) -> None:
    """SIGKILL on a part is said, another process takes its place, and events count again."""
    before = machine.process(part)
    assert before is not None

    os.kill(before, signal.SIGKILL)
    eventually(lambda: machine.process(part) not in {None, before}, timeout_seconds=60)

    eventually(lambda: f"{part} runs again" in machine.output.read_text())
    rows = machine.data.parent / f"{part}.csv"
    rows.write_text("time,tenant\n2026-11-01T00:00:00Z,acme\n")
    arguments = ["--type", "api.request", "--time", "time", "--tenant", "tenant"]
    eventually(lambda: _answers(machine), timeout_seconds=60)
    report = machine.json("import", str(rows), *arguments, "--source", part)
    assert report["counted"] == 1


def _answers(machine: Machine) -> bool:
    connection = read_connection(machine.data)
    assert connection is not None
    process = machine.start("status", "--format", "json")
    process.communicate(timeout=60)
    return process.returncode == 0


def test_a_second_up_on_the_directory_is_refused(machine: Machine) -> None:
    """The directory belongs to one `up`; the sentence names its process."""
    said = refusal(machine.data)

    assert f"another `meterstream up` (process {machine.process('up')}) runs" in said


def test_a_port_in_use_is_refused(machine: Machine, tmp_path: Path) -> None:
    """A taken port is said before anything is started."""
    connection = read_connection(machine.data)
    assert connection is not None
    address = connection.url.removeprefix("http://")

    said = refusal(tmp_path / "data", "--http", address)

    assert "is in use; stop what listens there, or choose another --http" in said
    assert not (tmp_path / "data" / "broker").exists()


def test_an_external_broker_is_used(machine: Machine, tmp_path: Path) -> None:
    """With --bootstrap no broker is started, and another topic shares nothing with the first."""
    connection = read_connection(machine.data)
    assert connection is not None
    options = ["--bootstrap", connection.bootstrap_servers, "--topic", "another.topic"]

    with running_up(tmp_path / "data", CATALOGUE, *options) as second:
        assert second.process("broker") is None
        assert not (tmp_path / "data" / "broker").exists()
        found = read_connection(second.data)
        assert found is not None
        assert found.bootstrap_servers == connection.bootstrap_servers
        with Api(found.url) as api:
            assert api.get("/v1/status")["topic"]["topic"] == "another.topic"


def test_nothing_is_left_behind(tmp_path: Path) -> None:
    """SIGKILL on `up` takes its parts along, the next start waits for them; SIGTERM ends all."""
    data = tmp_path / "data"
    first = up(data, "--http", "127.0.0.1:0")
    try:
        running = Machine(data, tmp_path / "unused")
        eventually(lambda: read_connection(data) is not None, timeout_seconds=120)
        parts = [number for name in PARTS if (number := running.process(name))]
        assert len(parts) == len(PARTS)
    finally:
        first.kill()
        first.communicate()
        (data / "connection.toml").unlink()  # what is there later is the second one's

    with running_up(data, CATALOGUE) as second:
        assert all(is_gone(number) for number in parts)
        parts = [number for name in PARTS if (number := second.process(name))]
        ends = second.process("up")
        assert ends is not None
        assert len(parts) == len(PARTS)

    assert all(is_gone(number) for number in parts)
    assert not (data / "connection.toml").exists()
    assert not (data / "processes.json").exists()
    assert "stopping" in data.with_suffix(".out").read_text()

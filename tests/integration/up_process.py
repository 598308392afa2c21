"""``meterstream up`` as a process, and the command line beside it, as a person would use them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from meterstream_schemas.connection import read_connection
from tests.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

COMMAND = [sys.executable, "-m", "meterstream_services.cli.main"]


class Machine:
    """A running `up` over ``data``: its parts by process id, and commands that talk to it."""

    def __init__(self, data: Path, output: Path) -> None:
        self.data = data
        self.output = output

    def process(self, name: str) -> int | None:
        """The process id of a part, None while it is not running."""
        try:
            processes = json.loads((self.data / "processes.json").read_text("utf-8"))
        except FileNotFoundError:
            return None
        number = processes.get(name)
        return int(number) if number is not None else None

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """A command of the command line, running."""
        return subprocess.Popen(
            [*COMMAND, *arguments, "--data", str(self.data)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=_clean_environment(),
        )

    def answer(self, *arguments: str, timeout_seconds: float = 120) -> str:
        """What a command prints; it must succeed."""
        return finish(self.start(*arguments), timeout_seconds=timeout_seconds)

    def json(self, *arguments: str) -> Any:  # noqa: ANN401 - JSON may be anything
        """What a command answers as JSON."""
        return json.loads(self.answer(*arguments, "--format", "json"))


def finish(process: subprocess.Popen[str], *, timeout_seconds: float = 120) -> str:
    """Wait for a command and return its output; fail with what it said when it failed."""
    try:
        out, err = process.communicate(timeout=timeout_seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        out, err = process.communicate()
        raise AssertionError(f"{process.args!r} did not end:\n{out}\n{err}") from None
    assert process.returncode == 0, f"{process.args!r} failed:\n{out}\n{err}"
    return out


@contextmanager
def running_up(data: Path, catalogue: Path, *options: str) -> Iterator[Machine]:
    """`up` with the embedded broker over ``data``, ready; stopped cleanly at the end."""
    output = data.with_suffix(".out")
    command = [*COMMAND, "up", "--data", str(data), "--http", "127.0.0.1:0"]
    with output.open("w", encoding="utf-8") as stream:
        process = subprocess.Popen(
            [*command, "--catalogue", str(catalogue), *options],
            stdout=stream,
            stderr=subprocess.STDOUT,
            env=_clean_environment(),
        )
        try:
            eventually(
                lambda: read_connection(data) is not None or process.poll() is not None,
                timeout_seconds=120,
            )
            assert process.poll() is None, output.read_text("utf-8")
            yield Machine(data, output)
            assert process.poll() is None, output.read_text("utf-8")
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _clean_environment() -> dict[str, str]:
    """The environment without settings that would point somewhere else."""
    return {
        name: value for name, value in os.environ.items() if not name.startswith("METERSTREAM_")
    }

"""Keys across processes: what the command changes counts in services that run."""

from __future__ import annotations

import json
import signal
import subprocess
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import httpx
import pytest

from meterstream_infra.ports import draw_free_port
from tests.integration.up_process import COMMAND
from tests.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

pytestmark = pytest.mark.integration


@contextmanager
def service(data: Path, number: int) -> Generator[httpx.Client]:
    """A `serve` over a directory, and a client of it."""
    port = draw_free_port()
    log = data / f"serve-{number}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [
                *COMMAND,
                "serve",
                "--read-only",
                *("--data", str(data)),
                *("--http", f"127.0.0.1:{port}"),
            ],
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:
            eventually(lambda: _lives(client), timeout_seconds=60)
            yield client
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0, log.read_text("utf-8")


def _lives(client: httpx.Client) -> bool:
    try:
        return client.get("/health/live").status_code == 200
    except httpx.TransportError:
        return False


def command(data: Path, *arguments: str) -> str:
    """What a command of `meterstream keys` prints."""
    done = subprocess.run(
        [*COMMAND, "keys", *arguments, "--data", str(data)],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return done.stdout


def test_two_services_and_the_command(tmp_path: Path) -> None:
    """The first key closes both services; a key counts in both, and once revoked in neither."""
    with ExitStack() as stack:
        clients = [stack.enter_context(service(tmp_path, number)) for number in range(2)]

        def told(key: str = "") -> list[int]:
            headers = {"X-API-Key": key} if key else {}
            return [each.get("/v1/accounts", headers=headers).status_code for each in clients]

        assert told() == [200, 200]

        made = json.loads(command(tmp_path, "create", "--scope", "read", "--all-tenants", "--json"))
        eventually(lambda: told() == [401, 401])
        eventually(lambda: told(made["key"]) == [200, 200])

        new = json.loads(command(tmp_path, "rotate", made["id"], "--overlap", "1h", "--json"))
        eventually(lambda: told(new["key"]) == [200, 200])
        assert told(made["key"]) == [200, 200]

        command(tmp_path, "revoke", made["id"])
        eventually(lambda: told(made["key"]) == [401, 401])
        assert told(new["key"]) == [200, 200]


def test_an_address_of_others(tmp_path: Path) -> None:
    """Without a key `serve` ends before it listens to others, and says which command makes one."""
    done = subprocess.run(
        [*COMMAND, "serve", "--read-only", "--http", "0.0.0.0:0", "--data", str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    assert done.returncode == 78
    assert "meterstream keys create --scope admin --all-tenants" in done.stderr

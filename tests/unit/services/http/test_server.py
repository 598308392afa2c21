"""The service as a process: its socket, its signals, its exit status."""

from __future__ import annotations

import asyncio
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
import uvloop
from starlette.types import Receive, Scope, Send

from meterstream_services.accounts.memory import MemoryDirectory
from meterstream_services.http.app import create_app, run
from meterstream_services.http.server import serve
from meterstream_services.http.settings import Settings

PROGRAM = """
import sys
from pathlib import Path
from meterstream_services.http.app import run
from meterstream_services.http.settings import Settings
home = Path(sys.argv[1])
sys.exit(run(Settings(home / "store.sqlite3", home / "accounts.sqlite3", port=0, host=sys.argv[2])))
"""


@contextmanager
def _service(home: Path, host: str = "127.0.0.1") -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A running service and its URL."""
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "-c", PROGRAM, str(home), host],
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    timer = threading.Timer(60, process.kill)
    timer.start()
    try:
        lines: list[str] = []
        for line in process.stderr:
            lines.append(line)
            if found := re.search(r"http://\S+", line):
                yield process, found[0]
                break
        else:
            pytest.fail("the service ended:\n" + "".join(lines))
    finally:
        process.kill()
        process.wait()
        process.stderr.close()
        timer.cancel()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_cleanly(tmp_path: Path, number: signal.Signals) -> None:
    """Asked to stop, the service answers what runs and exits with status 0."""
    with _service(tmp_path) as (process, url):
        assert httpx.get(f"{url}/health/live", trust_env=False).status_code == 200
        assert httpx.get(f"{url}/v1/accounts", trust_env=False).json() == {
            "accounts": [],
            "next": None,
        }

        process.send_signal(number)

        assert process.wait(timeout=30) == 0


def test_what_was_answered_survives_a_kill(tmp_path: Path) -> None:
    """What was answered as made is there after ``kill -9``."""
    with _service(tmp_path) as (process, url):
        made = httpx.put(f"{url}/v1/accounts/a1", json={"name": "A"}, trust_env=False)
        process.kill()

    with _service(tmp_path) as (process, url):
        assert made.status_code == 201
        assert httpx.get(f"{url}/v1/accounts/a1", trust_env=False).json()["name"] == "A"


def test_garbage_on_the_socket_is_survived(tmp_path: Path) -> None:
    """Bytes that are no HTTP close their own connection and nothing else."""
    with _service(tmp_path) as (_, url):
        host, _, port = url.removeprefix("http://").rpartition(":")
        for garbage in (b"\x00" * 1000, b"GET / HTTP/9.9\r\n\r\n", b"A" * 70_000):
            with socket.create_connection((host, int(port)), timeout=10) as connection:
                connection.sendall(garbage)
                connection.shutdown(socket.SHUT_WR)
                assert b"HTTP/1.1 200" not in connection.recv(1000)

        assert httpx.get(f"{url}/health/live", trust_env=False).status_code == 200


def test_a_port_in_use(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A port that somebody else has is one sentence and status 1."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]

        status = run(Settings(tmp_path / "s", tmp_path / "a", port=port))

    told = capsys.readouterr().err
    assert status == 1
    assert told == (
        f"meterstream serve: the port of 127.0.0.1:{port} is in use; stop what listens there, or "
        "choose another port\n"
    )


def test_the_quick_loop_is_the_one_that_runs(capsys: pytest.CaptureFixture[str]) -> None:
    """The loop of asyncio itself answers a good part fewer requests, and nothing else tells."""
    loops: list[type] = []

    async def app(_: Scope, receive: Receive, send: Send) -> None:
        loops.append(type(asyncio.get_running_loop()))
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "this was all"})

    assert serve(app, host="127.0.0.1", port=0) == 1
    assert "could not start" in capsys.readouterr().err
    assert loops == [uvloop.Loop]


@pytest.mark.parametrize(
    ("host", "told"),
    [
        ("192.0.2.1", "192.0.2.1 is no address of this machine"),
        ("no.such.host.invalid", "cannot listen on no.such.host.invalid:0"),
    ],
)
def test_an_address_that_cannot_be_had(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], host: str, told: str
) -> None:
    """An address of another machine, or a name that is none, is one sentence and status 1."""
    app = create_app(Settings(tmp_path / "s", tmp_path / "a", host=host))

    status = serve(app, host=host, port=0)

    assert status == 1
    assert told in capsys.readouterr().err


def test_one_that_takes_no_events_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Else the first to learn of it would be whoever sends."""
    app = create_app(Settings(tmp_path / "s", tmp_path / "a"), directory=MemoryDirectory())

    async def live() -> None:
        async with app.router.lifespan_context(app):
            pass

    with caplog.at_level("INFO", "meterstream.http"):
        asyncio.run(live())
    assert "takes no events and answers questions only" in caplog.text

"""The front as a process: its end while requests run, and its certificate read again."""

from __future__ import annotations

import contextlib
import logging
import re
import signal
import socket
import ssl
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import trustme

from meterstream_services.http.server import serve
from tests.unit.services.front.conftest import (
    END_SECONDS,
    Application,
    client_context,
    read_all,
    request,
    running,
    wait_for,
)


def test_what_runs_is_answered_before_the_end() -> None:
    """Asked to stop, a server closes idle connections, answers what runs, and takes no more."""
    with running() as front:
        assert front.server is not None
        with front.connect() as idle, front.connect() as busy:
            idle.sendall(request("/a"))
            assert idle.recv(1000).endswith(b"/a 0")
            busy.sendall(request("/slow"))
            wait_for(lambda: len(front.app.seen) == 2)

            front.server.should_exit = True

            assert read_all(idle) == b""
            told = read_all(busy)
            assert told.endswith(b"/slow 0")
            assert b"connection: close" in told
            with pytest.raises(ConnectionRefusedError):
                front.connect()


def test_a_request_that_is_not_complete_does_not_hold_the_end() -> None:
    """Asked to stop, a server does not wait for the rest of a head that may never come."""
    with running() as front:
        assert front.server is not None
        with front.connect() as client:
            client.sendall(b"GET / HTTP/1.1\r\n")
            wait_for(lambda: front.connections() == 1)

            front.server.should_exit = True

            assert read_all(client) == b""


def test_https_from_the_command_line(tmp_path: Path) -> None:
    """`serve` with a certificate answers over TLS; SIGHUP reads it again; SIGTERM ends with 0."""
    first, second = trustme.CA(), trustme.CA()
    _write(first, tmp_path)
    command = [sys.executable, "-W", "error", "-m", "meterstream_services.cli.main", "serve"]
    command += ["--http", "127.0.0.1:0", "--data", str(tmp_path), "--read-only"]
    command += ["--tls-certificate", str(tmp_path / "chain.pem")]
    command += ["--tls-key", str(tmp_path / "key.pem")]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    timer = threading.Timer(90, process.kill)
    timer.start()
    try:
        port = int(_line(process, r"listening on https://127\.0\.0\.1:(\d+)"))
        assert b"HTTP/1.1 200 " in _ask(port, first)
        _write(second, tmp_path)
        process.send_signal(signal.SIGHUP)
        _line(process, r"(read again)")
        assert b"HTTP/1.1 200 " in _ask(port, second)
        with pytest.raises(ssl.SSLCertVerificationError):
            _ask(port, first)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == 0
    finally:
        process.kill()
        process.wait()
        timer.cancel()
        process.stderr.close()


def test_a_certificate_that_is_none_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A server with a wrong certificate says why, and does not start without."""
    status = serve(
        Application(), host="127.0.0.1", port=0, tls=(tmp_path / "chain.pem", tmp_path / "key.pem")
    )

    assert status == 1
    told = capsys.readouterr().err
    assert told.startswith("meterstream serve: ")
    assert "No such file or directory" in told


def test_refusals_say_nothing_of_what_was_sent(caplog: pytest.LogCaptureFixture) -> None:
    """What a client sends comes back in no refusal, and stands in no log above DEBUG."""
    with running() as front, caplog.at_level(logging.INFO):
        told = front.ask(b"GET /secret-token HTTP/7.7\r\nX: secret-token\r\n\r\n")

    assert told.startswith(b"HTTP/1.1 400 ")
    assert b"secret-token" not in told
    assert "secret-token" not in caplog.text


def _write(authority: trustme.CA, directory: Path) -> None:
    issued = authority.issue_cert("localhost")
    (directory / "key.pem").write_bytes(issued.private_key_pem.bytes())
    (directory / "chain.pem").write_bytes(b"".join(pem.bytes() for pem in issued.cert_chain_pems))


def _line(process: subprocess.Popen[str], pattern: str) -> str:
    assert process.stderr is not None
    said: list[str] = []
    for line in process.stderr:
        said.append(line)
        if found := re.search(pattern, line):
            return found[1]
    pytest.fail("the service ended:\n" + "".join(said))


def _ask(port: int, authority: trustme.CA) -> bytes:
    with contextlib.ExitStack() as stack:
        plain = socket.create_connection(("127.0.0.1", port), timeout=END_SECONDS)
        stack.callback(plain.close)
        client = client_context(authority).wrap_socket(plain, server_hostname="localhost")
        stack.callback(client.close)
        client.sendall(b"GET /health/live HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        return read_all(client)

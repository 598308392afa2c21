"""A Unimeter port that cannot be had: one sentence before anything is started, and no traceback."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from meterstream_services.http.app import run
from meterstream_services.http.settings import Settings, UnimeterPort

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def refused(tmp_path: Path, capsys: pytest.CaptureFixture[str], *ports: UnimeterPort) -> str:
    """What `serve` says of these ports; it must not start."""
    settings = Settings(
        tmp_path / "store.sqlite3", tmp_path / "accounts.sqlite3", port=0, unimeter=ports
    )
    assert run(settings) == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    return said


def test_a_port_that_somebody_has(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The option is named, not the one for HTTP."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        said = refused(tmp_path, capsys, UnimeterPort("127.0.0.1", port))

    assert f"port {port} on 127.0.0.1 is in use" in said
    assert "choose another --unimeter" in said


def test_a_port_that_is_named_twice(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two tenants need two ports."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]

    ports = [UnimeterPort("127.0.0.1", port, tenant) for tenant in ("acme", "bolt")]
    assert f"port {port} on 127.0.0.1 is named twice" in refused(tmp_path, capsys, *ports)


def test_an_address_of_another_machine(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Addresses that this machine does not have, and names that nobody knows."""
    said = refused(tmp_path, capsys, UnimeterPort("203.0.113.1", 7001))

    assert "cannot listen on 203.0.113.1:7001" in said

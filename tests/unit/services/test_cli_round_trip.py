"""`meterstream check --round-trip` as a command: what it prints, and its exit status."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import pytest

from meterstream_services.cli.main import main
from tests.unit.services.api_stub import Stub, running_stub
from tests.unit.services.test_probe import definition

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TRIP = ["check", "--round-trip", "--timeout", "0.3"]


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in tuple(os.environ):
        if name.startswith("METERSTREAM_"):
            monkeypatch.delenv(name)


@pytest.fixture
def api() -> Iterator[Stub]:
    """An API with one meter, whose worker has counted nothing yet."""
    with running_stub() as stub:
        stub.answer("/v1/meters", {"meters": [definition("calls")]})
        stub.answer("/v1/status", {"topic": None, "partitions": []})
        stub.answer("/v1/usage", {"rows": []})
        yield stub


def test_no_broker_is_a_failed_stage(api: Stub, capsys: pytest.CaptureFixture[str]) -> None:
    """Told once by the settings and once by the SDK itself; the status is 1."""
    assert main([*TRIP, "--url", api.url, "--format", "json"]) == 1

    trip = json.loads(capsys.readouterr().out)["round_trip"]
    assert trip["result"] == "FAILED"
    assert (trip["meter"], trip["type"], trip["partition"]) == ("calls", "call", None)
    assert [(stage["stage"], stage["result"]) for stage in trip["stages"]] == [
        ("chosen", "ok"),
        ("recorded", "ok"),
        ("in the log", "FAILED"),
        ("taken back", ""),
    ]
    assert "no broker is named; pass bootstrap_servers" in trip["stages"][2]["detail"]


def test_no_api_is_a_failed_stage(capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is recorded then."""
    assert main([*TRIP, "--url", "http://127.0.0.1:9"]) == 1

    said = capsys.readouterr().out
    assert "nothing answers at http://127.0.0.1:9" in said
    assert "recorded" not in said
    assert "reached its figure" not in said


def test_a_directory_without_up_is_a_failed_stage(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In CSV, stages are rows among the others."""
    assert main([*TRIP, "--data", str(tmp_path), "--format", "csv"]) == 1

    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "what,value,origin,result,detail"
    assert lines[-1].startswith("round trip: chosen,0.000,,FAILED,")
    assert "is `meterstream up` running there" in lines[-1]


def test_a_gateway_is_told_in_place_of_a_broker(
    api: Stub, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The SDK of this configuration reaches none; passwords in the address are masked."""
    monkeypatch.setenv("METERSTREAM_GATEWAY_URL", "http://me:secret@127.0.0.1:9")

    assert main(["check", "--url", api.url, "--format", "json"]) == 0

    out = capsys.readouterr().out
    assert "secret" not in out
    checks = {check["what"]: check for check in json.loads(out)["checks"]}
    assert checks["gateway"]["value"] == "http://***@127.0.0.1:9"
    assert "broker" not in checks

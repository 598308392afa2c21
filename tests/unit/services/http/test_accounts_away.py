"""Usage is answered while the service with the accounts is away, hangs or talks nonsense."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

from meterstream_services.http.app import create_app
from meterstream_services.http.settings import Settings
from tests.unit.services.accounts_service import FAULTS, service_and_directory
from tests.waiting import eventually

if TYPE_CHECKING:
    from pathlib import Path

    from meterstream_services.accounts.port import EditableDirectory
    from tests.unit.services.http.conftest import World

MARCH = {"meter": "api.requests", "start": "2026-03-01", "end": "2026-03-02"}
OF_ACCOUNT = "/v1/usage?meter=api.requests&account=a&from=2026-03-01&to=2026-03-02"


def _with(world: World, directory: EditableDirectory, tmp_path: Path) -> World:
    """The world's store, under an application that begins with this directory."""
    world.app = create_app(
        Settings(tmp_path / "store.sqlite3", tmp_path / "accounts.sqlite3"),
        open_store=lambda: world.store,
        directory=directory,
        now=lambda: world.time[0],
    )
    return world


def _row(world: World) -> dict[str, Any]:
    (row,) = world.usage(**MARCH)["rows"]
    assert (row["tenant"], row["value"]) == ("t0", "1")
    return dict(row)


@pytest.mark.parametrize("fault", FAULTS)
def test_usage_is_answered_without_the_service(world: World, tmp_path: Path, fault: str) -> None:
    """From the start on and again later; what was known of accounts is said meanwhile."""
    with service_and_directory(fault) as (service, directory):
        _with(world, directory, tmp_path)
        world.use("api.requests", "t0", "2026-03-01T11:45")

        begun = time.monotonic()
        assert _row(world)["account"] is None
        assert world.get("/v1/tenants").json()["tenants"] == [{"tenant": "t0", "account": None}]
        assert world.get(OF_ACCOUNT).status_code == 503
        ready = world.get("/health/ready")
        assert ready.status_code == 200
        assert ready.json()["checks"]["accounts"].startswith("unavailable: accounts")
        assert time.monotonic() - begun < 30

        service.heal()
        eventually(lambda: _row(world)["account"] == "a")
        eventually(lambda: world.get(OF_ACCOUNT).status_code == 200)

        service.break_("hangs" if fault == "refused" else fault)
        assert _row(world)["account"] == "a"
        assert world.get(OF_ACCOUNT).json()["rows"][0]["value"] == "1"

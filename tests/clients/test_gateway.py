"""The one `up` that the tests of the clients share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from meterstream_services.catalogues import ready

if TYPE_CHECKING:
    from tests.clients.conftest import Gateway

pytestmark = pytest.mark.integration


def test_all_clients_catalogues_are_in_force(gateway: Gateway) -> None:
    """`up --clients all` runs with the meters of every client beside its own."""
    names = {meter["name"] for meter in gateway.get("/v1/meters")["meters"]}

    assert "own.calls" in names
    for client in ready():
        assert any(name.startswith(f"{client}.") for name in names) or client == "meter_lib"
    assert {"chat.on.time_hours", "page.processed.basic"} <= names

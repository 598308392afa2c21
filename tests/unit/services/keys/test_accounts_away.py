"""What a bound key still hears while accounts cannot be asked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from meterstream_services.accounts.errors import AccountsUnavailable
from meterstream_services.accounts.memory import MemoryDirectory
from tests.unit.services.keys.two_tenants import ALPHA, Service

if TYPE_CHECKING:
    from pathlib import Path


def test_a_tenants_own_watched_figures_need_no_accounts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are told; an account's are left out, and asked for by name they are for later."""
    service = Service(tmp_path)

    def away(*_: object, **__: object) -> Any:  # noqa: ANN401 - it never answers
        raise AccountsUnavailable("accounts are away")

    monkeypatch.setattr(MemoryDirectory, "tenants_of", away)
    told = service.send("read of alphaco", "GET", "/v1/thresholds")
    asked = service.send("read of alphaco", "GET", f"/v1/thresholds?who={ALPHA}-account")

    assert told.status_code == 200
    assert [figure["tenant"] for figure in told.json()["thresholds"]] == [ALPHA]
    assert asked.status_code == 503
    assert asked.headers["retry-after"] == "2"

"""Both ways of the door's offers: each by itself, and as columns also where they are few."""

from __future__ import annotations

import pytest

from meterstream_services.gateway import offering


@pytest.fixture(params=["few apart", "few as columns"])
def both_ways(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a door promises does not depend on how many offers come at once."""
    if request.param == "few as columns":
        monkeypatch.setattr(offering, "_MANY", 1)

"""The worker's command: what it leaves on the machine."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from meterstream_services.cli.main import main

if TYPE_CHECKING:
    from meterstream_consumers.settings import WorkerSettings

CATALOGUE = str(Path(__file__).parents[3] / "docs" / "examples" / "demo.yaml")
OTHER = "metering_since: 2026-01-01T00:00:00Z\nmeters: [{name: o, type: o, aggregate: count}]\n"


@pytest.mark.parametrize("files", [1, 2])
def test_no_directory_is_made_that_a_killed_worker_would_leave(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, files: int
) -> None:
    """One catalogue needs no place of its own, several need one while the worker runs."""
    for name in [name for name in os.environ if name.startswith("METERSTREAM_")]:
        monkeypatch.delenv(name)
    place = tmp_path / "temporary"
    place.mkdir()
    (tmp_path / "other.yaml").write_text(OTHER)
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    seen: list[int] = []

    def run(settings: WorkerSettings, _directory: object) -> int:
        assert settings.catalogue.exists()
        seen.append(len(list(place.iterdir())))
        return 0

    monkeypatch.setattr("meterstream_consumers.worker.run", run)
    catalogues = ["--catalogue", CATALOGUE, "--catalogue", str(tmp_path / "other.yaml")]
    store = ["--store", "postgresql://u@h/d", "--bootstrap", "h:1"]
    assert main(["worker", *store, *catalogues[: 2 * files]]) == 0

    assert seen == [files - 1]
    assert list(place.iterdir()) == []

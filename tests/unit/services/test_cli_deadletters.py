"""`meterstream deadletters`: filters, and what can be told without a broker."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from meterstream_services.cli.main import main
from tests.unit.services.api_stub import running_stub

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("URL", "DATA", "BOOTSTRAP_SERVERS", "STORE", "REGISTRY_URL"):
        monkeypatch.delenv(f"METERSTREAM_{name}", raising=False)


def test_filters_are_asked_for() -> None:
    """Every option of `list` becomes the parameter of its name."""
    options = {
        "producer": "p", "reason": "too_large", "since": "2026-03-01", "until": "2026-03-02",
        "tenant": "t", "type": "y", "partition": "0",
    }  # fmt: skip
    with running_stub() as api:
        api.answer("/v1/deadletters", {"deadletters": []})
        arguments = [part for name, value in options.items() for part in (f"--{name}", value)]
        assert main(["deadletters", "list", "--url", api.url, *arguments]) == 0

    assert dict(api.asked[0].parameters) == options | {"limit": "100"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["show", "1:2"], "'1:2' is no place; write PARTITION-OFFSET"),
        (["show", "1-2"], "no store is named"),
        (["replay"], "no store is named"),
        (["replay", "--reason", "bad_luck"], "is no reason; there are undecodable"),
        (["replay", "--since", "soon"], "--since: 'soon' is not an ISO 8601 time"),
    ],
)
def test_mistakes_are_told_in_a_sentence(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is wrong and what to write instead, with the status of wrong arguments."""
    assert main(["deadletters", *arguments]) == 2
    assert said in capsys.readouterr().err


def test_a_fix_that_is_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It is told before anything is opened."""
    where = ["--store", str(tmp_path / "none"), "--bootstrap", "127.0.0.1:1"]

    assert main(["deadletters", "replay", "--fix", "lane=3", *where]) == 2
    assert "'lane=3': lane: is none of the fields" in capsys.readouterr().err

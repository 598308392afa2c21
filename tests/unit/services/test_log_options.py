"""How processes are told to log, and where a webhook's secret comes from."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

from meterstream_consumers.errors import ConsumersError
from meterstream_services.cli.app import app
from meterstream_services.cli.log_options import VARIABLE, LogFormat, as_json, line
from meterstream_services.cli.thresholds import has_webhook
from tests.unit.kept_logging import kept_logging

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(autouse=True)
def _put_back() -> Iterator[None]:
    with kept_logging():
        yield


@pytest.mark.parametrize(
    ("chosen", "asked", "wanted"),
    [(LogFormat.TEXT, False, False), (LogFormat.JSON, False, True), (LogFormat.TEXT, True, True)],
)
def test_what_is_chosen_goes_on_to_children(
    monkeypatch: pytest.MonkeyPatch, chosen: LogFormat, asked: bool, wanted: bool
) -> None:
    """By option or by flag; the processes that this one starts inherit it."""
    monkeypatch.setenv(VARIABLE, "text")

    assert as_json(chosen, asked=asked) is wanted
    assert json.loads(line("stopping", process="up"))["process"] == "up" if wanted else True
    assert (line("stopping") == "meterstream: stopping") is not wanted


def test_a_sentence_of_several_lines_is_one_line_of_json() -> None:
    """With the fields that every line of a log has."""
    told = line("ready\n  API ...", level="error", environment={VARIABLE: "json"})

    assert "\n" not in told
    fields = json.loads(told)
    assert (fields["event"], fields["level"]) == ("ready\n  API ...", "error")
    assert fields["timestamp"].endswith("Z")


def test_an_unknown_format_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """At the command line and in the variable alike."""
    monkeypatch.setenv(VARIABLE, "xml")

    ended = CliRunner().invoke(app, ["serve", "--store", "s", "--accounts", "a"])

    assert ended.exit_code == 2
    assert "xml" in ended.output


def test_a_webhook_secret_may_lie_in_a_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Its content is used, and a file that cannot be read is named without any secret."""
    monkeypatch.delenv("METERSTREAM_WEBHOOK_SECRET", raising=False)
    monkeypatch.setenv(VARIABLE, "text")
    secret = tmp_path / "secret"
    secret.write_text("whsec_ not enough\n")
    arguments = ["notices", "--webhook", "https://example.com/", "--bootstrap", "127.0.0.1:1"]

    monkeypatch.setenv("METERSTREAM_WEBHOOK_SECRET_FILE", str(secret))
    wrong = CliRunner().invoke(app, arguments)
    monkeypatch.setenv("METERSTREAM_WEBHOOK_SECRET_FILE", str(tmp_path / "none"))
    missing = CliRunner().invoke(app, arguments)

    assert "is not whsec_ followed by" in str(wrong.exception)
    assert "cannot be read" in str(missing.exception)


def test_up_sends_notices_where_a_webhook_is_named() -> None:
    """Named and fit; not named; and refused at once where its secret could not sign."""
    secret = "whsec_" + base64.b64encode(bytes(32)).decode()
    url = {"METERSTREAM_WEBHOOK_URL": "https://example.com/notices"}

    assert has_webhook({}) is False
    assert has_webhook(url | {"METERSTREAM_WEBHOOK_SECRET": f"{secret} {secret}"}) is True
    with pytest.raises(ConsumersError, match="a webhook needs a secret"):
        has_webhook(url)
    with pytest.raises(ConsumersError, match="is no address for a webhook"):
        has_webhook({"METERSTREAM_WEBHOOK_URL": "example.com"})

"""Nonsense in options of `serve` and `keys create` is told: what is wrong, and what to write."""

from __future__ import annotations

import os
from dataclasses import fields
from typing import TYPE_CHECKING

import pytest

from meterstream_services.cli.main import main
from meterstream_services.http import app
from meterstream_services.http.front_limits import DEFAULTS, FrontLimits, parse_limits

if TYPE_CHECKING:
    from pathlib import Path

    from meterstream_services.http.settings import Settings

SERVE = ["serve", "--data", "d", "--bootstrap", "127.0.0.1:9"]
CREATE = ["keys", "create", "--scope", "read", "--data", "here"]
ONE = ["--tenant", "acme"]
NUMBERS = ["", "-1", "0", "nan", "inf", "1e999", "0x10", "1_0", "ü", "٣", " 5", "9" * 5000]


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith("METERSTREAM_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here").mkdir()
    monkeypatch.setattr(app, "run", _started)


def _started(settings: Settings) -> int:
    raise AssertionError(f"it would have been started with {settings}")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["serve", "--data", "."], "--data is empty or a dot"),
        (["serve", "--data", ""], "write the directory's whole path"),
        ([*SERVE, "--store", ""], "--store names nothing; write a path"),
        ([*SERVE, "--accounts", ""], "--accounts names nothing; write a path"),
        ([*SERVE, "--keys", ""], "--keys names nothing; write a path"),
        ([*SERVE, "--book", ""], "--book names nothing; write a path"),
        ([*SERVE, "--spool", ""], "--spool names no directory"),
        ([*SERVE, "--topic", ""], "write such as meterstream.events"),
        ([*SERVE, "--topic", "ü"], "--topic ü: Kafka takes 1 to 249 letters"),
        ([*SERVE, "--topic", ".."], "--topic ..: Kafka takes"),
        ([*SERVE, "--topic", "x" * 250], "Kafka takes 1 to 249"),
        ([*SERVE, "--registry-url", ""], "is no URL; write such as http://registry:8081"),
        ([*SERVE, "--registry-url", "1.5"], "--registry-url 1.5: is no URL"),
        ([*SERVE, "--registry-url", "http://[::"], "is no URL"),
        ([*SERVE, "--registry-url", "http://h:99999999999"], "is no URL"),
        ([*SERVE, "--registry-url", "file:///etc/passwd"], "is no URL"),
        ([*SERVE, "--known-host", ""], "is no name of a host"),
        ([*SERVE, "--known-host", "ü"], "xn--"),
        ([*SERVE, "--known-host", "gw:8080"], "without scheme and port"),
        ([*SERVE, "--known-host", "https://gw"], "without scheme and port"),
        ([*SERVE, "--spool-bytes-max", "1.5"], "--spool-bytes-max"),
        ([*SERVE, "--spool-bytes-max", "0"], "greater than or equal to 65536"),
        ([*SERVE, "--spool-bytes-max", "9" * 20], "less than or equal to"),
        ([*SERVE, "--patience", "nan"], "--patience"),
        ([*SERVE, "--http", f"h:{'9' * 5000}"], "write HOST:PORT such as 127.0.0.1:8080"),
        ([*SERVE, "--tls-key", ""], "belong together; pass both"),
        ([*CREATE, *ONE, "--expires", "0d"], "the key would expire before it is made"),
        ([*CREATE, *ONE, "--expires", "-1d"], "write a whole number and s, m, h or d"),
        ([*CREATE, *ONE, "--expires", "9999999d"], "with at most 6 digits"),
        (
            [*CREATE, *ONE, "--events-per-second", "9" * 20],
            "a rate or size is from 1 to 1000000000",
        ),
        ([*CREATE, *ONE, "--requests-per-second", "1.5"], "--requests-per-second"),
        ([*CREATE, *ONE, "--label", "a\nb"], "the label must be printable"),
        ([*CREATE, "--tenant", ""], "'' is no tenant: it must have 1 to"),
        ([*CREATE, "--tenant", "x" * 129], "is no tenant"),
        ([*CREATE, *ONE, "--keys", ""], "--keys names nothing"),
        ([*CREATE, *ONE, "--keys", "here"], "is a directory; name a file in it"),
        (["keys", "rotate", "AbCd1234", "--data", "here", "--overlap", ""], "such as 15m"),
    ],
)
def test_nonsense_is_told(
    capsys: pytest.CaptureFixture[str], arguments: list[str], sentence: str
) -> None:
    """One sentence, exit status 2, and nothing is started."""
    assert main(arguments) == 2

    said = "".join(capsys.readouterr())
    assert sentence in said
    assert "Traceback" not in said
    assert len(said) < 2_000


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--data", "nowhere"], "nowhere: there is no such directory for --keys; make it (mkdir)"),
        (["--data", "here", "--write", ""], "--write .: is there already"),
        (["--data", "here", "--write", "old"], "--write old: is there already, and is not written"),
    ],
)
def test_a_key_that_cannot_be_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], sentence: str
) -> None:
    """No directory is made for a misspelt name, no file is written over, and no key is left."""
    (tmp_path / "old").write_text("mine")

    assert main(["keys", "create", "--scope", "read", *ONE, *arguments]) == 1

    assert sentence in capsys.readouterr().err
    assert (tmp_path / "old").read_text() == "mine"
    assert not (tmp_path / "nowhere").exists()
    main(["keys", "list", "--data", "here", "--format", "json"])
    assert '"keys": []' in capsys.readouterr().out


@pytest.mark.parametrize("option", ["accounts", "keys", "book"])
def test_serve_makes_no_directory(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], option: str
) -> None:
    """A misspelt directory would be a service without its keys and accounts."""
    assert main(["serve", "--data", "here", f"--{option}", "nowhere/file"]) == 1

    said = capsys.readouterr().err
    assert f"nowhere: there is no such directory for --{option}; make it (mkdir)" in said
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize("name", [field.name for field in fields(FrontLimits)])
def test_every_limit_refuses_nonsense(name: str) -> None:
    """What is wrong is said, with the usual value as what to write."""
    usual = getattr(DEFAULTS, name)
    wrong = [*NUMBERS, "1.5", "1e9"] if isinstance(usual, int) else [*NUMBERS, "1e9"]

    for value in wrong:
        with pytest.raises(ValueError, match=f"{name}={usual:g}$") as told:
            parse_limits([f"{name}={value}"])
        assert len(str(told.value)) < 300
    assert getattr(parse_limits([f"{name}=7"]), name) == 7


def test_a_whole_number_is_asked_for() -> None:
    """1.5 is a number, but half a connection is none; half a second is one."""
    with pytest.raises(ValueError, match=r"connections_max=1.5: '1.5' is no whole number"):
        parse_limits(["connections_max=1.5"])
    assert parse_limits(["idle_seconds=1.5"]).idle_seconds == 1.5

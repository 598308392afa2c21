"""Whatever is wrong, the command line says it in one sentence and a fitting exit status."""

from __future__ import annotations

import errno
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from meterstream_aggregator.store.address import parse_address
from meterstream_services import directories, moving, up
from meterstream_services.cli.failures import sentence_and_status
from meterstream_services.cli.main import main
from meterstream_services.http import app
from meterstream_services.http.front_limits import FrontLimits
from meterstream_services.http.settings import Settings

CATALOGUE = str(Path(__file__).parents[3] / "docs" / "examples" / "demo.yaml")
IMPORT = ["import", "rows.csv", "--type", "t", "--tenant", "=a"]
TIMED = [*IMPORT, "--time", "at"]


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith("METERSTREAM_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rows.csv").write_text("at,n\n2026-01-01,1\n")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["frobnicate"], "No such command 'frobnicate'"),
        (["usage"], "Missing option"),
        (["usage", "--meter", "m", "--from", "a", "--to", "b", "--format", "xml"], "'xml' is not"),
        (["sessions", "--limit", "0"], "Invalid value for '--limit'"),
        (["accounts"], "Usage:"),
        (["accounts", "tenant", "x", "--history", "--at", "2026"], "leave out --at"),
        (["accounts", "set", "a", "--since", "2026"], "add --tenant"),
        (["accounts", "import", "rows.txt"], "name it .csv or .json"),
        (["import", "rows.csv", "--type", "t"], "Missing option '--tenant'"),
        (IMPORT, "--time is missing"),
        ([*IMPORT, "--session", "s"], "--session needs --start"),
        ([*TIMED, "--attribute", "x"], "--attribute x: write NAME=COLUMN"),
        ([*TIMED, "--zone", "Mars/Base"], "--zone Mars/Base: is not an IANA zone"),
        ([*TIMED, "--zone", "../etc/passwd"], "is not an IANA zone"),
        ([*TIMED, "--input", "xml"], "--input xml: write csv or jsonl"),
        ([*TIMED, "--delimiter", "ab"], "--delimiter ab: write one character"),
        ([*TIMED, "--quantity", "=1.5e"], "--quantity: '1.5e' is not a decimal number"),
        ([*TIMED, "--timeout", "0"], "Invalid value for '--timeout'"),
        (["up", "--catalogue", CATALOGUE], "--data is missing"),
        (["up", "--data", "d"], "--catalogue is missing: the meters' file, or --clients NAME"),
        (["up", "--data", "d", "--clients", "nobody"], "no client is called that; there are:"),
        (
            ["up", "--data", "d", "--clients", "agentmeter", "--limit", "idle=3"],
            "--limit idle=3: no limit is called 'idle'; there are: connections_max,",
        ),
        (["up", "--data", "d", "--catalogue", CATALOGUE, "--http", "80"], "write HOST:PORT"),
        (
            ["up", "--data", "d", "--catalogue", CATALOGUE, "--workers", "0"],
            "value for '--workers'",
        ),
        (["worker", "--bootstrap", "h:1", "--store", "s"], "--catalogue is missing"),
        (
            ["worker", "--bootstrap", "h:1", "--catalogue", CATALOGUE],
            "pass it or set METERSTREAM_STORE",
        ),
        (["serve", "--store", "s"], "--accounts is missing"),
        (["serve", "--data", "d", "--http", "host:port"], "write HOST:PORT"),
        (
            ["serve", "--data", "d", "--limit", "idle_seconds=soon"],
            "--limit idle_seconds=soon: 'soon' is no number of seconds; write idle_seconds=NUMBER",
        ),
        (["serve", "--data", "d", "--limit", "headers_max"], "write headers_max=NUMBER"),
        (["serve", "--data", "d", "--limit", "headers_max=0"], "must be above 0"),
    ],
)
def test_wrong_arguments(
    capsys: pytest.CaptureFixture[str], arguments: list[str], sentence: str
) -> None:
    """A wrong argument is named on stderr, with exit status 2."""
    assert main(arguments) == 2

    said = "".join(capsys.readouterr())
    assert sentence in said
    assert "Traceback" not in said


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([*TIMED, "--no-wait"], "no broker is named"),
        ([*TIMED, "--url", "http://127.0.0.1:1"], "or import with --no-wait. Nothing was sent"),
        ([*TIMED, "--data", "nowhere"], "nowhere does not exist, so it names no API"),
        (["topics", "check"], "no broker is named"),
        (["up", "--data", "d", "--catalogue", "none.yaml"], "there is no such catalogue file"),
        (
            ["up", "--data", "rows.csv", "--catalogue", CATALOGUE],
            "cannot be used as data directory",
        ),
        (["up", "--data", "/proc/d", "--catalogue", CATALOGUE], "cannot be used as data directory"),
        (
            ["up", "--data", "d", "--catalogue", CATALOGUE, "--http", "203.0.113.1:80"],
            "cannot listen on 203.0.113.1:80",
        ),
        (["accounts", "import", "missing.csv"], "missing.csv: No such file"),
    ],
)
def test_what_cannot_be_done(
    capsys: pytest.CaptureFixture[str], arguments: list[str], sentence: str
) -> None:
    """What fails is one sentence on stderr, with exit status 1."""
    assert main(arguments) == 1

    said = capsys.readouterr().err
    assert sentence in said
    assert said.count("\n") == 1
    assert said.startswith("meterstream: ")


def test_up_refuses_a_port_in_use(capsys: pytest.CaptureFixture[str]) -> None:
    """A taken port is refused before a broker is started."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"

        assert main(["up", "--data", "d", "--catalogue", CATALOGUE, "--http", address]) == 1

    assert "is in use; stop what listens there" in capsys.readouterr().err
    assert not Path("d/broker").exists()


def test_up_refuses_a_catalogue_with_a_mistake(capsys: pytest.CaptureFixture[str]) -> None:
    """File, line, field and remedy."""
    Path("meters.yaml").write_text("meters:\n  - name: a\n    aggregate: count\n    windw: 1h\n")

    assert main(["up", "--data", "d", "--catalogue", "meters.yaml"]) == 1

    said = capsys.readouterr().err
    assert "meters.yaml:4: meters.0.windw" in said
    assert "mend its spelling" in said


def test_up_refuses_a_directory_that_another_holds(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """The sentence names the directory and the process that holds it."""
    with directories.hold(tmp_path, print):
        assert main(["up", "--data", str(tmp_path), "--catalogue", CATALOGUE]) == 1

    assert f"another `meterstream up` (process {os.getpid()}) runs" in capsys.readouterr().err


def test_up_refuses_a_full_disk(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No space at all, and too little of it, are said before anything is started."""

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    arguments = ["up", "--data", "d", "--catalogue", CATALOGUE]
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        assert main(arguments) == 1
    usage = shutil.disk_usage(".")._replace(free=1_000_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    assert main(arguments) == 1

    said = capsys.readouterr().err
    assert "its disk is full; free some space" in said
    assert "only 1 MB are free on its disk" in said


def test_a_fault_of_ours_is_one_sentence_too(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An unforeseen error says how to see its traceback; then it is shown."""

    def broken(**_: object) -> None:
        raise ZeroDivisionError("boom")

    monkeypatch.setattr("meterstream_services.cli.status.find_url", broken)

    assert main(["status"]) == 1
    said = capsys.readouterr().err
    assert "a fault in meterstream itself" in said
    assert "METERSTREAM_DEBUG=1" in said

    monkeypatch.setenv("METERSTREAM_DEBUG", "1")
    with pytest.raises(ZeroDivisionError):
        main(["status"])


def test_a_full_disk_anywhere_is_said() -> None:
    """An error of the system names the file and, for a full disk, the way out."""
    problem = OSError(errno.ENOSPC, "No space left on device", "store.sqlite3")

    sentence, status = sentence_and_status(problem)

    assert sentence.startswith("store.sqlite3: the disk is full; free some space")
    assert status == 1


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["usage", "--help"], ["usage"]])
def test_help_waits_for_no_heavy_module(arguments: list[str]) -> None:
    """Help, version and usage errors import nothing that they do not need."""
    heavy = {"rich", "httpx", "confluent_kafka", "fastapi", "pyarrow", "yaml", "psutil", "numpy"}
    code = (
        "import sys\n"
        "from meterstream_services.cli.main import main\n"
        f"main({arguments!r})\n"
        "print(*sorted({name.partition('.')[0] for name in sys.modules}), file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )

    assert heavy.isdisjoint(done.stderr.splitlines()[-1].split())


def test_a_drained_topic_may_have_a_store_on_postgresql(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its URL reaches the proof as a database's address and not as a path."""
    asked: list[tuple[object, ...]] = []

    def nothing_in_the_way(*given: object) -> list[moving.Hindrance]:
        asked.append(given)
        return []

    monkeypatch.setattr(moving, "hindrances", nothing_in_the_way)
    url = "postgresql://owner@db/metering?schema=old"

    assert main(["topics", "drained", "--bootstrap", "b:1", "--topic", "t", "--store", url]) == 0
    assert asked == [("b:1", "t", parse_address(url))]
    assert "topic t is drained" in capsys.readouterr().out


def test_ready_catalogues_may_be_all_that_up_is_given(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """`up --clients NAME` needs no catalogue beside it, and limits go on as they were written."""
    started: list[up.UpSettings] = []

    def note(settings: up.UpSettings, **_: object) -> int:
        started.append(settings)
        return 0

    monkeypatch.setattr(up, "run_up", note)
    limits = ["--limit", "idle_seconds=30", "--limit", "headers_max=50"]

    assert main(["up", "--data", str(tmp_path), "--clients", "agentmeter", *limits]) == 0
    monkeypatch.setenv("METERSTREAM_LIMITS", "idle_seconds=5 connections_max=9")
    assert main(["up", "--data", str(tmp_path), "--clients", "all"]) == 0

    alone, every = started
    assert not alone.catalogues
    assert [path.stem for path in alone.clients] == ["agentmeter"]
    assert list(alone.limits) == ["idle_seconds=30", "headers_max=50"]
    assert len(every.clients) == 5
    assert list(every.limits) == ["idle_seconds=5", "connections_max=9"]


def test_serve_takes_the_limits(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """`--limit` changes what it names, and nothing else."""
    started: list[Settings] = []

    def note(settings: Settings) -> int:
        started.append(settings)
        return 0

    monkeypatch.setattr(app, "run", note)

    assert main(["serve", "--data", str(tmp_path), "--limit", "idle_seconds=30"]) == 0

    assert [settings.limits for settings in started] == [FrontLimits(idle_seconds=30.0)]

"""Commands that prove figures: what they ask, what they print, and their exit status."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from meterstream_aggregator.store.sqlite import SqliteStore
from meterstream_services.cli.main import main
from tests.unit.services.api_stub import Stub, running_stub

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TOTALS = {
    "producers": 2, "seen": 16, "counted": 15, "duplicates": 2, "refused": 1, "conflicts": 1,
    "missing_numbers": 3, "with_missing": 1, "silent": 0,
}  # fmt: skip
PRODUCER = {
    "producer": "p\x1b1",
    "seen": 15,
    "counted": 14,
    "duplicates": 2,
    "refused": 1,
    "conflicts": 1,
    "missing_numbers": 3,
    "missing": [
        {"lane": 4, "from": 3, "to": 4, "since": "2026-03-01T00:00:00+00:00"},
        {"lane": 5, "from": 9, "to": 9, "since": "2026-03-02T00:00:00+00:00"},
    ],
    "lanes": [{"lane": 4, "highest": 7, "missing_numbers": 2}],
    "closed": False,
    "last_append": "2026-03-03T00:00:00+00:00",
    "silent_since": None,
}
RECONCILED = {"producers": [PRODUCER], "totals": TOTALS, "next": "bmV4dA"}
NOTHING: dict[str, Any] = {"count": 0, "hash": "00", "first": []}
WINDOW = {"start": "2026-03-01T10:00:00+00:00", "group": ["eu"], "events": 2, "amount": "1500"}
EXPLAINED = {
    "tenant": "acme", "meter": "m", "unit": "token", "from": "a", "to": "b",
    "group": {"region": ["eu"]}, "value": "1500", "closing": "1500", "adjustment": "0", "events": 2,
    "average": None, "running": None, "status": "final", "final_at": "c",
    "definitions": [
        {"version": "v1", "aggregate": "sum", "type": "x", "value": "quantity", "since": "d",
         "until": None},
    ],
    "windows": {"count": 1, "hash": "11", "first": [WINDOW]},
    "adjustments": NOTHING, "items": NOTHING, "sessions": NOTHING,
    "figure_hash": "f" * 32,
    "log": {
        "topic": "t", "topic_id": "id", "lane": 17, "partitions": [1],
        "catalogues": [{"partition": 1, "from_offset": 0, "version": "c1"}],
        "places": NOTHING,
        "ranges": {"count": 1, "hash": "22", "first": [{"partition": 1, "first": 7, "last": 90}]},
    },
    "producers": NOTHING | {"segments_left_out": 0}, "keys": NOTHING, "hash": "e" * 32,
}  # fmt: skip
SPAN = ["--tenant", "acme", "--meter", "m", "--from", "2026-03-01", "--to", "2026-03-02"]


@pytest.fixture
def api() -> Iterator[Stub]:
    """An API that answers what a test says."""
    with running_stub() as stub:
        stub.answer("/v1/reconcile", RECONCILED)
        stub.answer("/v1/explain", EXPLAINED)
        yield stub


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("URL", "DATA", "STORE", "BOOTSTRAP_SERVERS", "CATALOGUE"):
        monkeypatch.delenv(f"METERSTREAM_{name}", raising=False)


def test_reconcile_names_what_is_missing(api: Stub, capsys: pytest.CaptureFixture[str]) -> None:
    """Producer, lane and numbers, since when; totals; and how to go on."""
    assert main(["reconcile", "--url", api.url, "--producer", "p1", "--missing"]) == 0

    assert {("producer", "p1"), ("missing", "true")} <= set(api.asked[0].parameters)
    out = capsys.readouterr().out
    assert "missing: producer p\\x1b1, lane 4, numbers 3 to 4, since 2026-03-01" in out
    assert "lane 5, number 9, since 2026-03-02" in out
    assert "2 producers: 16 numbers seen, 15 counted" in out
    assert "3 missing of 1 producer, " in out
    assert "--after bmV4dA" in out


def _told(entry: dict[str, Any], **changed: object) -> dict[str, Any]:
    return PRODUCER | {"missing": [], "lanes": None} | entry | changed


def test_who_has_not_closed_is_told_at_once(api: Stub, capsys: pytest.CaptureFixture[str]) -> None:
    """With since when they are silent; what they lost last has no number that anybody knows."""
    closed = _told({"producer": "a", "closed": True})
    first = _told({"producer": "b"}, last_append="2026-03-03T00:00:00+00:00")
    second = _told({"producer": "c"}, last_append="2026-03-02T00:00:00+00:00")
    said = {
        "none": [closed],
        "1 producer has not closed, silent since 2026-03-03T00:00:00+00:00: ": [closed, first],
        "2 producers have not closed, silent since 2026-03-02T00:00:00+00:00 at the longest: ": [
            first,
            second,
        ],
    }
    for words, producers in said.items():
        totals = TOTALS | {"producers": len(producers)}
        api.answer("/v1/reconcile", {"producers": producers, "totals": totals, "next": None})

        assert main(["reconcile", "--url", api.url]) == 0

        out = capsys.readouterr().out
        assert (words in out) is (words != "none")
        assert ("not known by number" in out) is (words != "none")
        assert f"{len(producers)} producer{'' if len(producers) == 1 else 's'}: " in out


def test_who_has_not_closed_is_of_those_shown(
    api: Stub, capsys: pytest.CaptureFixture[str]
) -> None:
    """A page, or those with missing numbers, are not all."""
    assert main(["reconcile", "--url", api.url, "--missing"]) == 0

    assert "1 producer of these has not closed, silent since" in capsys.readouterr().out


@pytest.mark.parametrize(("missing", "status"), [(0, 0), (3, 1)])
def test_strict_fails_when_anything_is_missing(api: Stub, missing: int, status: int) -> None:
    """By the totals, whatever page is shown."""
    totals = TOTALS | {"missing_numbers": missing}
    api.answer("/v1/reconcile", {"producers": [], "totals": totals, "next": None})

    assert main(["reconcile", "--url", api.url, "--strict", "--format", "json"]) == status
    assert main(["reconcile", "--url", api.url]) == 0


def test_explain_tells_a_figure(api: Stub, capsys: pytest.CaptureFixture[str]) -> None:
    """The figure, its rules, its rows and both hashes; JSON is the API's own answer."""
    assert main(["explain", "--url", api.url, *SPAN, "--group", "region=eu"]) == 0

    assert ("group", "region=eu") in api.asked[0].parameters
    out = capsys.readouterr().out
    for words in ("1500", "c1 from offset 0 of partition 1", "v1: sum of x", "f" * 32, "e" * 32):
        assert words in out
    assert main(["explain", "--url", api.url, *SPAN, "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out) == EXPLAINED


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["explain", *SPAN, "--events"], "--events reads the store itself"),
        (["verify", "--bootstrap", "127.0.0.1:1"], "or set METERSTREAM_STORE"),
        (["rebuild", "--into", "x", "--bootstrap", "127.0.0.1:1"], "neither a store nor"),
    ],
)
def test_what_is_not_named_is_asked_for(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """One sentence that says which option is missing, and status 2."""
    assert main(arguments) == 2

    assert words in capsys.readouterr().err


def test_a_store_without_history_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """No file there, and a file that no worker has bound: one sentence each, before any broker."""
    store = tmp_path / "store.sqlite3"
    verify = ["verify", "--store", str(store), "--bootstrap", "127.0.0.1:1"]

    assert main(verify) == 1
    assert "there is no store there" in capsys.readouterr().err
    SqliteStore(store).close()
    assert main(verify) == 1
    assert "belongs to no topic yet" in capsys.readouterr().err


VERIFY = """
import os, signal, sys, time
from meterstream_services import proving
from meterstream_services.cli.main import main
def verify(live, log, scratch, *, told):
    (scratch / "live.sqlite3").write_text("a copy of the store")
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(60)
proving.verify = verify
sys.exit(main(["verify", "--store", "s", "--bootstrap", "h:1"]))
"""


def test_a_proof_that_is_told_to_end_leaves_no_copies_of_the_store(tmp_path: Path) -> None:
    """SIGTERM, as a scheduler sends it, ends the command and its directory."""
    ended = subprocess.run(
        [sys.executable, "-c", VERIFY],
        env={**os.environ, "TMPDIR": str(tmp_path)},
        capture_output=True,
        check=False,
    )
    assert ended.returncode == 128 + signal.SIGTERM
    assert list(tmp_path.iterdir()) == []

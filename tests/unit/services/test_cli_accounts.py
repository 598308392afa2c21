"""`meterstream accounts` against an API: moves, merges, ids, changes, long files."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from meterstream_services.cli import account_import
from meterstream_services.cli.main import main
from tests.unit.services.api_stub import Answer, Stub, running_stub

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MOVED = {
    "dry_run": True,
    "accounts_changed": 0,
    "tenants_changed": 1,
    "unchanged": 0,
    "changes": [
        {
            "kind": "tenant",
            "id": "acme",
            "was": [],
            "now": [{"account": "b2", "from": "2026-03-01T00:00:00+00:00", "to": None}],
        }
    ],
}


@pytest.fixture
def api() -> Iterator[Stub]:
    """An API that answers what a test says."""
    with running_stub() as stub:
        yield stub


def test_a_move_says_what_it_would_change(api: Stub, capsys: pytest.CaptureFixture[str]) -> None:
    """The command sends all it was told, and shows each change as it was and would be."""
    api.answers["POST", "/v1/accounts:move"] = Answer(MOVED)
    words = ["acme", "x", "--to", "b2", "--source", "a1", "--from", "2026-03-01", "--dry-run"]

    assert main(["accounts", "move", *words, "--url", api.url]) == 0

    assert api.asked[0].parameters == [("dry_run", "true")]
    assert json.loads(api.asked[0].body) == {
        "tenants": ["acme", "x"],
        "account": "b2",
        "source": "a1",
        "from": "2026-03-01",
    }
    printed = capsys.readouterr().out
    assert "b2 from 2026-03-01T00:00:00+00:00" in printed
    assert printed.endswith("would change: 1\n")


def test_merges_are_made_and_undone(api: Stub, capsys: pytest.CaptureFixture[str]) -> None:
    """Each command is one request, and its JSON is the answer as it came."""
    api.answers["POST", "/v1/accounts:merge"] = Answer(MOVED)
    api.answers["POST", "/v1/accounts:unmerge"] = Answer(MOVED)
    merge = ["merge", "b2", "--into", "a1", "--from", "2026-03-01", "--format", "json"]

    assert main(["accounts", *merge, "--url", api.url]) == 0
    assert main(["accounts", "unmerge", "b2", "--url", api.url, "--format", "csv"]) == 0

    assert [json.loads(asked.body) for asked in api.asked] == [
        {"account": "b2", "into": "a1", "from": "2026-03-01"},
        {"account": "b2"},
    ]
    assert "kind,id,was,now" in capsys.readouterr().out


def test_external_ids_are_given_and_taken(api: Stub, capsys: pytest.CaptureFixture[str]) -> None:
    """Ids of any shape reach their place, and what stands is listed."""
    path = "/v1/accounts/a1/external-ids"
    listed = {"account": "a1", "external_ids": [{"system": "crm", "id": "x/1"}]}
    api.answer(path, listed)
    api.answers["PUT", f"{path}/crm/x/1"] = Answer(listed)
    api.answers["DELETE", f"{path}/crm/old=1"] = Answer(listed)
    options = ["--add", "crm=x/1", "--remove", "crm=old=1", "--format", "csv"]

    assert main(["accounts", "external-id", "a1", *options, "--url", api.url]) == 0
    assert main(["accounts", "external-id", "a1", "--add", "crm", "--url", api.url]) == 2

    assert [asked.method for asked in api.asked] == ["DELETE", "PUT", "GET"]
    assert "crm,x/1" in capsys.readouterr().out


def test_changes_are_listed(api: Stub, capsys: pytest.CaptureFixture[str]) -> None:
    """Each change is a row, and whether there are more is told."""
    change = {
        "sequence": 7,
        "time": "2026-03-01T00:00:00+00:00",
        "kind": "account",
        "id": "a1",
        "was": None,
        "now": {"id": "a1", "name": "Acme", "labels": {}},
    }
    api.answer("/v1/accounts:changes", {"changes": [change], "next": 7, "last": 9})

    assert main(["accounts", "changes", "--after", "6", "--url", api.url]) == 0

    printed = capsys.readouterr().out
    assert '{"name": "Acme"}' in printed
    assert printed.endswith("there are more: --after 7\n")


def test_an_export_is_written_as_it_came(api: Stub, tmp_path: Path) -> None:
    """The file has what the API sent."""
    api.answer("/v1/accounts:export", {"account": "a1"})

    assert main(["accounts", "export", str(tmp_path / "all.ndjson"), "--url", api.url]) == 0

    assert json.loads((tmp_path / "all.ndjson").read_text()) == {"account": "a1"}


@pytest.mark.parametrize("name", ["all.csv", "all.ndjson"])
def test_a_long_file_goes_in_pieces(
    api: Stub,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
) -> None:
    """Each piece is a file of its own, no row is lost, and the sums are told."""
    monkeypatch.setattr(account_import, "ROWS_AT_ONCE", 2)
    tenants = ["x", "y\ny", "z", "ü", "last"]
    rows = {
        "all.csv": "account,tenant\n" + "".join(f'a,"{tenant}"\n' for tenant in tenants),
        "all.ndjson": "".join(json.dumps({"tenant": tenant}) + "\n\n" for tenant in tenants),
    }
    (tmp_path / name).write_text(rows[name])
    api.answers["POST", "/v1/accounts:import"] = Answer({"rows": 2, "unchanged": 1})

    assert main(["accounts", "import", str(tmp_path / name), "--url", api.url]) == 0

    bodies = [asked.body.decode() for asked in api.asked]
    assert len(bodies) == 3
    if name == "all.csv":
        assert all(body.startswith("account,tenant\n") for body in bodies)
        assert bodies[2] == "account,tenant\na,last\n"
    else:
        told = [json.loads(line)["tenant"] for body in bodies for line in body.splitlines()]
        assert told == tenants
    assert "6" in capsys.readouterr().out


def test_a_refused_piece_says_what_is_in(
    api: Stub,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Rows are numbered as in the file, and whoever mends it knows what was imported."""
    monkeypatch.setattr(account_import, "ROWS_AT_ONCE", 2)
    path = tmp_path / "all.csv"
    path.write_text("account\na\nb\nc\n")
    error = {"row": 1, "field": "zone", "value": "Mars", "reason": "is no zone"}
    original = account_import._send

    def send(api_: object, content: bytes, kind: str, *, dry_run: bool) -> dict[str, object]:
        if b"c\n" in content:
            body = {"title": "No", "detail": "nothing was imported", "errors": [error]}
            api.answers["POST", "/v1/accounts:import"] = Answer(body, 422)
        return original(api_, content, kind, dry_run=dry_run)

    api.answers["POST", "/v1/accounts:import"] = Answer({"rows": 2})
    monkeypatch.setattr(account_import, "_send", send)

    assert main(["accounts", "import", str(path), "--url", api.url]) == 1

    printed = capsys.readouterr()
    assert ["3", "zone", "Mars", "is", "no", "zone"] in map(str.split, printed.out.splitlines())
    assert "the 2 rows before are imported" in printed.err

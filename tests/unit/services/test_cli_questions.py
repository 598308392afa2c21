"""Commands that ask the API: what they ask, and what they make of the answer."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from meterstream_services.cli.main import main
from tests.unit.services.api_stub import Answer, Stub, running_stub

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SPAN = ["--from", "2026-01-01", "--to", "2026-02-01"]
ROW = {
    "from": "2026-01-01T00:00:00+00:00",
    "to": "2026-02-01T00:00:00+00:00",
    "tenant": "=acme",
    "account": None,
    "group": {"model": "small"},
    "value": "-1234.5",
    "events": 3,
    "closing": "-1234.5",
    "adjustment": "0",
    "status": "final",
}
USAGE = {"meter": "m", "unit": "token", "every": "total", "zone": "UTC", "rows": [ROW]}


@pytest.fixture
def api() -> Iterator[Stub]:
    """An API that answers what a test says."""
    with running_stub() as stub:
        yield stub


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("METERSTREAM_URL", "METERSTREAM_DATA", "METERSTREAM_BOOTSTRAP_SERVERS"):
        monkeypatch.delenv(name, raising=False)


def test_usage_asks_for_all_it_was_told(api: Stub) -> None:
    """Every option becomes a parameter; repeatable ones repeat."""
    api.answer("/v1/usage", USAGE)
    options = ["--every", "1d", "--zone", "Europe/Berlin", "--tenant", "a", "--tenant", "b"]
    options += ["--by", "model", "--where", "env=prod", "--where", "env=test", "--total"]

    assert main(["usage", "--url", api.url, "--meter", "m", *SPAN, *options]) == 0

    assert sorted(api.asked[0].parameters) == [
        ("by", "model"),
        ("every", "1d"),
        ("from", "2026-01-01"),
        ("meter", "m"),
        ("tenant", "a"),
        ("tenant", "b"),
        ("to", "2026-02-01"),
        ("total", "true"),
        ("where", "env=prod"),
        ("where", "env=test"),
        ("zone", "Europe/Berlin"),
    ]


def test_json_of_usage_is_the_answer_byte_for_byte(
    api: Stub, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    """Nothing is parsed and written again on the way."""
    answer = b'{"rows":[ ],  "value":"1.50"}'
    api.answer("/v1/usage", answer)

    assert main(["usage", "--url", api.url, "--meter", "m", *SPAN, "--format", "json"]) == 0

    assert capsysbinary.readouterr().out == answer + b"\n"


def test_csv_of_usage(api: Stub, capsys: pytest.CaptureFixture[str]) -> None:
    """Groups are columns; texts cannot be formulas, negative figures stay numbers."""
    api.answer("/v1/usage", USAGE)
    options = ["--by", "model", "--format", "csv"]

    assert main(["usage", "--url", api.url, "--meter", "m", *SPAN, *options]) == 0

    header, line = capsys.readouterr().out.splitlines()
    assert header == "from,to,tenant,account,model,value,events,closing,adjustment,status"
    assert line == (
        "2026-01-01T00:00:00+00:00,2026-02-01T00:00:00+00:00,'=acme,,small,"
        "-1234.5,3,-1234.5,0,final"
    )


def test_table_and_plot_of_usage(api: Stub, capsys: pytest.CaptureFixture[str]) -> None:
    """People see grouped figures; columns that say nothing are left out."""
    api.answer("/v1/usage", USAGE)

    assert main(["usage", "--url", api.url, "--meter", "m", *SPAN, "--by", "model"]) == 0
    assert main(["usage", "--url", api.url, "--meter", "m", *SPAN, "--plot"]) == 0

    printed = capsys.readouterr().out
    assert "-1,234.5" in printed
    assert "account" not in printed
    assert "adjustment" not in printed
    assert "=acme model=small" in printed


def test_an_adjustment_is_shown(api: Stub, capsys: pytest.CaptureFixture[str]) -> None:
    """Closing figure and adjustment appear as soon as one row has an adjustment."""
    api.answer("/v1/usage", USAGE | {"rows": [ROW | {"closing": "-1200", "adjustment": "-34.5"}]})

    assert main(["usage", "--url", api.url, "--meter", "m", *SPAN]) == 0

    printed = capsys.readouterr().out
    assert "-1,200" in printed
    assert "-34.5" in printed


@pytest.mark.parametrize(("status", "exit_status"), [(422, 2), (404, 1), (503, 1)])
def test_a_problem_is_one_sentence(
    api: Stub, capsys: pytest.CaptureFixture[str], status: int, exit_status: int
) -> None:
    """The API's own sentence on stderr; a wrong argument is exit status 2."""
    api.problem("/v1/usage", status, "from: 'x' is not a time")

    assert main(["usage", "--url", api.url, "--meter", "m", *SPAN]) == exit_status

    printed = capsys.readouterr()
    assert printed.err == "meterstream: from: 'x' is not a time\n"
    assert not printed.out


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "ftp://127.0.0.1", "127.0.0.1:8080", "::"])
def test_no_api_there_is_one_sentence(capsys: pytest.CaptureFixture[str], url: str) -> None:
    """Nobody listening, and what is no address at all, say what to name."""
    assert main(["status", "--url", url]) == 1

    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "--url" in said or "write http://HOST:PORT" in said


def test_something_else_than_our_api_is_said(api: Stub, capsys: pytest.CaptureFixture[str]) -> None:
    """A page of another server is not taken for an answer."""
    api.answer("/v1/status", b"<html>404</html>", status=404)

    assert main(["status", "--url", api.url]) == 1

    assert "is this a meterstream API?" in capsys.readouterr().err


def test_sessions_as_table_csv_and_json(api: Stub, capsys: pytest.CaptureFixture[str]) -> None:
    """The same sessions in three forms, and where to go on."""
    session = {
        "tenant": "acme",
        "type": "agent.run",
        "session": "-7",
        "subject": None,
        "state": "open",
        "start": "2026-01-01T00:00:00+00:00",
        "end": None,
        "seconds": "90.5",
        "at_stake": "90.5",
        "conflicts": 0,
    }
    answer = {"sessions": [session], "at_stake": "90.5", "next": "abc"}
    api.answer("/v1/sessions", answer)

    for form in ("table", "csv", "json"):
        assert main(["sessions", "--url", api.url, "--state", "open", "--format", form]) == 0

    printed = capsys.readouterr().out
    assert "1 session, 90.5 seconds at stake" in printed
    assert "there are more: --after abc" in printed
    assert "acme,agent.run,'-7,,open,2026-01-01T00:00:00+00:00,,90.5,90.5,0" in printed
    assert ("state", "open") in api.asked[0].parameters
    assert json.loads(printed.splitlines()[-1])["next"] == "abc"


@pytest.mark.parametrize(
    ("flag", "state"),
    [
        ("--open", "open"),
        ("--timed-out", "timed_out"),
        ("--conflicting", "conflicting"),
        ("--unstarted", "unstarted"),
    ],
)
def test_sessions_by_state(api: Stub, flag: str, state: str) -> None:
    """Each state has a flag; two of them at once exclude each other."""
    api.answer("/v1/sessions", {"sessions": [], "at_stake": "0", "next": None})

    assert main(["sessions", "--url", api.url, flag]) == 0
    assert main(["sessions", "--url", api.url, flag, "--state", "closed"]) == 2

    assert [dict(asked.parameters)["state"] for asked in api.asked] == [state]


def test_status_shows_facts_and_partitions(api: Stub, capsys: pytest.CaptureFixture[str]) -> None:
    """Nested facts are flattened; partitions are rows, in CSV alone."""
    partitions = [{"partition": 0, "owner": "worker-1", "counted": 5}]
    api.answer("/v1/status", {"now": "t", "topic": {"topic": "e"}, "partitions": partitions})

    assert main(["status", "--url", api.url]) == 0
    table = capsys.readouterr().out
    assert main(["status", "--url", api.url, "--format", "csv"]) == 0

    assert "topic.topic" in table
    assert capsys.readouterr().out == "partition,owner,counted\n0,worker-1,5\n"


def test_dead_letters_are_listed(api: Stub, capsys: pytest.CaptureFixture[str]) -> None:
    """Hostile details cannot control the terminal; an empty list says so."""
    letter = {"partition": 0, "offset": 1, "reason": "undecodable", "detail": "\x1b[31mboo"}
    api.answer("/v1/deadletters", {"deadletters": [letter]})
    assert main(["deadletters", "list", "--url", api.url, "--reason", "undecodable"]) == 0
    api.answer("/v1/deadletters", {"deadletters": []})
    assert main(["deadletters", "list", "--url", api.url]) == 0

    printed = capsys.readouterr().out
    assert "\x1b" not in printed
    assert r"\x1b[31mboo" in printed
    assert printed.endswith("no dead letters\n")
    assert api.asked[0].parameters == [("limit", "100"), ("reason", "undecodable")]


ACCOUNT: dict[str, Any] = {
    "id": "a/1",
    "name": "Acme",
    "zone": "UTC",
    "billing_anchor": 1,
    "labels": {"plan": "pro", "tier": "1"},
    "status": "active",
}


def test_setting_an_account_keeps_what_was_not_named(api: Stub) -> None:
    """The account is read, changed and written back only if nobody changed it meanwhile."""
    api.answer("/v1/accounts/a/1", ACCOUNT, etag='"t1"')
    api.answers["PUT", "/v1/accounts/a/1"] = Answer(ACCOUNT)
    api.answers["PUT", "/v1/tenants/x y/account"] = Answer({})
    options = ["--zone", "Europe/Berlin", "--label", "plan=basic", "--label", "tier="]
    options += ["--tenant", "x y", "--since", "2026-01-01"]

    assert main(["accounts", "set", "a/1", "--url", api.url, *options]) == 0

    _, written, mapped = api.asked
    assert written.headers["if-match"] == '"t1"'
    assert json.loads(written.body) == {
        "name": "Acme",
        "zone": "Europe/Berlin",
        "billing_anchor": 1,
        "labels": {"plan": "basic"},
        "status": "active",
    }
    assert json.loads(mapped.body) == {"account": "a/1", "from": "2026-01-01"}


def test_setting_an_account_that_is_not_there_makes_it(api: Stub) -> None:
    """A new account is made only if still nobody else has."""
    api.answers["PUT", "/v1/accounts/new"] = Answer(ACCOUNT)

    assert main(["accounts", "set", "new", "--url", api.url, "--name", "New"]) == 0

    assert api.asked[1].headers["if-none-match"] == "*"
    assert json.loads(api.asked[1].body) == {"name": "New", "labels": {}}


def test_accounts_are_listed_and_shown(api: Stub, capsys: pytest.CaptureFixture[str]) -> None:
    """One row per account; one account with its tenants."""
    api.answer("/v1/accounts", {"accounts": [ACCOUNT], "next": None})
    api.answer("/v1/accounts/a/1", ACCOUNT)
    api.answer("/v1/accounts/a/1/tenants", {"account": "a/1", "tenants": ["x", "y"]})

    assert main(["accounts", "list", "--url", api.url, "--format", "csv"]) == 0
    assert main(["accounts", "show", "a/1", "--url", api.url]) == 0

    printed = capsys.readouterr().out
    assert "a/1,Acme,UTC,1,plan=pro tier=1,active" in printed
    assert printed.endswith("tenants: x, y\n")


def test_an_import_of_accounts_sends_the_file(
    api: Stub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The file goes as it is, with its kind; what it came to is printed."""
    path = tmp_path / "accounts.csv"
    path.write_text("account,tenant\na,x\n")
    api.answers["POST", "/v1/accounts:import"] = Answer({"rows": 1, "dry_run": True})

    assert main(["accounts", "import", str(path), "--dry-run", "--url", api.url]) == 0

    assert api.asked[0].body == path.read_bytes()
    assert api.asked[0].headers["content-type"] == "text/csv"
    assert api.asked[0].parameters == [("dry_run", "true")]
    assert "yes" in capsys.readouterr().out


def test_bad_rows_of_an_import_of_accounts_are_listed(
    api: Stub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Row, field, value and reason of each, and one sentence."""
    path = tmp_path / "accounts.json"
    path.write_text("[]")
    errors = [{"row": 2, "field": "zone", "value": "Mars", "reason": "is no zone"}]
    body = {"detail": "nothing was imported: row 2, zone", "errors": errors}
    api.answers["POST", "/v1/accounts:import"] = Answer(body, 422)

    assert main(["accounts", "import", str(path), "--url", api.url]) == 1

    printed = capsys.readouterr()
    assert "Mars" in printed.out
    assert "accounts.json: nothing was imported" in printed.err


def test_the_account_of_a_tenant(api: Stub, capsys: pytest.CaptureFixture[str]) -> None:
    """At an instant, and all of them one after the other."""
    now = {"tenant": "x/y", "account": ACCOUNT, "from": None, "to": None}
    spells = [{"account": "a/1", "from": None, "to": "2026-01-01T00:00:00+00:00"}]
    api.answer("/v1/tenants/x/y/account", now)
    api.answer("/v1/tenants/x/y/account/history", {"tenant": "x/y", "history": spells})
    arguments = ["accounts", "tenant", "x/y", "--url", api.url, "--format", "csv"]

    assert main([*arguments, "--at", "2025-01-01"]) == 0
    assert main([*arguments, "--history"]) == 0

    lines = capsys.readouterr().out.splitlines()
    assert lines[1] == "x/y,a/1,,"
    assert lines[3] == "x/y,a/1,,2026-01-01T00:00:00+00:00"
    assert api.asked[0].parameters == [("at", "2025-01-01")]


def test_check_reports_every_part(
    api: Stub,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A failing part does not hide the others, secrets are masked, and the exit status says it."""
    api.answer("/v1/meters", {"meters": [{"name": "m1"}]})
    monkeypatch.setenv("METERSTREAM_API_KEY", "hush")
    monkeypatch.setenv("METERSTREAM_REGISTRY_URL", "http://user:hush@registry:1")
    catalogue = tmp_path / "meters.yaml"
    catalogue.write_text("meters:\n  - name: a\n    aggregate: sums\n")

    assert main(["check", "--url", api.url, "--catalogue", str(catalogue), "--format", "json"]) == 1

    printed = capsys.readouterr().out
    checks = {check["what"]: check for check in json.loads(printed)["checks"]}
    assert "hush" not in printed
    assert "http://***@registry:1" in printed
    assert checks["API"]["result"] == "ok"
    assert checks["broker"]["result"] == "FAILED"
    assert "no broker is named" in checks["broker"]["detail"]
    assert "meters.yaml:3: meters.0.aggregate" in checks["catalogue"]["detail"]

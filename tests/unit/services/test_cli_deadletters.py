"""`meterstream deadletters`: filters, and what can be told without a broker."""

from __future__ import annotations

import json
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


def letters(number: int, event_type: str, reason: str = "unknown_type") -> list[dict[str, object]]:
    """So many of one type."""
    return [
        {"partition": 0, "offset": offset, "reason": reason, "type": event_type}
        for offset in range(number)
    ]


def test_a_long_list_begins_with_a_summary(capsys: pytest.CaptureFixture[str]) -> None:
    """By reason and type, the most first; a short one, CSV and JSON have none."""
    many = [*letters(3, "a"), *letters(30, "b"), *letters(2, "b", "too_large")]
    with running_stub() as api:
        command = ["deadletters", "list", "--url", api.url]
        api.answer("/v1/deadletters", {"deadletters": many})
        assert main(command) == 0
        summary, listed = capsys.readouterr().out.split("partition", 1)
        assert main([*command, "--limit", "35"]) == 0
        assert "the newest 35 dead letters" in capsys.readouterr().out
        assert main([*command, "--format", "json"]) == 0
        assert json.loads(capsys.readouterr().out) == {"deadletters": many}
        assert main([*command, "--format", "csv"]) == 0
        assert len(capsys.readouterr().out.splitlines()) == 36
        api.answer("/v1/deadletters", {"deadletters": many[:20]})
        assert main(command) == 0
        assert "dead letters" not in capsys.readouterr().out

    rows = [line.split() for line in summary.splitlines() if line.strip()]
    assert rows[0] == ["35", "dead", "letters"]
    assert rows[-3:] == [["unknown_type", "b", "30"], ["unknown_type", "a", "3"],
                         ["too_large", "b", "2"]]  # fmt: skip
    assert len(listed.splitlines()) > 35


def test_events_that_no_meter_reads_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    """By `status` and `check`: HTTP answers, so nobody looks at dead letters by themselves."""
    unread = [*letters(51, "http.request"), *letters(4, "mended")]
    with running_stub() as api:
        api.answer("/v1/status", {"now": "t", "refused": 55, "partitions": []})
        api.answer("/v1/deadletters", {"deadletters": unread})
        api.answer("/v1/meters", {"meters": [{"name": "m", "type": "mended"}]})
        assert main(["status", "--url", api.url]) == 0
        status = capsys.readouterr().out
        assert main(["check", "--url", api.url, "--format", "json"]) == 1  # no broker is named
        checks = json.loads(capsys.readouterr().out)["checks"]
        asked = [dict(each.parameters) for each in api.asked if each.path == "/v1/deadletters"]

    said = "51 events of a type that no meter reads: http.request (`meterstream deadletters list"
    assert said in status
    (hint,) = [row for row in checks if row["what"] == "dead letters"]
    assert hint["detail"].startswith(said)
    assert hint["result"] == ""
    assert {each["reason"] for each in asked} == {"unknown_type"}


@pytest.mark.parametrize(
    ("unread", "said"),
    [
        (letters(1, "a"), "1 event of a type that no meter reads: a ("),
        (letters(1000, "a\x1b"), "at least 1,000 events of a type that no meter reads: a\\x1b ("),
        ([each for name in "abcdef" for each in letters(1, name)], "a, b, c, d, e, ... ("),
        ([], None),
        (letters(3, "mended"), None),
        (None, None),
    ],
)
def test_what_is_told_of_types(
    unread: list[dict[str, object]] | None, said: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    """At most some types and as many as were looked at; an API that cannot say breaks nothing."""
    with running_stub() as api:
        api.answer("/v1/status", {"now": "t", "refused": 1, "partitions": []})
        api.answer("/v1/meters", {"meters": [{"name": "m", "type": "mended"}]})
        if unread is not None:
            api.answer("/v1/deadletters", {"deadletters": unread})
        assert main(["status", "--url", api.url]) == 0

    out = capsys.readouterr().out
    assert (said or "") in out
    assert ("that no meter reads" in out) is (said is not None)

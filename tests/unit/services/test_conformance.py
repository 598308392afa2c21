"""Published cases: what is read, judged, skipped and printed; and the shared cases themselves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from meterstream_services.cli.app import app
from meterstream_services.conformance.cases import Case, read_cases
from meterstream_services.conformance.errors import CasesUnreadable, Skipped
from meterstream_services.conformance.report import run
from meterstream_services.conformance.running import judge

PUBLISHED = Path(__file__).parents[3].parent / "shared" / "conformance" / "cases.json"


def case(**changes: object) -> Case:
    """Two events of 1.5 and 2, asked for as one sum."""
    plain: dict[str, Any] = {
        "name": "plain",
        "meter": {"aggregation": "sum", "value_property": "$value"},
        "events": [
            {"id": "a", "tenant": "t", "time": "2026-01-01T10:00:00Z", "value": "1.5"},
            {"id": "b", "tenant": "t", "time": "2026-01-01T11:00:00Z", "value": 2},
        ],
        "query": {"from": "2026-01-01T00:00:00Z", "to": "2026-01-02T00:00:00Z"},
        "expected": [{"value": "3.5", "events_count": 2}],
    }
    return Case.model_validate(plain | changes)


def test_a_right_figure_passes_and_a_wrong_one_fails() -> None:
    """Equality of exact decimals, of the value and of the number of events."""
    assert judge(case()) == []
    assert judge(case(expected=[{"value": "3.50"}])) == []
    (wrong,) = judge(case(expected=[{"value": "3.5000000000000001"}]))
    assert wrong.got == "3.5 of 2 events"
    assert len(judge(case(expected=[{"value": "3.5", "events_count": 3}]))) == 1


def test_a_tolerance_is_kept_to() -> None:
    """Within it passes, beyond it does not."""
    assert judge(case(expected=[{"value": "3.51"}], tolerance="0.01")) == []
    assert judge(case(expected=[{"value": "3.52"}], tolerance="0.01")) != []


def test_a_row_that_nobody_expects_fails() -> None:
    """Empty rows may be left out by a peer; rows with usage may not."""
    query = {"from": "2026-01-01T10:00:00Z", "to": "2026-01-01T13:00:00Z", "window": "hour"}
    first = {"value": "1.5", "from": "2026-01-01T10:00:00Z", "to": "2026-01-01T11:00:00Z"}
    second = {"value": "2", "from": "2026-01-01T11:00:00Z", "to": "2026-01-01T12:00:00Z"}

    assert judge(case(query=query, expected=[first, second])) == []
    (extra,) = judge(case(query=query, expected=[first]))
    assert extra.expected == "no further row"


def test_values_that_the_door_refuses_leave_the_rest() -> None:
    """A text that is no number is refused; what remains is the figure."""
    bad = {"id": "c", "tenant": "t", "time": "2026-01-01T12:00:00Z", "value": "NaN"}
    events = [
        *({"id": e.id, "tenant": "t", "time": e.time, "value": e.value} for e in case().events),
        bad,
    ]

    assert judge(case(events=events)) == []


def test_another_rule_of_identity_skips_only_where_it_matters() -> None:
    """The same id twice with other content: the peer's last wins, here the first."""
    again = {"id": "b", "tenant": "t", "time": "2026-01-01T11:00:00Z", "value": 7}
    events = [e.model_dump() for e in case().events]
    last = {"aggregation": "sum", "value_property": "$value", "dedup": "last_wins"}

    with pytest.raises(Skipped, match=r"last_wins by id\) gives 8.5.*: 3.5"):
        judge(case(events=[*events, again], meter=last))
    assert judge(case(events=[*events, events[1]], meter=last)) == []
    assert judge(case(events=[*events, again])) == []


def test_recommended_is_the_answer_to_give() -> None:
    """Where a peer's own answer is a quirk, the recommended one is judged."""
    assert judge(case(expected=[{"value": "99"}], recommended=[{"value": "3.5"}])) == []


def test_an_unknown_aggregation_is_skipped_with_the_reason() -> None:
    """It is neither passed nor failed."""
    report = run([case(meter={"aggregation": "median"})], judge)

    assert report.document() == {
        "passed": 0,
        "failed": [],
        "skipped": [
            {
                "name": "plain",
                "reason": "meterstream has no aggregation that 'median' could be",
            }
        ],
    }


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[", "is not JSON"),
        ("{}", "valid list"),
        ('[{"name": "x"}]', "0.meter: Field required"),
    ],
)
def test_a_file_of_another_shape_is_refused(tmp_path: Path, text: str, problem: str) -> None:
    """The message names the file and the field."""
    file = tmp_path / "cases.json"
    file.write_text(text)

    with pytest.raises(CasesUnreadable, match=problem):
        read_cases(file)


def test_the_command_prints_three_numbers_and_fails_with_the_cases(tmp_path: Path) -> None:
    """JSON for programs, a line of numbers for people; the exit status follows failures."""
    good = json.loads(case().model_dump_json(by_alias=True, exclude_unset=True))
    bad = good | {"name": "wrong", "expected": [{"value": "1"}]}
    good_file, bad_file = tmp_path / "good.json", tmp_path / "bad.json"
    good_file.write_text(json.dumps([_written(good)]))
    bad_file.write_text(json.dumps([_written(good), _written(bad)]))
    runner = CliRunner()

    passed = runner.invoke(app, ["conformance", str(good_file)])
    failed = runner.invoke(app, ["conformance", str(bad_file), "--format", "json"])

    assert (passed.exit_code, passed.stdout.strip()) == (0, "1 passed, 0 failed, 0 skipped")
    assert failed.exit_code == 1
    document = json.loads(failed.stdout)
    assert (document["passed"], document["skipped"]) == (1, [])
    assert [(f["name"], f["got"]) for f in document["failed"]] == [("wrong", "3.5 of 2 events")]


def _written(content: dict[str, Any]) -> dict[str, Any]:
    """A dumped case as a file has it: times as text."""
    query = {"from": "2026-01-01T00:00:00Z", "to": "2026-01-02T00:00:00Z"}
    times = ("2026-01-01T10:00:00Z", "2026-01-01T11:00:00Z")
    events = [event | {"time": time} for event, time in zip(content["events"], times, strict=True)]
    return content | {"query": query, "events": events}


@pytest.mark.skipif(not PUBLISHED.exists(), reason=f"the published cases are not at {PUBLISHED}")
def test_every_published_case_in_scope_passes() -> None:
    """None fails, and the only reason to skip one is another rule of identity."""
    cases = read_cases(PUBLISHED)

    report = run(cases, judge)

    assert report.failed == []
    assert {reason.split(":")[0] for _, reason in report.skipped} <= {"identity"}
    assert len(report.passed) + len(report.skipped) == len(cases)

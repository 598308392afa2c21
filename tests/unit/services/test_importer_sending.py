"""An import as a whole, against a recorder and an API that keep everything in memory."""

from __future__ import annotations

import gzip
from collections import Counter
from datetime import UTC
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from meterstream_schemas.checks import check_attributes, check_text, check_time
from meterstream_schemas.placement import lane_of
from meterstream_schemas.quantity import parse_amount
from meterstream_services.client import ApiRefused, ApiUnreachable, Json
from meterstream_services.importer.counting import await_counts
from meterstream_services.importer.errors import MappingError, NotCounted
from meterstream_services.importer.mapping import check_mapping
from meterstream_services.importer.report import Job, Report
from meterstream_services.importer.sending import import_file

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path


class Standing(NamedTuple):
    """What the SDK says of itself."""

    failed: int
    last_error: str | None


class Recorder:
    """Keeps the calls; refuses at the door what the SDK refuses."""

    producer = "ab" * 16
    standing = Standing(0, None)

    def __init__(self) -> None:
        self.calls: list[dict[str, Any]] = []

    def record(self, type: str, **fields: object) -> bool:  # noqa: A002 - named as in the SDK
        return self._take("USAGE", type, fields)

    def session_start(self, type: str, **fields: object) -> bool:  # noqa: A002 - named as in the SDK
        return self._take("SESSION_START", type, fields)

    def session_end(self, type: str, **fields: object) -> bool:  # noqa: A002 - named as in the SDK
        return self._take("SESSION_END", type, fields)

    def flush(self, timeout: float) -> bool:
        return timeout > 0

    def status(self) -> Standing:
        return self.standing

    def _take(self, kind: str, event_type: str, fields: dict[str, object]) -> bool:
        check_text(fields["tenant"], field="tenant", bytes_max=128)
        assert isinstance(fields["time"], int)
        check_time(fields["time"])
        check_attributes(fields["attributes"] or {})
        parse_amount(fields.get("quantity", 0))
        self.calls.append({"kind": kind, "type": event_type} | fields)
        return True


class Api:
    """Counts what a recorder holds, a key once; refuses what a predicate says."""

    def __init__(
        self,
        recorder: Recorder,
        refuse: Callable[[dict[str, Any]], bool] | None = None,
        seen_steps: int = 2,
    ) -> None:
        self._recorder = recorder
        self._refuse = refuse or (lambda call: False)
        self._steps = seen_steps

    def get(self, path: str, parameters: Sequence[tuple[str, str]] = ()) -> Json:
        assert ("producer", self._recorder.producer) in list(parameters)
        numbered = list(self._numbered())
        refused = [entry for entry in numbered if self._refuse(entry[2])]
        if path == "/v1/deadletters":
            return {
                "deadletters": [
                    {
                        "lane": lane,
                        "sequence": n,
                        "reason": "invalid_time",
                        "detail": "time: too early",
                    }
                    for lane, n, _ in refused
                ]
            }
        assert path == "/v1/reconcile"
        self._steps -= 1
        if self._steps >= 0:
            return {"producers": []}
        counted = len({call["key"] for _, _, call in numbered}) - len(refused)
        entry = {
            "seen": len(numbered),
            "counted": counted,
            "duplicates": 7,  # repeated sendings are in it, and are not ours to tell
            "refused": len(refused),
        }
        entry["seen"] -= self._recorder.standing.failed
        return {"producers": [entry]}

    def _numbered(self) -> Iterator[tuple[int, int, dict[str, Any]]]:
        last: Counter[int] = Counter()
        for call in self._recorder.calls:
            lane = lane_of(call["tenant"])
            last[lane] += 1
            yield lane, last[lane], call


class Watcher:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.sentences: list[str] = []
        self.rows = self.seen = 0

    def reading(self, *, rows: int, bytes_read: int, bytes_total: int) -> None:
        assert 0 <= bytes_read <= bytes_total
        self.rows = rows

    def counting(self, *, seen: int, events: int) -> None:
        assert seen <= events
        self.seen = seen

    def say(self, sentence: str) -> None:
        self.sentences.append(sentence)


def job(path: Path, text: str, **options: Any) -> Job:  # noqa: ANN401 - as check_mapping takes
    """A job over a file with this text; tenant and time come from columns of these names."""
    path.write_text(text)
    given: dict[str, Any] = {"event_type": "api.request", "tenant": "tenant", "zone": UTC}
    if "session" not in options:
        given["time"] = "time"
    return Job(path, check_mapping(**(given | options)))


def run(one: Job) -> tuple[Report, Recorder]:
    """Import into a fresh recorder and wait for the counts."""
    recorder = Recorder()
    report = import_file(one, recorder, Watcher())
    await_counts(one, report, Api(recorder), Watcher(), sleep=lambda _: None)
    return report, recorder


CSV = """time,tenant,status,bytes
2015-05-17T10:05:03Z,acme,200,100
2015-05-17T10:05:03Z,acme,200,100
2015-05-17T10:05:04Z,acme,304,
"""


def test_rows_become_events_with_their_columns(tmp_path: Path) -> None:
    """Columns and constants fill the fields; an empty cell is an absent attribute."""
    one = job(
        tmp_path / "a.csv",
        CSV,
        attributes=["status=status", "bytes=bytes", "site==main"],
        subject="=import",
    )

    report, recorder = run(one)

    assert [call["attributes"] for call in recorder.calls] == [
        {"status": "200", "bytes": "100", "site": "main"},
        {"status": "200", "bytes": "100", "site": "main"},
        {"status": "304", "site": "main"},
    ]
    assert {call["quantity"] for call in recorder.calls} == {"1"}
    assert {call["subject"] for call in recorder.calls} == {"import"}
    assert (report.rows, report.events, report.counted, report.duplicates) == (3, 3, 3, 0)
    assert report.is_clean


def test_an_empty_quantity_is_an_event_of_nothing(tmp_path: Path) -> None:
    """A row without a quantity still counts as an event, adds zero and is reported."""
    report, recorder = run(job(tmp_path / "a.csv", CSV, quantity="bytes"))

    assert [call["quantity"] for call in recorder.calls] == ["100", "100", "0"]
    assert report.quantities_empty == 1
    assert report.is_clean


def test_importing_again_repeats_every_key(tmp_path: Path) -> None:
    """The same file gives the same keys, whichever columns are chosen; repeats inside it differ."""
    _, first = run(job(tmp_path / "a.csv", CSV))
    _, second = run(job(tmp_path / "a.csv", CSV, attributes=["status=status"]))

    keys = [call["key"] for call in first.calls]
    assert [call["key"] for call in second.calls] == keys
    assert len(set(keys)) == 3


def test_the_file_may_bring_its_own_keys(tmp_path: Path) -> None:
    """With --key the column's text is the key, and a row without one is refused."""
    report, recorder = run(job(tmp_path / "a.csv", CSV, key="bytes"))

    assert [call["key"] for call in recorder.calls] == ["100", "100"]
    assert (report.counted, report.duplicates, report.rows_refused) == (1, 1, 1)
    assert report.refusals[0].column == "bytes"


def test_bad_rows_are_named_and_good_rows_go(tmp_path: Path) -> None:
    """Every refused row is reported with number, line, column, value and reason."""
    rows = ["2015-05-17,a,1", "never,a,1", "2015-05-17,,1", "2015-05-17,a,1.5x", "2015-05-17,a,2"]
    text = "\n".join(["time,tenant,n", *rows])

    report, recorder = run(job(tmp_path / "a.csv", text, quantity="n"))

    assert [call["quantity"] for call in recorder.calls] == ["1", "2"]
    shown = [(r.row, r.line, r.column, r.value) for r in report.refusals]
    assert shown == [(2, 3, "time", "never"), (3, 4, "tenant", ""), (4, 5, "n", "1.5x")]
    assert "decimal number" in report.refusals[2].reason
    assert report.refused == 3
    assert not report.is_clean


SESSIONS = """id,user,from,to
1,u1,2026-03-27T13:00:00Z,2026-03-27T14:00:00Z
2,u1,2026-03-27T15:00:00Z,2026-03-27T14:00:00Z
3,u2,2026-03-27T15:00:00Z,
"""


def test_a_session_row_is_a_start_and_an_end(tmp_path: Path) -> None:
    """Two boundaries with keys of their own; an empty end is a session that still runs."""
    one = job(tmp_path / "s.csv", SESSIONS, tenant="user", session="id", start="from", end="to")

    report, recorder = run(one)

    assert [(call["kind"], call["session"]) for call in recorder.calls] == [
        ("SESSION_START", "1"),
        ("SESSION_END", "1"),
        ("SESSION_START", "3"),
    ]
    assert len({call["key"] for call in recorder.calls}) == 3
    assert (report.rows, report.events, report.rows_refused) == (3, 3, 1)
    assert report.refusals[0].reason == "the session ends before it starts"


def test_what_the_worker_refused_is_led_back_to_its_row(tmp_path: Path) -> None:
    """A dead letter names lane and number; the report names the row, past refused ones too."""
    lines = [f"2015-05-17T00:00:{n:02}Z,t{n % 7},{n}" for n in range(60)]
    lines[3] = "never,t3,3"
    one = job(tmp_path / "a.csv", "time,tenant,n\n" + "\n".join(lines) + "\n", quantity="n")
    recorder = Recorder()

    report = import_file(one, recorder, Watcher())
    api = Api(recorder, refuse=lambda call: call["quantity"] in {"30", "59"})
    await_counts(one, report, api, Watcher(), sleep=lambda _: None)

    shown = [(r.row, r.column, r.value) for r in report.refusals]
    assert shown == [
        (4, "time", "never"),
        (31, "time", "2015-05-17T00:00:30Z"),
        (60, "time", "2015-05-17T00:00:59Z"),
    ]
    assert report.refusals[1].reason == "invalid_time: time: too early"
    assert (report.counted, report.events_refused, report.refused) == (57, 2, 3)


def test_a_silent_worker_is_said_and_then_given_up(tmp_path: Path) -> None:
    """The wait tells that nothing moves, and ends after the patience with what is safe to do."""
    one = job(tmp_path / "a.csv", CSV)
    recorder, watcher = Recorder(), Watcher()
    report = import_file(one, recorder, watcher)

    with pytest.raises(NotCounted, match=r"0 of 3 events .* importing the file again is safe"):
        await_counts(one, report, Api(recorder, seen_steps=10_000), watcher, sleep=lambda _: None)

    assert len(watcher.sentences) > 5
    assert "is the worker running" in watcher.sentences[0]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"time": None}, "--time is missing"),
        ({"start": "a"}, "add --session"),
        ({"session": "s"}, "--session needs --start"),
        ({"session": "s", "start": "a"}, "--session needs --end"),
        ({"session": "s", "start": "a", "end": "b", "time": "c"}, "--time does not go with"),
        ({"session": "s", "start": "a", "end": "b", "quantity": "c"}, "--quantity does not go"),
        ({"quantity": "=many"}, "--quantity: 'many' is not a decimal number"),
        ({"tenant": "="}, "--tenant: is empty"),
        ({"event_type": ""}, "--type: is empty"),
        ({"attributes": ["status"]}, "--attribute status: write NAME=COLUMN"),
        ({"attributes": ["a=b", "a=c"]}, "'a' is given twice"),
        ({"attributes": [f"n{n}=c" for n in range(40)]}, "attributes: 40 of them"),
        ({"key": "=1"}, "--key =1: a constant would make all rows the same"),
        ({"time": "=noon"}, "--time =noon: is not a time"),
        ({"subject": "=\x07"}, "--subject: .*control character"),
    ],
)
def test_options_that_do_not_fit_have_a_sentence(options: dict[str, Any], sentence: str) -> None:
    """Every contradiction among the options is refused before the file is opened."""
    given: dict[str, Any] = {"event_type": "t", "tenant": "c", "time": "c", "zone": UTC}
    if "session" in options:
        given.pop("time")

    with pytest.raises(MappingError, match=sentence):
        check_mapping(**(given | options))


def test_a_broken_file_reports_what_was_sent(tmp_path: Path) -> None:
    """A file that breaks off is no clean import, but its rows went."""
    text = "time,tenant\n" + "".join(f"2015-05-17,t{n}\n" for n in range(50_000))
    one = job(tmp_path / "a.csv.gz", "")
    whole = gzip.compress(text.encode())
    one.path.write_bytes(whole[: len(whole) // 2])
    recorder = Recorder()

    report = import_file(one, recorder, Watcher())

    assert report.events == len(recorder.calls) == report.rows > 1000
    assert f"after row {report.rows}" in report.unfinished
    assert not report.is_clean


def test_events_that_the_broker_refuses_are_told(tmp_path: Path) -> None:
    """What failed for good is not waited for, and the import is not clean."""
    one = job(tmp_path / "a.csv", CSV)
    recorder = Recorder()
    recorder.standing = Standing(1, "too large")

    report = import_file(one, recorder, Watcher())
    await_counts(one, report, Api(recorder), Watcher(), sleep=lambda _: None)

    assert report.unfinished == "1 events were refused by the broker: too large"
    assert not report.is_clean


def test_an_api_that_is_away_for_a_while_is_waited_for(tmp_path: Path) -> None:
    """A service that is started again costs patience, not the import."""
    one = job(tmp_path / "a.csv", CSV)
    recorder, watcher = Recorder(), Watcher()
    report = import_file(one, recorder, watcher)
    faults = [ApiUnreachable("nothing answers")] * 60 + [ApiRefused(503, "store away")] * 5

    class Away(Api):
        def get(self, path: str, parameters: Sequence[tuple[str, str]] = ()) -> Json:
            if faults:
                raise faults.pop()
            return super().get(path, parameters)

    await_counts(one, report, Away(recorder), watcher, sleep=lambda _: None)

    assert report.counted == 3
    assert "nothing answers" in watcher.sentences[0]


def test_an_api_that_refuses_the_question_is_not_waited_for(tmp_path: Path) -> None:
    """What waiting cannot mend is raised at once."""
    one = job(tmp_path / "a.csv", CSV)
    recorder = Recorder()
    report = import_file(one, recorder, Watcher())

    class Other(Api):
        def get(self, path: str, parameters: Sequence[tuple[str, str]] = ()) -> Json:
            raise ApiRefused(404, f"nothing at {path}, {parameters}")

    with pytest.raises(ApiRefused):
        await_counts(one, report, Other(recorder), Watcher(), sleep=lambda _: None)

"""The three real files through Kafka, worker and API: every row of the answers, to the last digit.

The files lie beside the project and are not part of it; where a clone has none, these tests are
skipped by name and say so.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import pytest
import yaml

from meterstream_aggregator.store.sqlite_reader import open_reader
from tests.integration import real_files
from tests.integration.real_files import AZURE, HTTP, ROOT, SESSIONS, Figure, Figures, Row
from tests.integration.up_process import Machine, finish, running_up

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ABSENT = [path.name for path in (AZURE, HTTP, SESSIONS) if not path.exists()]
pytestmark = [
    pytest.mark.integration,
    pytest.mark.timeout(600),
    pytest.mark.skipif(
        bool(ABSENT),
        reason=f"the real files are not here ({', '.join(ABSENT)} under {real_files.DATA})",
    ),
]

SEED = 2_023
NEW_YORK = ZoneInfo("America/New_York")
WORKERS = ("worker", "worker-2")
KILLS_PER_MINUTE_MAX = 4
"""Of one worker: `up` gives up on a part that dies more than five times a minute."""
AZURE_OPTIONS = (
    "--type", "llm.completion", "--time", "TIMESTAMP", "--tenant", "tenant", "--key", "id",
    "--attribute", "context_tokens=ContextTokens",
    "--attribute", "generated_tokens=GeneratedTokens",
)  # fmt: skip
HTTP_OPTIONS = (
    "--type", "http.request", "--time", "timestamp", "--tenant", "tenant",
    "--attribute", "status=status", "--attribute", "method=method", "--attribute", "bytes=bytes",
)  # fmt: skip
SESSION_OPTIONS = (
    "--type", "app.session", "--session", "session_id", "--tenant", "user",
    "--start", "started_at", "--end", "ended_at",
)  # fmt: skip
QUERIES = {
    "context": ("llm.context_tokens", "2023-11-16T18:00:00Z", "2023-11-16T20:00:00Z", "15m"),
    "generated": ("llm.generated_tokens", "2023-11-16", "2023-11-17", "1h"),
    "requests": ("http.requests", "2015-05-17", "2015-05-21", "1d", "--by", "status"),
    "bytes": ("http.bytes", "2015-05-17", "2015-05-21", "1d", "--by", "status"),
    "days": ("app.session_seconds", "2017-03-20", "2017-05-01", "1d"),
    "local days": (
        "app.session_seconds", "2017-03-20", "2017-05-01", "1d", "--zone", "America/New_York",
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Import:
    """One file to import: where, how, and how many events it holds, repeats left out and in."""

    path: Path
    options: tuple[str, ...]
    events: int
    repeats: int


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example catalogues of the three files, as one."""
    examples = [
        yaml.safe_load((ROOT / "docs" / "examples" / f"{name}.yaml").read_text("utf-8"))
        for name in ("llm_tokens", "web_requests", "sessions")
    ]
    joined = {
        "metering_since": min(example["metering_since"] for example in examples),
        "meters": [meter for example in examples for meter in example["meters"]],
    }
    path = tmp_path_factory.mktemp("catalogue") / "meters.yaml"
    path.write_text(yaml.safe_dump(joined), "utf-8")
    return path


@pytest.fixture(scope="module")
def azure_rows(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Row]]:
    """The prepared Azure file, and the rows that must be counted."""
    path = tmp_path_factory.mktemp("azure") / "trace.csv"
    return path, real_files.prepared_azure(path, SEED)


@pytest.fixture(scope="module")
def imports(azure_rows: tuple[Path, list[Row]]) -> list[Import]:
    """All three files."""
    path, rows = azure_rows
    repeats = len(real_files.read(path)) - len(rows)
    return [
        Import(path, AZURE_OPTIONS, len(rows), repeats),
        Import(HTTP, HTTP_OPTIONS, 10_000, 0),
        Import(SESSIONS, SESSION_OPTIONS, 2 * 223, 0),
    ]


@pytest.fixture(scope="module")
def imported(
    tmp_path_factory: pytest.TempPathFactory, catalogue: Path, imports: list[Import]
) -> Iterator[Machine]:
    """A machine into which every file was imported once."""
    with running_up(tmp_path_factory.mktemp("up") / "data", catalogue) as machine:
        for each in imports:
            report = _import(machine, each)
            assert (report["counted"], report["duplicates"]) == (each.events, each.repeats)
        yield machine


def _import(machine: Machine, each: Import) -> dict[str, Any]:
    report: dict[str, Any] = machine.json("import", str(each.path), *each.options)
    assert report["refused"] == 0
    assert report["events"] == each.events + each.repeats
    return report


def _ask(machine: Machine, name: str) -> dict[str, Any]:
    meter, start, end, every, *more = QUERIES[name]
    answer: dict[str, Any] = machine.json(
        "usage", "--meter", meter, "--from", start, "--to", end, "--every", every, *more
    )
    return answer


def _figures(answer: dict[str, Any], group: str | None = None) -> Figures:
    """The rows of an answer; each may occur once, and its sums must hold."""
    figures: Figures = {}
    for row in answer["rows"]:
        start = datetime.fromisoformat(row["from"]).astimezone(UTC)
        key = (row["tenant"], row["group"][group] if group else "", start)
        assert key not in figures
        assert Decimal(row["value"]) == Decimal(row["closing"]) + Decimal(row["adjustment"])
        figures[key] = Figure(Decimal(row["value"]), row["events"])
    return {key: figure for key, figure in figures.items() if figure != Figure(Decimal(0), 0)}


def _total(figures: Figures) -> Figure:
    return Figure(
        sum((figure.value for figure in figures.values()), Decimal(0)),
        sum(figure.events for figure in figures.values()),
    )


def _check_all(machine: Machine, azure: list[Row]) -> None:
    """Every query's every row against the files."""
    http, sessions = real_files.read(HTTP), real_files.read(SESSIONS)
    requests, amounts = real_files.http_days(http, ZoneInfo("UTC"))

    context = _figures(_ask(machine, "context"))
    assert context == real_files.azure_sums(azure, "ContextTokens", 15)
    assert _total(context) == Figure(Decimal(18_059_974), 8_819)
    generated = _figures(_ask(machine, "generated"))
    assert generated == real_files.azure_sums(azure, "GeneratedTokens", 60)
    assert _total(generated) == Figure(Decimal(245_896), 8_819)
    assert _figures(_ask(machine, "requests"), "status") == requests
    assert _figures(_ask(machine, "bytes"), "status") == amounts
    assert _figures(_ask(machine, "days")) == real_files.session_days(sessions, ZoneInfo("UTC"))
    local = _figures(_ask(machine, "local days"))
    assert local == real_files.session_days(sessions, NEW_YORK)
    assert _total(local) == Figure(Decimal(sum(int(row["seconds"]) for row in sessions)), 223)


def test_the_files_are_those_that_were_described() -> None:
    """Rows, control totals and oddities of the files are what their description says."""
    azure, http, sessions = (real_files.read(path) for path in (AZURE, HTTP, SESSIONS))

    assert sum(int(row["ContextTokens"]) for row in azure) == 18_059_974
    assert sum(int(row["GeneratedTokens"]) for row in azure) == 245_896
    assert (len(azure), len(http), len(sessions)) == (8_819, 10_000, 223)
    assert len({row["tenant"] for row in http}) == 1_753
    assert sum(not row["bytes"] for row in http) == 669
    assert round(max(int(row["seconds"]) for row in sessions) / 3_600, 2) == 71.07


def test_every_row_of_every_answer(imported: Machine, azure_rows: tuple[Path, list[Row]]) -> None:
    """Tokens per quarter and hour, requests and bytes per day and status, hours in two zones."""
    _check_all(imported, azure_rows[1])


def test_totals_over_tenants(imported: Machine) -> None:
    """One figure over everybody: the control totals of the files."""
    totals = {
        meter: imported.json(
            "usage", "--meter", meter, "--from", "2015-01-01", "--to", "2024-01-01", "--total"
        )["rows"]
        for meter in ("llm.context_tokens", "llm.generated_tokens", "http.requests", "http.bytes")
    }

    values = {
        meter: [(row["value"], row["events"]) for row in rows] for meter, rows in totals.items()
    }
    sent = sum(int(row["bytes"] or 0) for row in real_files.read(HTTP))
    assert values == {
        "llm.context_tokens": [("18059974", 8_819)],
        "llm.generated_tokens": [("245896", 8_819)],
        "http.requests": [("10000", 10_000)],
        "http.bytes": [(str(sent), 10_000 - 669)],
    }
    assert all(row["tenant"] is None for rows in totals.values() for row in rows)


def test_the_longest_context_of_each_tenant(
    imported: Machine, azure_rows: tuple[Path, list[Row]]
) -> None:
    """A maximum per tenant over the whole hour."""
    answer = imported.json(
        "usage", "--meter", "llm.longest_context", "--from", "2023-11-16", "--to", "2023-11-17"
    )

    longest: Counter[str] = Counter()
    for row in azure_rows[1]:
        longest[row["tenant"]] = max(longest[row["tenant"]], int(row["ContextTokens"]))
    assert {row["tenant"]: int(row["value"]) for row in answer["rows"]} == dict(longest)


def test_the_sessions_themselves(imported: Machine) -> None:
    """223 closed sessions with the file's users, starts and ends, and no other."""
    answer = imported.json("sessions", "--limit", "1000")

    found = {
        (
            row["session"],
            row["tenant"],
            datetime.fromisoformat(row["start"]),
            datetime.fromisoformat(row["end"]),
            row["state"],
            row["conflicts"],
        )
        for row in answer["sessions"]
    }
    assert found == {
        (
            row["session_id"],
            row["user"],
            datetime.fromisoformat(row["started_at"]),
            datetime.fromisoformat(row["ended_at"]),
            "closed",
            0,
        )
        for row in real_files.read(SESSIONS)
    }
    assert len(answer["sessions"]) == 223


def test_importing_again_changes_nothing(imported: Machine, imports: list[Import]) -> None:
    """The second time every event is a duplicate, and every answer is the same."""
    before = {name: _ask(imported, name) for name in QUERIES}

    for each in imports:
        report = _import(imported, each)
        assert (report["counted"], report["duplicates"]) == (0, each.events + each.repeats)

    assert {name: _ask(imported, name) for name in QUERIES} == before


class _Killer:
    """Kills workers with SIGKILL while they fold, but none so often that `up` would give it up."""

    def __init__(self, machine: Machine, seed: int) -> None:
        self._machine = machine
        self._random = random.Random(seed)
        self._moments: dict[str, list[float]] = {worker: [] for worker in WORKERS}
        self._folded = self._folded_now()
        self.killed: list[int] = []

    def kill_when_folding(self) -> bool:
        """Kill a worker if the store moved since the last kill; True when one was killed."""
        if self._folded_now() == self._folded:
            return False
        worker = self._random.choice(WORKERS)
        process = self._machine.process(worker)
        recent = [at for at in self._moments[worker] if at > time.monotonic() - 60]
        if process is None or process in self.killed or len(recent) >= KILLS_PER_MINUTE_MAX:
            return False
        # Anywhere in its work: collecting, folding, or in the transaction.
        time.sleep(self._random.uniform(0, 0.1))
        os.kill(process, signal.SIGKILL)
        self.killed.append(process)
        self._moments[worker].append(time.monotonic())
        self._folded = self._folded_now()
        return True

    def _folded_now(self) -> int:
        reader = open_reader(self._machine.data / "store.sqlite3")
        try:
            return sum(row.next_offset for row in reader.positions())
        finally:
            reader.close()


def test_exact_although_workers_are_killed(
    tmp_path: Path,
    catalogue: Path,
    imports: list[Import],
    azure_rows: tuple[Path, list[Row]],
) -> None:
    """With SIGKILL again and again during every import, every file twice: the same figures."""
    with running_up(tmp_path / "data", catalogue, "--workers", str(len(WORKERS))) as machine:
        killer = _Killer(machine, SEED)
        for each in imports:
            _import_while_killing(machine, each, killer, kills_max=3)
        for each in imports:
            _import_while_killing(machine, each, killer, kills_max=1)

        assert len(killer.killed) >= 2 * len(imports), "the imports were over too soon"
        _check_all(machine, azure_rows[1])
        folded = sum(each.events for each in imports)
        counters = machine.json("status")["partitions"]
        assert sum(row["counted"] for row in counters) == folded
        assert sum(row["refused"] for row in counters) == 0


def _import_while_killing(
    machine: Machine, each: Import, killer: _Killer, *, kills_max: int
) -> None:
    process = machine.start("import", str(each.path), *each.options, "--format", "json")
    try:
        kills = 0
        while process.poll() is None:
            if kills < kills_max and killer.kill_when_folding():
                kills += 1
            time.sleep(0.01)
    finally:
        finish(process, timeout_seconds=180)

"""Short campaigns, and the judge of campaigns judged: whatever is tampered with, it notices."""

from __future__ import annotations

import io
import json
import random
import shutil
import sqlite3
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import fastavro
import pytest

from tests.campaign.__main__ import new_place
from tests.campaign.runner import Campaign, Result, run
from tests.campaign.stack import METERS
from tests.campaign.verifier.__main__ import TOKEN, judge
from tests.campaign.verifier.records import Record, read_records, write_records

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]

SCHEMA: Final = Path(__file__).parents[2] / "schemas/meterstream_schemas/avro/meter_event.v1.avsc"
FRAMING: Final = 5
AVRO: Final = fastavro.parse_schema(json.loads(SCHEMA.read_text("utf-8")))
FAULTS: Final = (
    "worker killed", "producer killed", "broker killed", "poison", "spool copied",
    "database crashed", "network reset",
)  # fmt: skip


class Evidence(NamedTuple):
    """What a campaign leaves, in files that may be tampered with."""

    place: Path

    def judged(self) -> set[str]:
        """The kinds of findings."""
        findings, _ = judge(
            store=str(self.place / "store.sqlite3"),
            journals=self.place / "journals",
            meters=METERS,
            schema=SCHEMA,
            files=self.place / "files",
        )
        return {finding.what for finding in findings}

    def sql(self, text: str, *values: object) -> None:
        """Change one row of the store."""
        connection = sqlite3.connect(self.place / "store.sqlite3")
        with connection:
            assert connection.execute(text, values).rowcount == 1
        connection.close()

    def change(self, name: str, changed: Callable[[list[Record]], list[Record]]) -> None:
        """Change a copy of a topic."""
        path = self.place / "files" / name
        write_records(path, changed(list(read_records(path))))

    def journal(self, changed: Callable[[list[list[Any]]], list[list[Any]]]) -> None:
        """Change the first journal."""
        path = min((self.place / "journals").iterdir())
        lines = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
        path.write_text("".join(json.dumps(line) + "\n" for line in changed(lines)), "utf-8")


@pytest.fixture(scope="module")
def campaign(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result]:
    """A short campaign on SQLite, and where its evidence is."""
    place = tmp_path_factory.mktemp("campaign") / "place"
    return place, short(place, "sqlite")


@pytest.fixture
def evidence(campaign: tuple[Path, Result], tmp_path: Path) -> Evidence:
    """A copy of the evidence."""
    place, result = campaign
    assert result.line, result.said
    for name in ("files", "journals"):
        shutil.copytree(place / name, tmp_path / name)
    with (
        sqlite3.connect(place / "store.sqlite3") as source,
        sqlite3.connect(tmp_path / "store.sqlite3") as target,
    ):
        source.backup(target)
    return Evidence(tmp_path)


def short(place: Path, store: str) -> Result:
    """Three cycles of the quicker faults."""
    seed = random.SystemRandom().randrange(10**6)
    print(f"seed {seed}")  # noqa: T201 - a failure must be repeatable
    asked = Campaign(place=place, store=store, cycles=3, seed=seed, rate=200, pairs=2, only=FAULTS)
    return run(asked, lambda line: print(line, file=sys.stderr))  # noqa: T201 - likewise


def test_nothing_is_lost_or_doubled_on_sqlite(campaign: tuple[Path, Result]) -> None:
    """The judge says so, in the words that stand for success."""
    _, result = campaign

    assert result.line.startswith(TOKEN), result.said
    assert result.faults.total() >= 3


def test_nothing_is_lost_or_doubled_on_postgresql() -> None:
    """The same over the other store, in the command's own directory: as root too."""
    place = new_place()
    result = short(place / "place", "postgres")

    assert result.line.startswith(TOKEN), f"{result.said}, in {place}"
    assert result.faults.total() >= 3
    shutil.rmtree(place)


def test_untouched_evidence_is_clean(evidence: Evidence) -> None:
    """A copy is judged as the original was: so what follows is found for what was done to it."""
    assert evidence.judged() == set()


ONE_ROW: Final = (
    "(block, series, start, arrival, scale) = (SELECT block, series, start, arrival, scale"
)
PLAIN: Final = f"{ONE_ROW} FROM usage WHERE arrival = 0 AND events > 0 LIMIT 1)"
LATE: Final = f"{ONE_ROW} FROM usage WHERE arrival > 0 AND events > 0 LIMIT 1)"
A_SESSION: Final = (
    "(tenant, type, session) = (SELECT tenant, type, session FROM session"
    ' WHERE start IS NOT NULL AND "end" IS NOT NULL LIMIT 1)'
)
SESSION_USAGE: Final = (
    f"{ONE_ROW} FROM usage WHERE series IN (SELECT id FROM series WHERE meter = 'agents')"
    " AND quantity_low > 1000 LIMIT 1)"
)
A_LETTER: Final = '(partition, "offset") = (SELECT partition, "offset" FROM dead_letter LIMIT 1)'


@pytest.mark.parametrize(
    ("what", "changed"),
    {
        "a lost event": ("usage", f"UPDATE usage SET events = events - 1 WHERE {PLAIN}"),
        "a doubled event": ("usage", f"UPDATE usage SET events = events + 1 WHERE {PLAIN}"),
        "an altered amount": (
            "usage",
            f"UPDATE usage SET quantity_low = quantity_low + 1 WHERE {SESSION_USAGE}",
        ),
        "a wrong window": ("usage", f"UPDATE usage SET start = start + 600 WHERE {PLAIN}"),
        "a missing adjustment": ("usage", f"DELETE FROM usage WHERE {LATE}"),
        "an adjustment that is none": ("usage", f"UPDATE usage SET arrival = 0 WHERE {LATE}"),
        "an extra row": (
            "usage",
            ("INSERT INTO usage SELECT block, series, start - 9, arrival, scale, events,"
            f" quantity_high, quantity_low FROM usage WHERE {PLAIN}"),
        ),
        "a moved series": (
            "usage",
            ("UPDATE series SET tenant = 'somebody else' WHERE id ="
            " (SELECT series FROM usage WHERE events > 0 LIMIT 1)"),
        ),
        "a shifted session": ("session", f"UPDATE session SET start = start + 1 WHERE {A_SESSION}"),
        "an earlier end": ("session", f'UPDATE session SET "end" = "end" - 1 WHERE {A_SESSION}'),
        "a lost session": ("session", f"DELETE FROM session WHERE {A_SESSION}"),
        "a wrong reason": (
            "dead letter", f"UPDATE dead_letter SET reason = reason || '?' WHERE {A_LETTER}",
        ),
        "a lost dead letter": ("dead letter", f"DELETE FROM dead_letter WHERE {A_LETTER}"),
        "a position behind": (
            "position", "UPDATE position SET next_offset = next_offset - 1 WHERE partition = 1",
        ),
        "a wrong count of repeats": (
            "position", "UPDATE position SET duplicates = duplicates + 1 WHERE partition = 1",
        ),
        "a forgotten key": (
            "key", "DELETE FROM caller_key WHERE key = (SELECT key FROM caller_key LIMIT 1)",
        ),
        "a forgotten producer": (
            "producer",
            ("DELETE FROM producer WHERE (partition, producer) ="
            " (SELECT partition, producer FROM producer LIMIT 1)"),
        ),
        "an altered level": (
            "item",
            ("UPDATE item SET quantity = quantity + 1 WHERE (series, start, item, arrival) ="
            " (SELECT series, start, item, arrival FROM item LIMIT 1)"),
        ),
        "a message that never left": (
            "dead letter",
            ("INSERT INTO outbox (partition, topic, key, value, headers)"
            " VALUES (0, 't', x'00', x'00', '[]')"),
        ),
    }.items(),
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_a_tampered_store_is_noticed(
    evidence: Evidence, what: str, changed: tuple[str, str]
) -> None:
    """One row that is not as the log has it."""
    finding, statement = changed

    evidence.sql(statement)

    assert finding in evidence.judged(), what


def test_a_lost_record_is_noticed(evidence: Evidence) -> None:
    """Of a promised event there is nothing in the log."""

    def without_first(records: list[Record]) -> list[Record]:
        lost = body(next(filter(is_usage, records)))["attributes"]["id"]
        return [r for r in records if not is_usage(r) or body(r)["attributes"].get("id") != lost]

    evidence.change("events.log", without_first)

    assert "lost" in evidence.judged()


def test_a_doubled_record_is_noticed(evidence: Evidence) -> None:
    """One event under two numbers, although nobody repeated it."""
    evidence.change("events.log", lambda records: [*records, with_body(records, sequence=10**6)])

    assert "doubled" in evidence.judged()


def test_an_altered_record_is_noticed(evidence: Evidence) -> None:
    """Another amount than was recorded."""
    evidence.change("events.log", lambda records: replaced(records, quantity=77))

    assert "altered" in evidence.judged()


def test_a_moved_record_is_noticed(evidence: Evidence) -> None:
    """Another tenant, or another time."""
    evidence.change("events.log", lambda records: replaced(records, tenant="tenant-xx"))

    assert {"altered", "moved"} <= evidence.judged()


def test_a_record_in_another_partition_is_noticed(evidence: Evidence) -> None:
    """One number in two partitions would be counted in each."""

    def moved(records: list[Record]) -> list[Record]:
        first = next(filter(is_usage, records))
        return [*records, first._replace(partition=(first.partition + 1) % 4, offset=10**9)]

    evidence.change("events.log", moved)

    assert "moved" in evidence.judged()


def test_a_record_that_nobody_meant_is_noticed(evidence: Evidence) -> None:
    """A journal that does not know what the log holds."""
    evidence.journal(lambda lines: [line for line in lines if line[0] != "i"][:1])

    assert "phantom" in evidence.judged()


def test_a_lost_promise_is_noticed(evidence: Evidence) -> None:
    """A producer was told that an event is safe, and the log has never heard of it."""

    def promised(lines: list[list[Any]]) -> list[list[Any]]:
        last = max((line for line in lines if line[0] == "i"), key=lambda line: line[1])
        number = last[1] + 1
        return [*lines, ["i", number, "never-sent", *last[3:]], ["k", number]]

    evidence.journal(promised)

    assert "lost" in evidence.judged()


def test_a_wrong_place_is_noticed(evidence: Evidence) -> None:
    """A producer was told a place in the log where another event is."""

    def misplaced(lines: list[list[Any]]) -> list[list[Any]]:
        place = next(line for line in lines if line[0] == "o")
        return [*lines, [*place[:3], place[3] + 10**6, *place[4:]]]

    evidence.journal(misplaced)

    assert "altered" in evidence.judged()


@pytest.mark.parametrize("lie", ["reason", "bytes", "absence"])
def test_a_wrong_letter_is_noticed(evidence: Evidence, lie: str) -> None:
    """The dead-letter topic holds each as it was, with its reason."""

    def wrong(letters: list[Record]) -> list[Record]:
        first, *others = letters
        if lie == "reason":
            return [first._replace(headers=first.headers | {"meterstream-reason": "?"}), *others]
        if lie == "bytes":
            return [first._replace(value=b"?"), *others]
        return [each for each in others if each.key != first.key]

    evidence.change("letters.log", wrong)

    assert evidence.judged() == {"dead letter"}


def test_silence_is_no_success(evidence: Evidence) -> None:
    """Where nothing was promised, nothing is proved."""
    for path in (evidence.place / "journals").iterdir():
        path.unlink()

    assert "nothing" in evidence.judged()


def is_usage(record: Record) -> bool:
    """Whether it is usage that nobody repeats, of a type that is counted, with a number."""
    if record.headers or record.value is None or len(record.value) < FRAMING:
        return False
    event = body(record)
    counted = event["type"] in {"job.run", "seats.set", "page.view"}
    return event["kind"] == "USAGE" and counted and bool(event["producer"])


def body(record: Record) -> dict[str, Any]:
    """The event of a record."""
    content = io.BytesIO((record.value or b"")[FRAMING:])
    found: dict[str, Any] = fastavro.schemaless_reader(content, AVRO, None)  # type: ignore[assignment]  # a record
    return found


def with_body(records: list[Record], **changes: object) -> Record:
    """The first usage record, changed, as the last of its partition."""
    first = next(filter(is_usage, records))
    content = io.BytesIO()
    fastavro.schemaless_writer(content, AVRO, body(first) | changes)
    value = (first.value or b"")[:FRAMING] + content.getvalue()
    return first._replace(value=value, offset=10**9)


def replaced(records: list[Record], **changes: object) -> list[Record]:
    """The first usage record changed in its place."""
    first = next(filter(is_usage, records))
    changed = with_body(records, **changes)._replace(offset=first.offset)
    return [changed if record is first else record for record in records]

"""The importer and the real SDK: what arrives, and that numbers lead back to rows."""

from __future__ import annotations

from datetime import UTC
from typing import TYPE_CHECKING

from meterstream import Meter
from meterstream.memory import MemoryTransport
from meterstream_schemas import codec, wire
from meterstream_schemas.events import EventKind, MeterEvent
from meterstream_services.cli.progress import LineWatcher
from meterstream_services.importer.counting import numbered
from meterstream_services.importer.mapping import check_mapping
from meterstream_services.importer.reading import RowFile
from meterstream_services.importer.report import Job, Report
from meterstream_services.importer.sending import import_file

if TYPE_CHECKING:
    from pathlib import Path


def imported(job: Job) -> tuple[Report, list[MeterEvent]]:
    """Import into memory: the report, and the events that arrived, without marks."""
    transport = MemoryTransport()
    meter = Meter("import", transport=transport, strict=True, overflow="block")
    try:
        report = import_file(job, meter, LineWatcher())
    finally:
        meter.close(timeout=10)
    schema = codec.parse_text(codec.bundled_text(codec.LATEST_ID))
    records = [record for partition in transport.log for record in partition]
    events = [codec.decode_body(wire.split(record.value)[1], schema) for record in records]
    return report, [event for event in events if event.kind is not EventKind.MARK]


def test_numbers_lead_back_to_rows(tmp_path: Path) -> None:
    """Lane and number of every event are those of the rehearsal, past rows refused at the door."""
    path = tmp_path / "rows.csv"
    rows = [f"2026-01-01T00:00:{n % 60:02}Z,tenant {n % 50},{n}" for n in range(500)]
    for bad, text in ((3, "never,a,1"), (77, "2026-01-01,a\x01,1"), (400, "2026-01-01,a,1e99")):
        rows[bad] = text
    path.write_text("at,who,n\n" + "\n".join(rows) + "\n")
    mapping = check_mapping(event_type="t", tenant="who", time="at", quantity="n", zone=UTC)
    job = Job(path, mapping)

    report, events = imported(job)

    assert [refusal.row for refusal in report.refusals] == [4, 78, 401]
    assert report.events == len(events) == 497
    with RowFile(path) as rows_again:
        told = numbered(rows_again, mapping, report.events_of_rows)
        found = {(lane, number): row.number for row, lane, number in told}
    assert {(event.lane, event.sequence) for event in events} == set(found)
    assert all(found[event.lane, event.sequence] == event.quantity + 1 for event in events)


def test_sessions_arrive_with_exact_boundaries(tmp_path: Path) -> None:
    """Start and end of a row carry its session, its times to the microsecond and own keys."""
    path = tmp_path / "rows.jsonl"
    path.write_text(
        '{"id": 7, "who": {"name": "a"}, "up": "2026-01-01 00:00:00.1234567", "down": null}\n'
    )
    mapping = check_mapping(
        event_type="s", tenant="who.name", session="id", start="up", end="down", zone=UTC,
        subject="=import", attributes=["n=id"],
    )  # fmt: skip

    _, [open_start] = imported(Job(path, mapping))
    path.write_text(path.read_text().replace("null", '"2026-01-01 00:00:02"'))
    report, [start, end] = imported(Job(path, mapping))

    assert open_start._replace(key="", producer="") == start._replace(key="", producer="")
    assert (start.kind, end.kind) == (EventKind.SESSION_START, EventKind.SESSION_END)
    assert (start.session, start.subject, start.attributes) == ("7", "import", {"n": "7"})
    assert end.time - start.time == 1_876_544
    assert start.key != end.key
    assert report.events_of_rows == b"\x02"

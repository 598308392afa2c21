"""Found by attack: a part of the log does not say which groups were first to get a series."""

from __future__ import annotations

from meterstream_aggregator.catalogue import HOUR
from meterstream_aggregator.catalogue_file import parse_catalogue
from meterstream_aggregator.evidence import Known, judge
from meterstream_aggregator.evidence_rows import Frame, RowKey, rows_of_sessions
from tests.unit.aggregator.making import NOW, boundary, logged

CATALOGUE = parse_catalogue("""
meters:
  - {name: run, aggregate: session, group_by: [route], limits: {series_per_tenant: 1}}
""")


def test_sessions_of_a_part_of_the_log_are_grouped_as_the_store_has_them() -> None:
    """The group with a series comes second in the part that is read."""
    [run] = CATALOGUE.meters
    start = NOW - NOW % HOUR
    records = logged(
        [
            boundary("START", start, session="one", attributes={"route": "late"}),
            boundary("START", start, session="two", attributes={"route": "first"}),
        ]
    )
    frame = Frame([run], start, start + HOUR, 0, frozenset({(run.version, ("first",))}))

    judged = judge(records, lambda _: CATALOGUE, Known({}, {}))
    made = rows_of_sessions(judged, CATALOGUE, frame, NOW)

    assert made.usage == {
        RowKey(run.version, ("first",), start, 0, 6): (1, 0),
        RowKey(run.version, ("(overflow)",), start, 0, 6): (1, 0),
    }

"""Found by attack: a part of the log does not say who has a series, nor what lies outside.

What lies between the offsets of a figure is not all about the figure.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from meterstream_aggregator.batch import LogRecord
from meterstream_aggregator.catalogue import HOUR
from meterstream_aggregator.catalogue_file import parse_catalogue
from meterstream_aggregator.evidence import Known, judge
from meterstream_aggregator.evidence_rows import Frame, RowKey, rows_of_sessions
from meterstream_aggregator.explain import Asked, explain
from meterstream_aggregator.store.memory import MemoryStore
from meterstream_services import evidencing
from tests.simulation.driver import Folder
from tests.unit.aggregator.making import NOW, boundary, logged

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import pytest

    from meterstream_consumers.logreader import LogReader, Range
    from meterstream_schemas.registry import WriterSchemas

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


class _Log:
    """A log that has what it is asked for."""

    def check(self, ranges: object) -> None:
        """Nothing was deleted."""


def test_boundaries_of_sessions_that_lie_elsewhere_are_left_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of a session that ended before the time, a later start that is a conflict lies within."""
    at = NOW - NOW % HOUR
    times = (("START", "old", 0), ("END", "old", 1), ("START", "new", 5), ("START", "old", 6))
    records = [
        LogRecord(0, offset, at + hour * HOUR, boundary(kind, at + hour * HOUR, session=session))
        for offset, (kind, session, hour) in enumerate(times)
    ]
    store = MemoryStore()
    folder = Folder(store, CATALOGUE)
    folder.claim([0])
    folder.fold(records)

    def found(
        log: LogReader, schemas: WriterSchemas, ranges: Sequence[Range], tenant: str
    ) -> Iterator[list[LogRecord]]:
        del log, schemas, tenant
        yield [r for r in records if any(each.start <= r.offset < each.end for each in ranges)]

    monkeypatch.setattr(evidencing, "tenant_records", found)
    asked = Asked("acme", "run", at + 4 * HOUR, at + 8 * HOUR, partitions=(0,))
    told = explain(store, asked, now=at + 7 * HOUR)
    assert told is not None
    log, schemas = cast("LogReader", _Log()), cast("WriterSchemas", None)
    evidence = evidencing.evidence(store, told, log, schemas, now=at + 7 * HOUR)

    assert told.figure.events == 1
    assert evidence.adds_up(told)

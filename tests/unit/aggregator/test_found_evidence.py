"""Found by attack: a part of the log does not say who has a series, nor what lies outside.

What lies between the offsets of a figure is not all about the figure.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import pytest

from meterstream_aggregator.batch import LogRecord
from meterstream_aggregator.catalogue import HOUR, Aggregate
from meterstream_aggregator.catalogue_file import parse_catalogue
from meterstream_aggregator.evidence import Known, judge
from meterstream_aggregator.evidence_rows import Frame, RowKey, Rows, compared, rows_of_sessions
from meterstream_aggregator.explain import Asked, explain
from meterstream_aggregator.store.memory import MemoryStore
from meterstream_services import evidencing
from tests.simulation.driver import Folder
from tests.unit.aggregator.making import NOW, boundary, logged, numbered

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from meterstream_aggregator.catalogue import Catalogue
    from meterstream_aggregator.explain import Explanation
    from meterstream_consumers.logreader import LogReader, Range
    from meterstream_schemas.registry import WriterSchemas
    from meterstream_services.evidencing import Evidence

    Explained = Callable[[Catalogue, list[LogRecord], Asked, int], tuple[Explanation, Evidence]]

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


@pytest.fixture
def explained(monkeypatch: pytest.MonkeyPatch) -> Explained:
    """Folds records, explains a figure of them, and reads its events again."""

    def explained(
        catalogue: Catalogue, records: list[LogRecord], asked: Asked, now: int
    ) -> tuple[Explanation, Evidence]:
        store = MemoryStore()
        folder = Folder(store, catalogue)
        folder.claim([0])
        folder.fold(records)

        def between(ranges: Sequence[Range]) -> Iterator[LogRecord]:
            for r in records:
                if any(each.start <= r.offset < each.end for each in ranges):
                    yield r

        def tenants(
            _log: object, _schemas: object, ranges: Sequence[Range], tenant: str
        ) -> Iterator[list[LogRecord]]:
            yield [r for r in between(ranges) if r.event.tenant == tenant]

        def numbers(
            _log: object, _schemas: object, ranges: Sequence[Range], known: Sequence[LogRecord]
        ) -> Iterator[list[LogRecord]]:
            used = {(r.event.producer, r.event.lane, r.event.sequence) for r in known}
            yield [
                r
                for r in between(ranges)
                if r not in known and (r.event.producer, r.event.lane, r.event.sequence) in used
            ]

        monkeypatch.setattr(evidencing, "tenant_records", tenants)
        monkeypatch.setattr(evidencing, "same_numbers", numbers)
        told = explain(store, asked, now=now)
        assert told is not None
        log, schemas = cast("LogReader", _Log()), cast("WriterSchemas", None)
        return told, evidencing.evidence(store, told, log, schemas, now=now)

    return explained


AT = NOW - NOW % HOUR


def test_boundaries_of_sessions_that_lie_elsewhere_are_left_out(explained: Explained) -> None:
    """Of a session that ended before the time, a later start that is a conflict lies within."""
    times = (("START", "old", 0), ("END", "old", 1), ("START", "new", 5), ("START", "old", 6))
    records = [
        LogRecord(0, offset, AT + hour * HOUR, boundary(kind, AT + hour * HOUR, session=session))
        for offset, (kind, session, hour) in enumerate(times)
    ]
    asked = Asked("acme", "run", AT + 4 * HOUR, AT + 8 * HOUR, partitions=(0,))

    told, evidence = explained(CATALOGUE, records, asked, AT + 7 * HOUR)

    assert told.figure.events == 1
    assert evidence.adds_up(told)
    assert evidence.doubts() == []


STEADY = parse_catalogue("""
metering_since: 2020-01-01T00:00:00Z
meters:
  - {name: run, aggregate: session, window: 1h, grace: 1h, timeout: 2h}
  - {name: api, aggregate: count, window: 1h, grace: 1h}
""")


@pytest.mark.parametrize(
    "signs",
    [
        (("START", 0, 0), ("END", 6, 6), ("END", 2, 12)),
        (("START", 0, 0), ("HEARTBEAT", 5, 5), ("START", 9, 9), ("END", 2, 12)),
    ],
)
def test_a_session_that_reaches_into_the_time_no_more(
    explained: Explained, signs: tuple[tuple[str, int, int], ...]
) -> None:
    """Its rows there come to nothing; which arrivals they have no boundary in the time tells."""
    signs = (*signs, ("START", 5, 13), ("END", 6, 13))
    records = [
        LogRecord(
            0,
            offset,
            AT + heard * HOUR,
            boundary(kind, AT + hour * HOUR, session="other" if heard == 13 else "s1"),
        )
        for offset, (kind, hour, heard) in enumerate(signs)
    ]
    asked = Asked("acme", "run", AT + 4 * HOUR, AT + 6 * HOUR, partitions=(0,))

    told, evidence = explained(STEADY, records, asked, AT + 14 * HOUR)

    assert told.figure.total is not None
    assert told.figure.total.quantity == HOUR
    assert any(row.quantity < 0 for _, row in told.windows)
    assert (evidence.mismatches, evidence.adds_up(told)) == ([], True)
    [doubt] = evidence.doubts()
    assert "arrivals was not judged" in doubt


def test_sessions_rows_that_do_not_come_to_the_same_differ() -> None:
    """Over all arrivals together; and of other meters each arrival is compared."""
    early, late = RowKey("v", (), AT, 0, 6), RowKey("v", (), AT, AT + HOUR, 6)
    store, events = {early: (1, 9), late: (0, -4)}, {early: (1, 5)}

    def told(aggregate: Aggregate, more: int) -> tuple[int, int]:
        found = compared(
            Rows(aggregate, store), Rows(aggregate, {early: (1, events[early][1] + more)})
        )
        return len(found.mismatches), found.unsplit

    assert told(Aggregate.SESSION, 0) == (0, 1)
    assert told(Aggregate.SESSION, 1) == (2, 0)
    assert told(Aggregate.SUM, 0) == (2, 0)


@pytest.mark.parametrize("hours_before", [0, 9])
def test_a_number_first_used_by_another_tenant(explained: Explained, hours_before: int) -> None:
    """Between the offsets it is found; outside them the difference is told with its reason."""
    at = AT - hours_before * HOUR
    events = [
        numbered(1, tenant="b", type="api", time=at),
        numbered(2, tenant="acme", type="api", time=AT),
        numbered(1, tenant="acme", type="api", time=AT),
        numbered(3, tenant="acme", type="api", time=AT),
    ]
    records = [LogRecord(0, n, at if not n else AT, each) for n, each in enumerate(events)]

    told, evidence = explained(
        STEADY, records, Asked("acme", "api", AT, AT + HOUR, partitions=(0,)), AT
    )

    assert told.figure.events == 2
    assert evidence.adds_up(told) is (not hours_before)
    assert len(evidence.judged) == 3
    doubts = evidence.doubts()
    assert bool(doubts) is bool(hours_before)
    assert all("first outside the offsets" in doubt for doubt in doubts)

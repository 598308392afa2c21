"""The list of events: what counted, once each, found by the store's index of the log."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, cast

import pytest

from meterstream_aggregator.batch import LogRecord
from meterstream_aggregator.catalogue import HOUR
from meterstream_aggregator.catalogue_file import parse_catalogue
from meterstream_aggregator.civil import InvalidQuestion
from meterstream_aggregator.errors import StoreUnavailable
from meterstream_aggregator.store.memory import MemoryStore
from meterstream_consumers.errors import LogUnusable
from meterstream_schemas.events import EventKind
from meterstream_schemas.placement import lane_of, partition_of
from meterstream_schemas.registry import BundledSchemas
from meterstream_services.clients.eventlog_store import Source, StoreEventLog
from tests.simulation.driver import BINDING, Folder
from tests.unit.aggregator.making import NOW, event, numbered
from tests.unit.consumers.making import Record, framed, raw_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from meterstream_consumers.logreader import LogReader, Range
    from meterstream_consumers.records import RawBatch
    from meterstream_schemas.events import MeterEvent

CATALOGUE = parse_catalogue("""
metering_since: 2020-01-01T00:00:00Z
meters:
  - {name: api, aggregate: count, window: 1h}
  - {name: other, aggregate: count, window: 1h}
""")
AT = NOW - NOW % HOUR
ACME = partition_of(lane_of("acme"), BINDING.partitions)


class _Log:
    """A log in memory; it remembers what was read of it."""

    def __init__(self, records: Sequence[LogRecord], first: int = 0) -> None:
        self.records = records
        self.first = first
        self.read_offsets = 0
        self.problem: Exception | None = None

    def bounds(self, partitions: Iterable[int]) -> dict[int, tuple[int, int]]:
        if self.problem is not None:
            raise self.problem
        return dict.fromkeys(partitions, (self.first, 1 << 40))

    def read(self, ranges: Sequence[Range]) -> Iterator[RawBatch]:
        self.read_offsets += sum(each.end - each.start for each in ranges)
        found = [
            Record(r.partition, r.offset, r.append_time // 1000, framed(r.event))
            for r in self.records
            if any(e.partition == r.partition and e.start <= r.offset < e.end for e in ranges)
        ]
        for at in range(0, len(found), 2):
            yield raw_of(found[at : at + 2])

    def close(self) -> None:
        """Nothing is held."""


class _Counted:
    """A store that counted some events, and the log that has them."""

    def __init__(
        self, *events: MeterEvent, first: int = 0, step: int = 1, **options: float
    ) -> None:
        records = [
            LogRecord(
                partition_of(lane_of(said.tenant), BINDING.partitions),
                number * step,
                NOW + number * 1000,
                said,
            )
            for number, said in enumerate(events)
        ]
        self.store = MemoryStore()
        folder = Folder(self.store, CATALOGUE)
        folder.claim(range(BINDING.partitions))
        for record in records:
            folder.fold([record])
        self.log = _Log(records, first)
        self.events = StoreEventLog(
            lambda: self.store,
            lambda _: Source(cast("LogReader", self.log), BundledSchemas()),
            **cast("dict[str, Any]", options),
        )

    def offsets(self, *, tenants: Sequence[str] = ("acme",), **wanted: int) -> list[int]:
        asked: dict[str, Any] = {"limit": 100, **wanted}
        found = self.events.events(
            tenants, ["api"], asked.pop("start", AT), asked.pop("end", AT + HOUR), **asked
        )
        return [listed.offset for listed in found]


def _api(time: int = AT, **changes: object) -> MeterEvent:
    return event(time=time, **changes)


def test_events_come_by_time_of_the_tenants_and_types_that_are_asked_for() -> None:
    """Whatever the log's order; other tenants, types and times are left out."""
    counted = _Counted(
        _api(AT + 5),
        _api(AT + 3),
        _api(AT, tenant="foreign"),
        _api(AT, type="other"),
        _api(AT - 1),
        _api(AT + HOUR),
        _api(AT),
    )

    assert counted.offsets() == [6, 1, 0]
    assert counted.offsets(newest_first=True) == [0, 1, 6]
    assert counted.offsets(newest_first=True, limit=1) == [0]
    assert counted.offsets(tenants=("acme", "foreign"), limit=3) == [2, 6, 1]
    assert counted.offsets(start=AT - HOUR, end=AT + 2 * HOUR) == [4, 6, 1, 0, 5]
    assert counted.offsets(tenants=()) == []


def test_with_a_subject_the_limit_is_of_its_events_alone() -> None:
    """However many of others come before them."""
    others = [_api(AT + n, subject="42") for n in range(20)]
    counted = _Counted(*others, _api(AT + 50, subject="7"), _api(AT + 60, subject="7"))

    found = counted.events.events(["acme"], ["api"], AT, AT + HOUR, limit=1, subject="7")

    assert [listed.offset for listed in found] == [20]
    assert counted.events.events(["acme"], ["api"], AT, AT + HOUR, limit=9, subject="8") == []


def test_an_event_is_listed_once_however_often_it_was_sent() -> None:
    """Repeats by number and by key are left out, and so is what was refused."""
    counted = _Counted(
        numbered(1, tenant="acme", time=AT),
        numbered(1, tenant="acme", time=AT),
        _api(AT + 1, key="k"),
        _api(AT + 1, key="k"),
        _api(AT + 1, key="k", quantity=2),
        _api(AT + 2, quantity=-(2**62)),
        _api(AT + 3, key="other"),
    )

    offsets = counted.offsets()

    assert offsets[:2] == [0, 2]
    assert offsets[-1] == 6
    assert not {1, 3, 4} & set(offsets)


def test_what_was_taken_back_is_not_listed_whichever_came_first() -> None:
    """An event and its VOID both go; a VOID with other content takes nothing back."""
    counted = _Counted(
        _api(AT, key="a"),
        _api(AT, key="a", kind=EventKind.VOID),
        _api(AT, key="b", kind=EventKind.VOID),
        _api(AT, key="b"),
        _api(AT, key="c"),
        _api(AT, key="c", kind=EventKind.VOID, quantity=7),
    )

    assert counted.offsets() == [4]


def test_no_more_is_read_than_the_limit_asks_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hours are read from the wanted end, and no further than there are enough events."""
    monkeypatch.setattr("meterstream_services.clients.eventlog_store.CHUNK_RECORDS", 1)
    counted = _Counted(*(_api(AT + (hour - 20) * HOUR) for hour in range(20)), step=10_000)
    asked: Any = {"start": AT - 20 * HOUR, "limit": 2}

    assert counted.offsets(**asked) == [0, 10_000]
    assert counted.log.read_offsets == 2
    assert counted.offsets(**asked, newest_first=True) == [190_000, 180_000]


def test_a_question_that_would_read_too_much_is_refused() -> None:
    """Before the reading, with what to do."""
    counted = _Counted(*(_api(AT + at) for at in range(4)), step=100, records_max=250)

    with pytest.raises(InvalidQuestion, match="ask for less time"):
        counted.offsets()

    assert counted.log.read_offsets == 0


def test_what_retention_took_is_not_listed() -> None:
    """What the log still has is."""
    assert _Counted(_api(AT), _api(AT + 1), _api(AT + 2), first=1).offsets() == [1, 2]


def test_a_log_that_is_away_or_slow_is_unavailable() -> None:
    """Waiting may help: neither is an empty list."""
    counted = _Counted(_api())
    counted.log.problem = LogUnusable("gone")
    slow = _Counted(_api(), seconds_max=-time.monotonic())

    with pytest.raises(StoreUnavailable, match="gone"):
        counted.offsets()
    with pytest.raises(StoreUnavailable, match="too long"):
        slow.offsets()


def test_a_store_that_no_worker_bound_has_no_events() -> None:
    """And the log is not opened for it."""
    log = StoreEventLog(MemoryStore, lambda _: pytest.fail("the log was opened"))

    assert log.events(["acme"], ["api"], 0, HOUR, limit=1) == []

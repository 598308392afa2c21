"""Thresholds over whole logs: the same notices, however the log was cut, and none twice."""

from __future__ import annotations

import json
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hypothesis import given, settings
from hypothesis import strategies as st

from meterstream_aggregator.batch import LogRecord, batch_of_records
from meterstream_aggregator.catalogue import HOUR, MINUTE
from meterstream_aggregator.catalogue_file import parse_catalogue
from meterstream_aggregator.columnar import fold_columns
from meterstream_aggregator.store.sqlite import SqliteStore
from meterstream_consumers.watching import Watching
from meterstream_schemas.events import EventKind, MeterEvent
from tests.simulation.driver import Folder

if TYPE_CHECKING:
    from collections.abc import Sequence

    from meterstream_aggregator.changes import Changes
    from meterstream_aggregator.state import Readings, State

NOW = 1_767_225_600_000_000 + 100 * HOUR
METERS = """
metering_since: 2026-01-01T00:00:00Z
meters:
  - {name: credit, aggregate: sum, where: {kind: {not_in: [test]}}}
  - {name: credit, aggregate: sum, window: 1h, from: 2026-01-05T03:00:00Z}
  - {name: calls, type: credit, aggregate: count, window: 1m}
  - {name: bytes, type: credit, aggregate: sum, value: attributes.bytes, group_by: [kind]}
  - {name: peak, aggregate: max}
  - {name: run, aggregate: session, timeout: 5m, window: 1m}
thresholds:
  - {name: spent, meter: credit, every: 1h, at: [5, "7.5", 20]}
  - {name: spent.month, meter: credit, zone: Asia/Tokyo, anchor: 5, at: [10]}
  - {name: often, meter: calls, every: 1d, at: [3, 6], of: [acme]}
  - {name: heavy, meter: bytes, every: 1d, zone: America/New_York, at: ["0.3", "1"]}
  - {name: high, meter: peak, every: 1d, at: ["2", "4"]}
  - {name: long, meter: run, every: 1d, at: ["60", "600"]}
"""
CATALOGUE = parse_catalogue(METERS)


def worker(store: SqliteStore, accounts: dict[str, str] | None = None) -> Folder:
    """A worker that has just started on this store."""
    known = accounts or {}
    directory = None if accounts is None else lambda tenant, _time: known.get(tenant)
    watching = Watching(CATALOGUE, store, directory=directory)

    def folding(records: Sequence[LogRecord], state: State, readings: Readings) -> Changes:
        batch = batch_of_records(records)
        changes = fold_columns(batch, state, readings)
        watching(batch, state, changes)
        return changes

    folder = Folder(store, CATALOGUE, folding)
    folder.claim([0, 1])
    return folder


def notices(store: SqliteStore) -> list[bytes]:
    """What leaves, in a stable order."""
    return sorted(row.message.value or b"" for row in store.outbox([0, 1], 10_000))


@st.composite
def logs(draw: st.DrawFn) -> list[LogRecord]:
    """Records of two partitions: credits, debits, voids, repeats, sessions, quiet hours."""
    records: list[LogRecord] = []
    said: list[MeterEvent] = []
    at, offsets = NOW - 3 * HOUR, [0, 0]
    for sequence in range(1, draw(st.integers(2, 31))):
        at += draw(st.sampled_from([0, 1000, 1000, MINUTE, 7 * MINUTE, HOUR]))
        partition = draw(st.integers(0, 1))
        what = draw(st.sampled_from(["new", "new", "new", "session", "session", "again", "void"]))
        if what in {"again", "void"} and said:
            event = draw(st.sampled_from(said))
            partition = 0 if event.tenant == "acme" else 1
            if what == "void" and event.key is not None and event.kind is EventKind.USAGE:
                event = event._replace(kind=EventKind.VOID, lane=1, sequence=sequence)
        else:
            event = draw(_events(what, at, sequence, "acme" if partition == 0 else "b"))
        said.append(event)
        records.append(LogRecord(partition, offsets[partition], at, event))
        offsets[partition] += draw(st.sampled_from([1, 1, 2]))
    return records


@st.composite
def _events(draw: st.DrawFn, what: str, at: int, sequence: int, tenant: str) -> MeterEvent:
    kinds = (EventKind.SESSION_START, EventKind.SESSION_HEARTBEAT, EventKind.SESSION_END)
    in_session = what == "session"
    return MeterEvent(
        kind=draw(st.sampled_from(kinds)) if in_session else EventKind.USAGE,
        tenant=tenant,
        type="run" if in_session else draw(st.sampled_from(["credit", "credit", "peak"])),
        time=at - draw(st.sampled_from([0, 0, 30_000_000, MINUTE, HOUR])),
        quantity=0 if in_session else draw(st.integers(-6, 8)),
        scale=0 if in_session else draw(st.sampled_from([0, 0, 1])),
        session=draw(st.sampled_from(["s1", "s2", None])) if in_session else None,
        subject=None,
        attributes={
            "kind": draw(st.sampled_from(["real", "test"])),
            "bytes": draw(st.sampled_from(["0.1", "-0.15", "1", "0.25"])),
        },
        producer="a" * 32,
        lane=0,
        sequence=sequence,
        key=None if in_session else draw(st.none() | st.just(f"k{sequence}")),
    )


@settings(max_examples=30)
@given(logs(), st.lists(st.integers(1, 30), max_size=6), st.booleans())
def test_any_cut_tells_the_same(records: list[LogRecord], cuts: list[int], restarts: bool) -> None:
    """Whole, one by one, or cut anywhere with a restart between: the same notices to the byte."""
    stores = [SqliteStore(Path(":memory:")) for _ in range(3)]
    bounds = [0, *sorted(set(cuts)), len(records)]
    plans = [
        [records],
        [[record] for record in records],
        [records[low:high] for low, high in pairwise(bounds)],
    ]
    for store, plan in zip(stores, plans, strict=True):
        folder = worker(store)
        for batch in plan:
            if batch:
                folder.fold(batch)
                folder = worker(store) if restarts else folder

    told = [notices(store) for store in stores]

    assert told[0] == told[1] == told[2]
    assert len({_which(value) for value in told[0]}) == len(told[0])
    for store in stores:
        store.close()


def _which(value: bytes) -> str:
    return str(json.loads(value)["id"])


@settings(max_examples=30)
@given(logs())
def test_a_notice_is_told_by_the_commit_that_reaches_the_value(records: list[LogRecord]) -> None:
    """Record by record: a value is told of when the usage in the store first comes to it."""
    store = SqliteStore(Path(":memory:"))
    folder = worker(store)
    reached: dict[tuple[str, str, int], Any] = {}
    expected: list[tuple[str, str, str, int, int]] = []
    for record in records:
        folder.fold([record])
        for tenant, hour, total in _spent(store):
            for at in (5_0, 7_5, 20_0):
                if total >= at and (tenant, hour, at) not in reached:
                    reached[tenant, hour, at] = total
                    expected.append((tenant, hour, str(at), record.partition, record.offset))

    told = [json.loads(value)["data"] for value in notices(store)]
    spent = [
        (t["tenant"], t["from"][:13], str(int(Decimal(t["at"]) * 10)), t["partition"], t["offset"])
        for t in told
        if t["threshold"] == "spent"
    ]

    assert sorted(spent) == sorted(expected)
    store.close()


def _spent(store: SqliteStore) -> list[tuple[str, str, int]]:
    """Tenth parts of credit by tenant and hour, as the table of usage has them."""
    found = store._db.execute(
        "SELECT tenant, strftime('%Y-%m-%dT%H', (start / 60) * 3600, 'unixepoch') AS hour,"
        " sum((quantity_high * (1 << 62) + quantity_low) * iif(scale = 0, 10, 1))"
        " FROM usage JOIN series ON series.id = usage.series WHERE meter = 'credit'"
        " GROUP BY tenant, hour"
    )
    return found.fetchall()

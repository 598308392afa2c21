"""The whole verdict over seeded worlds, and proof that it would notice what must not happen."""

from __future__ import annotations

import random
from functools import cache
from typing import TYPE_CHECKING

import pytest

from meterstream_aggregator.batch import LogRecord
from meterstream_aggregator.catalogue_file import parse_catalogue
from meterstream_aggregator.store.memory import MemoryStore
from meterstream_aggregator.store.sqlite import SqliteStore
from meterstream_aggregator.store.sqlite_reader import open_reader
from meterstream_schemas.events import EventKind
from tests.oracle.answers import figure_differences
from tests.oracle.counting import LogRecord as Logged
from tests.oracle.counting import count
from tests.oracle.verdict import differences
from tests.simulation.driver import by_columns
from tests.simulation.generator import world
from tests.simulation.laws import cut, fold_into

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from meterstream_aggregator.store.port import Store

SECOND = 1_000_000
HOUR = 3_600 * SECOND
Crime = tuple[list[Logged], int]
"""A log, and the place of its victim."""


def _fold(store: Store, text: str, records: list[Logged], seed: int) -> None:
    batches = cut([LogRecord(*record) for record in records], random.Random(seed))
    fold_into(store, parse_catalogue(text), batches, by_columns)


@pytest.mark.parametrize("seed", [100, 101])
def test_sqlite_says_exactly_what_the_log_says(seed: int, tmp_path: Path) -> None:
    """Figures, sessions, counters, dead letters and holes of the fast fold in the real store."""
    text, records = world(seed, 400)
    store = SqliteStore(tmp_path / "store.sqlite3")

    _fold(store, text, records, seed)

    reader = open_reader(tmp_path / "store.sqlite3")
    assert differences(reader, text, records) == []
    reader.close()
    store.close()


@cache
def _told() -> tuple[MemoryStore, str, list[Logged]]:
    """A store that says what its log says."""
    text, records = world(300, 400)
    store = MemoryStore()
    _fold(store, text, records, 300)
    assert differences(store, text, records) == []
    return store, text, records


def _victim(wanted: Callable[[Logged], bool]) -> tuple[list[Logged], int, Logged]:
    records = list(_told()[2])
    at = next(place for place, record in enumerate(records) if wanted(record))
    return records, at, records[at]


def _is_credit(record: Logged) -> bool:
    event = record.event
    return (
        event.type == "credit"
        and event.kind is EventKind.USAGE
        and 0 < event.scale <= 6
        and event.quantity > 0
        and event.key is None
        and not event.producer
    )


@pytest.mark.parametrize("crime", ["lost", "doubled", "altered", "moved", "later", "phantom"])
def test_the_verdict_notices(crime: str) -> None:
    """One event lost, doubled, altered, moved to another tenant or window, or never sent: red."""
    records, at, victim = _victim(_is_credit)
    event = victim.event
    altered = {
        "lost": [],
        "doubled": [victim, victim._replace(offset=10**9)],
        "altered": [victim._replace(event=event._replace(quantity=event.quantity + 1))],
        "moved": [victim._replace(event=event._replace(tenant=f"{event.tenant}'"))],
        "later": [victim._replace(event=event._replace(time=event.time - HOUR))],
        "phantom": [victim, victim._replace(event=event._replace(quantity=-event.quantity))],
    }[crime]
    records[at : at + 1] = altered

    assert "usage" in _noticed(records)


@pytest.mark.parametrize(
    ("kind", "shift"),
    [(EventKind.SESSION_START, SECOND), (EventKind.SESSION_END, 1), (EventKind.SESSION_END, HOUR)],
)
def test_the_verdict_notices_a_shifted_session(kind: EventKind, shift: int) -> None:
    """A boundary that was told at another moment, be it by a microsecond."""
    closed = [key for key, state in count(*_told()[1:]).states().items() if state == "closed"]
    names = {(key.tenant, key.type, key.session) for key in closed}
    records, _, victim = _victim(
        lambda record: (
            record.event.kind is kind
            and (record.event.tenant, record.event.type, record.event.session) in names
        )
    )
    event = victim.event
    for place, record in enumerate(records):
        same = (record.event.kind, record.event.session, record.event.time)
        if same == (kind, event.session, event.time) and record.event.tenant == event.tenant:
            shifted = record.event._replace(time=event.time + shift)
            records[place] = record._replace(event=shifted)

    assert {"session", "usage"} <= _noticed(records)


def test_the_verdict_notices_what_was_late() -> None:
    """What the log had after the close and the store has as in time, or the reverse."""
    store, text, records = _told()
    ledger = count(text, records).ledger
    late = next(each for each in ledger.contributions if ledger.is_late(each) and each.order[0])
    moved = [
        record._replace(append_time=late.window_start)
        if record.event.time == late.order[0] and record.offset == late.order[3]
        else record
        for record in records
    ]
    # Alone in its partition before everything else, so that its log time is what it says.
    moved.sort(key=lambda record: record.append_time)

    assert count(text, moved).counted == count(text, records).counted
    found = differences(store, text, moved)
    arrivals = {each.key.arrival for each in found if each.what == "usage"}
    assert 0 in arrivals
    assert len(arrivals) > 1


def test_the_verdict_notices_a_lost_void() -> None:
    """A VOID that was not heard."""
    known = {key for key, told in count(*_told()[1:]).keys.items() if told.state == "VOIDED"}
    keys = {key for _, _, key in known}
    records, at, _ = _victim(
        lambda record: record.event.kind is EventKind.VOID and record.event.key in keys
    )
    del records[at]

    assert "key" in _noticed(records)


def _noticed(records: list[Logged]) -> set[str]:
    store, text, _ = _told()
    return {found.what for found in differences(store, text, records)}


def test_the_verdict_notices_a_wrong_answer() -> None:
    """Figures that are answered from another log's rows."""
    store, text, records = _told()
    hours = sorted({record.event.time // HOUR * HOUR for record in records if _is_credit(record)})
    bounds = [hours[0], hours[-1] + HOUR]
    answer = count(text, records)
    assert figure_differences(store, answer, bounds) == []
    records, at, _ = _victim(_is_credit)
    del records[at]

    found = figure_differences(store, count(text, records), bounds)

    assert "figure of credit" in {each.what for each in found}

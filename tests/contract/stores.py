"""What the contract of the stores is tested with: places, advances, rows and sessions."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from meterstream_aggregator.catalogue import HOUR, MINUTE
from meterstream_aggregator.catalogue_file import parse_catalogue
from meterstream_aggregator.changes import (
    CallerKey,
    Changes,
    Item,
    ItemKey,
    KeyState,
    SeriesKey,
    UsageKey,
    usage_deltas,
)
from meterstream_aggregator.sessions import Session, SessionKey, Start
from meterstream_aggregator.store.port import Advance, Claim, Store, StoreReader, TopicBinding
from meterstream_aggregator.subjects import Subject, SubjectKey

if TYPE_CHECKING:
    from collections.abc import Callable

SINCE = 1_767_225_600_000_000
"""2026-01-01T00:00:00Z, when metering begins."""
NOW = SINCE + 100 * HOUR
CATALOGUE = parse_catalogue("""
metering_since: 2026-01-01T00:00:00Z
meters:
  - {name: calls, type: api, aggregate: count, group_by: [route, status], window: 1m}
  - {name: credit, aggregate: sum, window: 30m}
  - {name: mean, type: credit, aggregate: average}
  - {name: credit.least, type: credit, aggregate: min}
  - {name: credit.most, type: credit, aggregate: max, group_by: [route]}
  - {name: last, type: credit, aggregate: latest}
  - {name: users, type: credit, aggregate: unique, value: subject, operation: attributes.op}
  - {name: level, aggregate: time_weighted, group_by: [route], window: 1h}
  - {name: flow, type: level, aggregate: time_weighted, samples: changes, window: 1h}
  - {name: run, aggregate: session, group_by: [route], timeout: 30m}
  - {name: call, aggregate: session, window: 1m}
""")
BINDING = TopicBinding("events", "id-1", 4)
WINDOW = NOW - NOW % HOUR


class Place(NamedTuple):
    """Where a store keeps its content: opened again and again it is the same content."""

    open: Callable[[], Store]
    reader: Callable[[], StoreReader]


def step(claim: Claim, next_offset: int, **counters: int) -> Advance:
    """The advance of a claim to an offset."""
    facts = {"appended": NOW, "counted": 0, "duplicates": 0, "refused": 0} | counters
    first = claim.next_offset or 0
    return Advance(claim.partition, claim.epoch, claim.next_offset, first, next_offset, **facts)


def commit(store: Store, claim: Claim, changes: Changes, **counters: int) -> Claim:
    """Commit changes as one offset of the claim; the claim that goes on there."""
    upto = (claim.next_offset or 0) + 1
    store.commit([step(claim, upto, **counters)], changes)
    return claim._replace(next_offset=upto)


def added(amounts: dict[UsageKey, tuple[int, int]]) -> Changes:
    """Changes of nothing but usage."""
    meters = {key.series.meter for key in amounts}
    return Changes(
        usage=[
            delta
            for name in sorted(meters)
            for delta in usage_deltas(
                CATALOGUE.meter(name),
                {key: row for key, row in amounts.items() if key.series.meter == name},
            )
        ]
    )


def series(meter: str = "credit", **other: object) -> SeriesKey:
    """A series of tenant acme."""
    key = SeriesKey(0, "acme", meter, (), CATALOGUE.meter(meter).version)
    return key._replace(**other)  # type: ignore[arg-type] # any field


def row(
    start: int = WINDOW, *, scale: int = 0, arrival: int = 0, meter: str = "credit", **other: object
) -> UsageKey:
    """The key of a usage row of tenant acme."""
    return UsageKey(series(meter, **other), start, arrival, scale)


def usage(reader: StoreReader, meter: str = "credit") -> dict[tuple[object, ...], tuple[int, int]]:
    """(events, quantity) by (tenant, group, start, arrival, scale); no row twice."""
    found = list(reader.usage(CATALOGUE.meter(meter), tenants=None, start=0, end=2**55))
    rows: dict[tuple[object, ...], tuple[int, int]]
    rows = {(r.tenant, r.group, r.start, r.arrival, r.scale): (r.events, r.quantity) for r in found}
    assert len(rows) == len(found)
    return rows


def sample(
    time: int, *, arrival: int = 0, meter: str = "level", by: Item | None = None, **other: object
) -> tuple[ItemKey, Item]:
    """A sample of a gauge that lies in the window of one hour."""
    start = time - time % HOUR
    key = ItemKey(series(meter, **other), start, arrival, f"{time - start:010d}")
    return key, by if by is not None else Item(time, 0, "", 0, time // MINUTE, 0)


def caller_key(key: str = "k", **other: object) -> CallerKey:
    """A caller's key of tenant acme, counted."""
    known = CallerKey(0, "acme", key, b"a" * 16, NOW, KeyState.COUNTED, NOW)
    return known._replace(**other)  # type: ignore[arg-type] # any field


def keys(*known: CallerKey) -> Changes:
    """Changes of nothing but callers' keys."""
    return Changes(keys={(key.partition, key.tenant, key.key): key for key in known})


def session_key(session: str, **other: object) -> SessionKey:
    """A session of tenant acme."""
    return SessionKey(0, "acme", "run", session)._replace(**other)  # type: ignore[arg-type] # any field


def subject_key(subject: str, **other: object) -> SubjectKey:
    """A subject of tenant acme."""
    return SubjectKey(0, "acme", "run", subject)._replace(**other)  # type: ignore[arg-type] # any field


SESSIONS = [
    Session((Start(NOW, "u1", (("plan", "pro"), ("route", "/é"))),), (), NOW + 5, NOW + 6),
    Session((Start(NOW, "", ()),), (NOW + 9,), NOW + 9, NOW + 9),
    Session((), (NOW + 9,), NOW + 9, NOW + 9),
    Session((), (), NOW, NOW + 1),
    Session((Start(NOW, "", ()), Start(NOW, "u", (("", "\x00"),))), (NOW - 1, NOW + 2), NOW, NOW),
    Session((Start(NOW, "u", ()),), (NOW - 1,), NOW, NOW),
    Session((Start(NOW, "u", ()),), (NOW + 2**60,), NOW, NOW),
    Session((), (NOW, NOW + 9), NOW + 9, NOW + 9),
]
SUBJECTS = [
    Subject(),
    Subject((Start(NOW, "", ()),), (), 0, 0, 0, NOW + 1),
    Subject(
        (Start(NOW, "", ()), Start(NOW, "", (("plan", "pro"), ("route", "\x00é")))),
        (NOW - 5, NOW + 9),
        NOW + 7,
        NOW - 100,
        3,
        NOW + 9,
    ),
]

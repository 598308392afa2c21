"""What the contract of the stores is tested with: places, advances, rows and sessions."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from meterstream_aggregator.catalogue import HOUR, Aggregate
from meterstream_aggregator.changes import (
    Changes,
    SeriesKey,
    UsageKey,
    usage_delta,
)
from meterstream_aggregator.sessions import Session, SessionKey, Start
from meterstream_aggregator.store.port import Advance, Claim, Store, StoreReader, TopicBinding
from tests.unit.aggregator.making import CATALOGUE, NOW

if TYPE_CHECKING:
    from collections.abc import Callable

BINDING = TopicBinding("events", "id-1", 4)
WINDOW = NOW - NOW % HOUR


class Place(NamedTuple):
    """Where a store keeps its content: opened again and again it is the same content."""

    open: Callable[[], Store]
    reader: Callable[[], StoreReader]


def step(claim: Claim, next_offset: int, **counters: int) -> Advance:
    """The advance of a claim to an offset."""
    facts = {"appended": NOW, "counted": 0, "duplicates": 0, "refused": 0} | counters
    return Advance(claim.partition, claim.epoch, claim.next_offset, next_offset, **facts)


def added(
    amounts: dict[UsageKey, tuple[int, int]], aggregate: Aggregate = Aggregate.SUM
) -> Changes:
    """Changes of nothing but one meter's usage."""
    [meter] = {key.series.meter for key in amounts}
    return Changes(usage=[usage_delta(meter, aggregate, CATALOGUE.meter(meter).window, amounts)])


def row(start: int = WINDOW, *, scale: int = 0, meter: str = "credit", **other: object) -> UsageKey:
    """The key of a usage row of tenant acme."""
    series = SeriesKey(0, "acme", meter, ())._replace(**other)  # type: ignore[arg-type] # any field
    return UsageKey(series, start, scale)


def usage(reader: StoreReader, meter: str = "credit") -> dict[tuple[object, ...], tuple[int, int]]:
    """(events, quantity) by (tenant, group, start, scale); no row twice."""
    found = list(reader.usage(CATALOGUE.meter(meter), tenants=None, start=0, end=2**55))
    rows: dict[tuple[object, ...], tuple[int, int]]
    rows = {(r.tenant, r.group, r.start, r.scale): (r.events, r.quantity) for r in found}
    assert len(rows) == len(found)
    return rows


def session_key(session: str, **other: object) -> SessionKey:
    """A session of tenant acme."""
    return SessionKey(0, "acme", "run", session)._replace(**other)  # type: ignore[arg-type] # any field


SESSIONS = [
    Session((Start(NOW, "u1", (("plan", "pro"), ("route", "/é"))),), (), NOW + 5, NOW + 6),
    Session((Start(NOW, "", ()),), (NOW + 9,), NOW + 9, NOW + 9),
    Session((), (NOW + 9,), NOW + 9, NOW + 9),
    Session((), (), NOW, NOW + 1),
    Session((Start(NOW, "", ()), Start(NOW, "u", (("", "\x00"),))), (NOW - 1, NOW + 2), NOW, NOW),
    Session((Start(NOW, "u", ()),), (NOW - 1,), NOW, NOW),
]

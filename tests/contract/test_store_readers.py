"""The store's reading side, over every implementation: what is asked, all of it, in order."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from meterstream_aggregator.catalogue import HOUR, MINUTE
from meterstream_aggregator.changes import (
    Changes,
    DeadLetter,
)
from meterstream_aggregator.dedup import Numbers, ProducerKey
from meterstream_aggregator.errors import StoreUnavailable
from meterstream_aggregator.refusals import Reason, Refusal
from meterstream_aggregator.sessions import Session, SessionKey, Start
from tests.contract.stores import SESSIONS, WINDOW, Place, added, row, session_key, step
from tests.unit.aggregator.making import CATALOGUE, NOW

if TYPE_CHECKING:
    from meterstream_aggregator.store.port import Store


def test_usage_is_asked_by_tenant_and_time(place: Place, store: Store) -> None:
    """Windows that begin in [from, to), of some tenants, of all, or of none."""
    starts = [WINDOW + n * 30 * MINUTE for n in range(100)]
    rows = {row(start, tenant=f"t{n % 3}"): (1, n) for n, start in enumerate(starts)}
    store.commit([step(store.claim(0, "a"), 1)], added(rows))
    reader, meter = place.reader(), CATALOGUE.meter("credit")

    def asked(tenants: list[str] | None, start: int, end: int) -> list[int]:
        found = reader.usage(meter, tenants=tenants, start=start, end=end)
        return sorted(r.quantity for r in found)

    assert asked(None, starts[10], starts[20]) == list(range(10, 20))
    assert asked(None, starts[10] + 1, starts[20] + 1) == list(range(11, 21))
    assert asked(["t1"], 0, 2**55) == list(range(1, 100, 3))
    assert asked(["t1", "t2", "t1", "nobody"], starts[50], starts[53]) == [50, 52]
    assert asked([f"t{n}" for n in range(2000)] * 2, starts[98], 2**62) == [98, 99]
    assert asked([], 0, 2**55) == []
    assert asked(None, starts[5], starts[5]) == []
    assert asked(["t1"], starts[5], starts[4]) == []
    assert asked(["t0"], 0, starts[0]) == []


def test_producers_are_told_with_their_losses(place: Place, store: Store) -> None:
    """One row per producer and partition; one producer, or all in order."""
    lossy, other = Numbers(last_append=NOW), Numbers(closed=True)
    lossy.take(0, 1)
    lossy.take(0, 4)
    for partition in (1, 0):
        changes = Changes(
            numbers={ProducerKey(partition, "p"): lossy, ProducerKey(partition, "b"): other}
        )
        store.commit([step(store.claim(partition, "a"), 1)], changes)
    reader = place.reader()

    assert [(r.producer, r.partition) for r in reader.producers()] == [
        ("b", 0), ("b", 1), ("p", 0), ("p", 1),
    ]  # fmt: skip
    assert reader.producers("p")[0] == ("p", 0, 2, 0, 0, 0, ((0, 2, 3),), NOW, False)
    assert reader.producers("b")[1].closed
    assert reader.producers("x") == []


def _with_sessions(store: Store) -> None:
    """Sessions of two tenants, one hour apart, and one of each state for acme."""
    sessions: dict[SessionKey, tuple[Session, int | None]] = {}
    for n in range(6):
        at = NOW + n * HOUR
        start = Start(at, "u", (("route", "/"),))
        sessions[session_key(f"b{n}", tenant="b")] = (
            Session((start,), (at + 60,), at + 60, at),
            None,
        )
    late = NOW + 30 * HOUR
    open_one = Session((Start(late, "", ()),), (), late, late)
    sessions[session_key("open")] = (open_one, None)
    sessions[session_key("quiet")] = (SESSIONS[0], None)
    sessions[session_key("unstarted")] = (SESSIONS[2], None)
    sessions[session_key("closed", type="call")] = (SESSIONS[1], None)
    store.commit([step(store.claim(0, "a"), 1, appended=late)], Changes(sessions=sessions))


def test_sessions_are_told_with_their_state(place: Place, store: Store) -> None:
    """Open, closed, timed out and unstarted, as of the partition's append time."""
    _with_sessions(store)
    reader = place.reader()

    states = {row.session: row.state for row in reader.sessions(tenants=["acme"])}

    assert states == {
        "open": "open", "quiet": "timed_out", "unstarted": "unstarted", "closed": "closed",
    }  # fmt: skip
    [quiet] = reader.sessions(state="timed_out")
    assert quiet == (
        0, "acme", "run", "quiet", "u1", {"plan": "pro", "route": "/é"}, NOW, None, NOW + 5,
        NOW + 6, "timed_out", 0,
    )  # fmt: skip
    assert [row.session for row in reader.sessions(type="call")] == ["closed"]
    assert reader.sessions(tenants=[]) == []
    assert reader.sessions(tenants=["nobody"]) == []


def test_sessions_of_a_time_are_those_that_overlap_it(place: Place, store: Store) -> None:
    """Sessions that ran in [from, to); an open one runs on."""
    _with_sessions(store)
    reader = place.reader()

    def names(start: int | None = None, end: int | None = None) -> list[str]:
        return [row.session for row in reader.sessions(tenants=["b"], start=start, end=end)]

    assert names(start=NOW + 2 * HOUR, end=NOW + 4 * HOUR) == ["b2", "b3"]
    assert names(start=NOW + 2 * HOUR + 60) == ["b2", "b3", "b4", "b5"]
    assert names(start=NOW + 2 * HOUR + 61) == ["b3", "b4", "b5"]
    assert names(end=NOW + HOUR) == ["b0"]
    later = reader.sessions(tenants=["acme"], start=NOW + 100 * HOUR)
    assert [row.session for row in later] == ["open"]


@pytest.mark.parametrize("limit", [1, 3, 10, 100])
def test_sessions_come_in_pages(place: Place, store: Store, limit: int) -> None:
    """Page after page, from the last seen on, is everything once and in order."""
    _with_sessions(store)
    reader = place.reader()
    pages, after = [reader.sessions(limit=limit)], ""
    while len(pages[-1]) == limit:
        last = pages[-1][-1]
        after = f"{last.tenant}\x1f{last.type}\x1f{last.session}"
        pages.append(reader.sessions(limit=limit, after=after))

    assert [row for page in pages for row in page] == reader.sessions()
    assert len(reader.sessions()) == 10


def _letter(offset: int, *, producer: str = "", reason: Reason = Reason.UNDECODABLE) -> DeadLetter:
    known = "t\x00" if producer else None
    why = Refusal(reason, f"sentence {offset}")
    return DeadLetter(0, offset, NOW + offset // 2, why, known, known, producer, -1, -(2**63))


def test_dead_letters_are_found_by_who_and_why(place: Place, store: Store) -> None:
    """Newest first, by producer, by reason, by both, and never more than asked for."""
    letters = [
        _letter(1), _letter(2, producer="p"), _letter(3, producer="p", reason=Reason.INVALID_TIME),
        _letter(4, producer="q", reason=Reason.INVALID_TIME),
    ]  # fmt: skip
    store.commit([step(store.claim(0, "a"), 5)], Changes(dead_letters=letters))
    reader = place.reader()

    def offsets(**asked: str | int) -> list[int]:
        return [row.offset for row in reader.dead_letters(**asked)]  # type: ignore[arg-type] # any filter

    assert offsets() == [4, 3, 2, 1]
    assert offsets(producer="p") == [3, 2]
    assert offsets(reason="invalid_time") == [4, 3]
    assert offsets(producer="p", reason="invalid_time") == [3]
    assert offsets(reason="too_large") == []
    assert offsets(limit=2) == [4, 3]
    assert reader.dead_letters(producer="q") == [
        (0, 4, "invalid_time", "sentence 4", "t\x00", "t\x00", "q", -1, -(2**63), NOW + 2)
    ]
    assert reader.dead_letters()[-1].tenant is None


def test_an_unbound_store_says_so(place: Place) -> None:
    """Before any worker there is no catalogue to answer with."""
    place.open()
    reader = place.reader()

    assert reader.topic() is None
    with pytest.raises(StoreUnavailable, match="no worker has bound this store yet; start one"):
        reader.catalogue()
    assert [reader.positions(), reader.producers(), reader.tenants()] == [[], [], []]

"""The store's reading side, over every implementation: what is asked, all of it, in order."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from meterstream_aggregator.catalogue import MINUTE
from meterstream_aggregator.changes import Changes, DeadLetter
from meterstream_aggregator.dedup import Numbers, ProducerKey
from meterstream_aggregator.errors import StoreUnavailable
from meterstream_aggregator.refusals import Reason, Refusal
from meterstream_aggregator.store.told import DeadLettersWanted
from tests.contract.stores import CATALOGUE, NOW, WINDOW, Place, added, row, step

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
    lossy.take(0, 1, NOW)
    lossy.take(0, 4, NOW + 3)
    for partition in (1, 0):
        changes = Changes(
            numbers={ProducerKey(partition, "p"): lossy, ProducerKey(partition, "b"): other}
        )
        store.commit([step(store.claim(partition, "a"), 1)], changes)
    reader = place.reader()

    assert [(r.producer, r.partition) for r in reader.producers()] == [
        ("b", 0), ("b", 1), ("p", 0), ("p", 1),
    ]  # fmt: skip
    assert reader.producers("p")[0] == (
        "p", 0, 2, 0, 0, 0, ((0, 2, 3, NOW + 3),), ((0, 4),), NOW, False,
    )  # fmt: skip
    assert reader.producers("b")[1].closed
    assert reader.producers("x") == []
    assert reader.producers("p", partition=1) == reader.producers("p")[1:]
    assert reader.producers("p", partition=2) == []
    assert reader.producers("p", partition=0, lane=0) == reader.producers("p")[:1]
    [of_another] = reader.producers("p", partition=0, lane=1)
    assert (of_another.lanes, of_another.missing, of_another.seen) == ((), (), 2)


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

    def offsets(*, limit: int = 10, **asked: str | int) -> list[int]:
        wanted = DeadLettersWanted(**asked)  # type: ignore[arg-type] # any filter
        return [row.offset for row in reader.dead_letters(wanted, limit=limit)]

    assert offsets() == [4, 3, 2, 1]
    assert offsets(producer="p") == [3, 2]
    assert offsets(reason="invalid_time") == [4, 3]
    assert offsets(producer="p", reason="invalid_time") == [3]
    assert offsets(reason="too_large") == []
    assert offsets(tenant="t\x00", type="t\x00", partition=0) == [4, 3, 2]
    assert offsets(partition=1) == []
    assert offsets(since=NOW + 1, until=NOW + 2) == [3, 2]
    assert offsets(limit=2) == [4, 3]
    assert reader.dead_letters(DeadLettersWanted("q")) == [
        (0, 4, "invalid_time", "sentence 4", "t\x00", "t\x00", "q", -1, -(2**63), NOW + 2)
    ]
    assert reader.dead_letters()[-1].tenant is None


def test_dead_letters_are_gone_through_by_place(place: Place, store: Store) -> None:
    """From behind one place on, rising, whenever they were appended."""
    letters = [_letter(n)._replace(append_time=NOW - n) for n in range(1, 5)]
    letters.append(_letter(2)._replace(partition=1))
    store.commit([step(store.claim(0, "a"), 5)], Changes(dead_letters=letters))
    reader = place.reader()

    def places(after: tuple[int, int], limit: int = 10) -> list[tuple[int, int]]:
        return [row[:2] for row in reader.dead_letters(after=after, limit=limit)]

    assert places((-1, -1)) == [(0, 1), (0, 2), (0, 3), (0, 4), (1, 2)]
    assert places((0, 3)) == [(0, 4), (1, 2)]
    assert places((0, 1), limit=2) == [(0, 2), (0, 3)]
    assert store.refused_offsets(0, 2) == [2, 3, 4]
    assert store.refused_offsets(1, 3) == []


def test_an_unbound_store_says_so(place: Place) -> None:
    """Before any worker there is no catalogue to answer with."""
    place.open()
    reader = place.reader()

    assert reader.topic() is None
    with pytest.raises(StoreUnavailable, match="no worker has bound this store yet; start one"):
        reader.catalogue()
    assert [reader.positions(), reader.producers(), reader.tenants()] == [[], [], []]
